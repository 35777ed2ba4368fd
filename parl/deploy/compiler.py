"""From an algorithm's `act` to the programs of a policy.

The policy's numbers are constants; what the action does not need is gone, memory and inputs too.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from parl.core.actions import ActionMap
from parl.core.algorithm import Algorithm
from parl.core.errors import ParlError
from parl.core.spec import EnvSpec
from parl.deploy.avals import dtype_of, shape_of
from parl.deploy.builder import Builder, UnsupportedOperation, check_known
from parl.deploy.names import ACTION, ENV_ACTION, KEY, MEMORY, NOISE, OBS
from parl.deploy.program import Operation, Program
from parl.deploy.shapes import Port
from parl.deploy.trace import Tracer
from parl.envs.native import own_map
from parl.models.cnn import plain_convolutions


class Compiled(NamedTuple):
    """A policy that acts greedily, or one that samples and the noise that it needs."""

    program: Program  # obs.*, memory.*, noise.* -> action, env_action, memory.*
    noise: Program | None = None  # key -> noise.*


class EnvAction(NamedTuple):
    """How the environment takes an action: that of all agents alike, or of the one in a row."""

    map: ActionMap
    row: int | None = None

    def __call__(self, action: Any) -> np.ndarray:
        """What the environment takes, of actions [B, ...] or [B, N, ...] of networks."""
        action = np.asarray(action) if self.row is None else np.asarray(action)[:, self.row]
        inner = 0 if self.map.choices and not self.map.shape else 1
        lead = action.shape[: action.ndim - inner]
        flat = action.reshape(-1, *action.shape[len(lead) :])
        flat = flat[:, : self.map.scale.size] if inner else flat
        return self.map(flat).reshape(*lead, *self.map.shape)


class Acting(NamedTuple):
    """`act` as a function of flat lists of arrays, and how its inputs are called."""

    call: Callable[..., list[Any]]  # (*observations, *memory, key data [2]) -> [action, *memory]
    obs: dict[str, Any]  # examples [1, ...] by name
    memory: dict[str, np.ndarray]  # as at the start of an episode [1, ...], by name


def acting(algorithm: Algorithm, policy: Any, spec: EnvSpec, explore: bool) -> Acting:
    """`act` with the policy's numbers in it; where it searches, its network acts alone."""
    algorithm = algorithm.network or algorithm
    policy = jax.device_get(policy)
    obs, memory = spec.obs, jax.device_get(algorithm.memory((1,)))
    tree, inner = jax.tree.structure(obs), jax.tree.structure(memory)
    examples = dict(zip(names_of(obs), jax.tree.leaves(obs), strict=True))
    start = {f"{MEMORY}.{i}": np.asarray(x) for i, x in enumerate(jax.tree.leaves(memory))}
    count = len(examples)

    def call(*leaves: Any) -> list[Any]:
        key, leaves = leaves[-1], leaves[:-1]
        seen, remembered = tree.unflatten(leaves[:count]), inner.unflatten(leaves[count:])
        key = jax.random.wrap_key_data(key, impl="threefry2x32")
        with plain_convolutions():
            action, remembered, _ = algorithm.act(policy, seen, remembered, key, explore)
        return [action, *jax.tree.leaves(remembered)]

    return Acting(call, examples, start)


def names_of(obs: Any) -> list[str]:
    """A name for each array of an observation: 'obs', or 'obs.' and its path."""
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(obs)[0]]
    return [".".join([OBS, *(str(part.key) for part in path)]) for path in paths]


def of_one_agent(whole: Acting, spec: EnvSpec, index: int) -> Acting:
    """The same for one agent alone, [B, ...] in place of [B, N, ...]: it sees the others as absent.

    An agent of a team that does not look at the others acts as it does among them.
    """
    own = np.arange(spec.num_agents or 1) == index  # [N]
    kept = {n: x[:, index] for n, x in whole.obs.items() if n in (f"{OBS}.view", f"{OBS}.legal")}

    def call(*leaves: Any) -> list[Any]:
        given = dict(zip(kept, leaves, strict=False))
        batch = leaves[0].shape[0]

        def widened(name: str, example: Any) -> Any:
            here = own.reshape(-1, *[1] * (example.ndim - 2))
            if name in given:
                nothing = (
                    only_first(example)
                    if name == f"{OBS}.legal"
                    else jnp.zeros_like(given[name])[:, None]
                )
                return jnp.where(here, given[name][:, None], nothing)
            value = own if name in (f"{OBS}.alive", f"{OBS}.turn") else np.zeros_like(example[0])
            return jnp.broadcast_to(value, (batch, *example.shape[1:]))

        obs = [widened(name, example) for name, example in whole.obs.items()]
        action, *memory = whole.call(*obs, *leaves[len(kept) :])
        return [action[:, index], *memory]

    return Acting(call, kept, whole.memory)


def only_first(legal: Any) -> np.ndarray:
    """The mask [N, A] of agents that are absent."""
    return np.broadcast_to(np.arange(legal.shape[-1]) == 0, legal.shape[1:])


def compiled(whole: Acting, maps: dict[str, EnvAction]) -> Compiled:
    """The programs of an `act`. `maps` lead from the action to those of the environment, by name.

    Raises UnsupportedOperation for what cannot be a program.
    """
    program = trace(whole, maps)
    needed = [ACTION, *maps]
    while True:  # an action needs memory, which may need more of it
        inputs = {port.name for port in program.pruned(needed).inputs}
        more = [name for name in whole.memory if name in inputs and name not in needed]
        if not more:
            break
        needed += more
    program = program.pruned(needed)
    check_known(program)
    if KEY not in {port.name for port in program.inputs}:
        return Compiled(program)
    return parted(program)


def trace(whole: Acting, maps: dict[str, EnvAction]) -> Program:
    """All that `act` gives, of all that it is given."""
    (batch,) = jax.export.symbolic_shape("b")
    given = whole.obs | whole.memory
    shapes = [jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype) for x in given.values()]
    try:
        closed = jax.make_jaxpr(whole.call)(*shapes, jax.ShapeDtypeStruct((2,), np.uint32))
    except ParlError:
        raise
    except Exception as error:
        line = (str(error).strip().splitlines() or [""])[0]
        raise UnsupportedOperation(
            "this policy cannot be traced for batches of any size, so it is not exported: "
            f"{type(error).__name__}: {line[:200]}"
        ) from error
    builder = Builder()
    avals = dict(zip([*given, KEY], closed.in_avals, strict=True))
    inputs = [builder.input(name, shape_of(x), dtype_of(x)) for name, x in avals.items()]
    results = Tracer(builder).run(closed.jaxpr, closed.consts, inputs)
    outputs = dict(zip([ACTION, *whole.memory], results, strict=True))
    for name, action_map in maps.items():
        outputs[name] = environment_action(builder, outputs[ACTION], action_map)
    return Program(
        tuple(builder.inputs), builder.constants, tuple(builder.operations.values()), outputs
    )


def parted(program: Program) -> Compiled:
    """A sampling program as one that is given noise, and one that makes the noise of a key."""
    of_key, noise = {KEY}, {}
    constants, mixed = set(program.constants), []
    for operation in program.operations:
        asked = set(operation.inputs)
        if asked & of_key and asked <= of_key | constants:
            of_key.add(operation.output.name)
        else:
            mixed.append(operation)
    wanted = [x for o in mixed for x in o.inputs] + list(program.outputs.values())
    ports = program.ports
    for name in wanted:
        if name in of_key and name not in noise:
            noise[name] = Port(f"{NOISE}.{len(noise)}", *ports[name][1:])
    renamed = lambda name: noise[name].name if name in noise else name
    operations = tuple(
        Operation(o.kind, tuple(map(renamed, o.inputs)), o.attributes, o.output) for o in mixed
    )
    inputs = (*(port for port in program.inputs if port.name != KEY), *noise.values())
    outputs = {name: renamed(value) for name, value in program.outputs.items()}
    main = Program(inputs, program.constants, operations, outputs).pruned()
    makes = {port.name: name for name, port in noise.items()}
    return Compiled(main, program._replace(outputs=makes).pruned())


# --- actions of the environment ---------------------------------------------------------------


def action_maps(spec: EnvSpec, agent: str | None = None) -> dict[str, EnvAction]:
    """The maps to the environment's actions, by the names of the outputs.

    One, `env_action`, or where agents have different ones `env_action.NAME` each.
    """
    if spec.native is None or "agents" not in spec.native:
        return {ENV_ACTION: EnvAction(spec.action_map or own_map(spec.action_space))}
    from parl.envs.adapters.gymnasium_json import space_of  # only now: it loads Gymnasium
    from parl.envs.adapters.gymnasium_spaces import convert_actions

    members = spec.native["agents"]
    maps = [convert_actions(space_of(one["action"]))[1] for one in members]
    if agent is not None:
        return {ENV_ACTION: EnvAction(maps[[str(one["name"]) for one in members].index(agent)])}
    if all(each.to_json() == maps[0].to_json() for each in maps):
        return {ENV_ACTION: EnvAction(maps[0])}
    names = [f"{ENV_ACTION}.{one['name']}" for one in members]
    return {
        name: EnvAction(each, i) for i, (name, each) in enumerate(zip(names, maps, strict=True))
    }


def environment_action(builder: Builder, action: str, of: EnvAction) -> str:
    """The action [B, A] or [B], or [B, N, A] or [B, N], as the environment takes it."""
    add, constant, ports, action_map = builder.add, builder.constant, builder.ports, of.map
    if of.row is not None:
        shape = ports[action].shape
        action = add("slice", action, axis=1, start=of.row, limit=of.row + 1, step=1)
        action = add("reshape", action, shape=(shape[0], *shape[2:]))
    lead = ports[action].shape
    if not (action_map.choices and not action_map.shape):
        lead = lead[:-1]
    size, dtype = action_map.scale.size, action_map.scale.dtype.name
    if len(ports[action].shape) > len(lead) and ports[action].shape[-1] != size:  # padding
        action = add("slice", action, axis=len(lead), start=0, limit=size, step=1)
    x = add("convert", action, dtype=dtype)

    def bounded(x: str, low: np.ndarray, high: np.ndarray) -> str:
        x = add("max", x, constant(low)) if np.isfinite(low).any() else x
        return add("min", x, constant(high)) if np.isfinite(high).any() else x

    if action_map.choices:
        offset = action_map.offset if action_map.shape else action_map.offset[0]
        x = add("add", x, constant(offset)) if action_map.offset.any() else x
    else:
        x = inside = bounded(x, *action_map.reach)
        x = add("mul", x, constant(action_map.scale)) if (action_map.scale != 1).any() else x
        x = add("add", x, constant(action_map.offset)) if action_map.offset.any() else x
        if x != inside or action_map.dtype != dtype:
            x = bounded(x, *action_map.limits)
        x = add("round", x) if action_map.rounds else x
    x = add("convert", x, dtype=action_map.dtype)
    return add("reshape", x, shape=(*lead, *action_map.shape))
