"""Vectorised JaxEnvs: as pure functions, and as a numpy VectorEnv.

Fused execution scans over `autostep` and `JaxVectorEnv` jits it, so that both give the same
numbers.
"""

import copy
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from jax.custom_batching import custom_vmap

from parl.core.checkpoint import fitted, named_leaves, to_numpy
from parl.core.errors import CheckpointError, EnvError, told
from parl.core.finite import check_answer, find_not_finite
from parl.core.programs import shared
from parl.core.spec import Box, EnvSpec
from parl.core.types import Array
from parl.envs.protocol import EnvState, JaxEnv, Transition


class VectorState(struct.PyTreeNode):
    """B environments within their episodes, and the key of all later steps."""

    env: Any  # [B, ...] states of the environments
    obs: Any  # [B, *O] observations to act on next
    key: Array  # [] typed PRNG key, never changed: steps fold their time into it
    time: Array  # [] int32, steps taken by this vector
    parameters: Any = ()  # [] each, by name: changed attributes of the environments


def reset(env: JaxEnv, key: Array, num_envs: int) -> VectorState:
    """The start of an episode in each of `num_envs` environments."""
    k_reset, k_steps = jax.random.split(key)
    state, obs = jax.vmap(env.reset)(jax.random.split(k_reset, num_envs))
    return VectorState(env=state, obs=obs, key=k_steps, time=jnp.int32(0))


def restart(env: JaxEnv, vector: VectorState) -> VectorState:
    """New episodes in all environments; time continues."""
    num_envs = jax.tree.leaves(vector.obs)[0].shape[0]
    key = jax.random.fold_in(vector.key, vector.time)
    fresh = reset(with_parameters(env, vector.parameters), key, num_envs)
    return fresh.replace(time=vector.time, parameters=vector.parameters)


def with_parameters(env: JaxEnv, parameters: Any) -> Any:
    """The environment with some attributes replaced, also inside wrappers."""
    if not parameters:
        return env
    copied: Any = copy.copy(env)
    inner = {name: value for name, value in parameters.items() if not hasattr(env, name)}
    if inner:
        object.__setattr__(copied, "env", with_parameters(copied.env, inner))
    for name in parameters.keys() - inner.keys():  # a dataclass may be frozen
        object.__setattr__(copied, name, parameters[name])
    return copied


def changed(
    env: JaxEnv, vector: VectorState, parameters: Mapping[str, Any], lead: tuple[int, ...] = ()
) -> VectorState:
    """The vector with these parameters for all its environments, and for all seeds [*lead].

    Raises EnvError as `checked_parameters` does.
    """
    numbers = checked_parameters(env, parameters)
    return vector.replace(parameters={n: jnp.broadcast_to(x, lead) for n, x in numbers.items()})


def checked_parameters(env: JaxEnv, parameters: Mapping[str, Any]) -> dict[str, Array]:
    """The parameters [] as arrays of the attributes' types.

    Raises EnvError for an unknown attribute or one that must be known at compile time.
    """
    numbers = {}
    for name, value in parameters.items():
        like = attribute(env, name)
        if not isinstance(like, bool | int | float) or isinstance(value, str):
            raise EnvError(
                f"{env.spec.id} has no number '{name}', which {value!r:.40} could be; it has "
                f"{', '.join(numbers_of(env)) or 'none'}."
            )
        numbers[name] = jnp.asarray(value, jnp.result_type(type(like)))

    def steps(numbers: Any, key: Array) -> Any:
        live = with_parameters(env, numbers)
        return live.step(live.reset(key)[0], jax.tree.map(lambda x: x[0], env.spec.action), key)

    try:
        jax.eval_shape(steps, numbers, jax.random.key(0))
    except Exception as error:
        raise EnvError(
            f"{env.spec.id} cannot change {', '.join(numbers)} as data: {told(error)}"
        ) from error
    return numbers


def numbers_of(env: Any) -> list[str]:
    """The names of an environment's numbers, also inside wrappers."""
    own = [name for name, x in vars(env).items() if type(x) in (int, float)]
    return own + (numbers_of(env.env) if hasattr(env, "env") else [])


def attribute(env: Any, name: str) -> Any:
    """The value of an attribute, also inside wrappers; None if it does not exist."""
    if hasattr(env, name):
        return getattr(env, name)
    return attribute(env.env, name) if hasattr(env, "env") else None


def step(env: JaxEnv, state: Any, action: Any, keys: Array) -> tuple[Any, Any, Array, Array, Array]:
    """One step of every environment [B], without resets: what `env.step` returns, [B, ...]."""
    return jax.vmap(env.step)(state, within_bounds(env.spec, action), keys)


def within_bounds(spec: EnvSpec, action: Any) -> Any:
    """Box actions clipped to [-1, 1]; policies may sample beyond it."""
    return jnp.clip(action, -1.0, 1.0) if isinstance(spec.action_space, Box) else action


def autostep(env: JaxEnv, vector: VectorState, action: Any) -> tuple[VectorState, Transition]:
    """One step of every environment with actions [B, ...]; ended episodes restart within it."""

    def child_keys(child: int) -> Array:  # [B]
        key = jax.random.fold_in(vector.key, vector.time)
        return jax.random.split(key, (2, num_envs))[child]

    def restart_ended() -> tuple[Any, Any]:
        return select(ended, jax.vmap(live.reset)(child_keys(1)), (state, next_obs))

    num_envs = jax.tree.leaves(vector.obs)[0].shape[0]
    live = with_parameters(env, vector.parameters)
    action = within_bounds(env.spec, action)
    new = jax.vmap(live.step)(vector.env, action, child_keys(0))
    state, next_obs, reward, terminated, truncated = new
    ended = terminated | truncated
    # Most steps end no episode, and drawing keys and resets would cost five times the step itself.
    env_state, obs = lax.cond(anywhere(ended), restart_ended, lambda: (state, next_obs))
    following = vector.replace(env=env_state, obs=obs, time=vector.time + 1)
    return following, Transition(obs, reward, terminated, truncated, next_obs)


@custom_vmap
def anywhere(flags: Array) -> Array:
    """Whether any flag is set in any seed; under vmap it remains one unbatched answer.

    A `cond` on it therefore remains a branch, whereas one on `flags.any()` computes both sides.
    """
    return flags.any()


@anywhere.def_vmap
def anywhere_of_all(size: int, batched: Any, flags: Array) -> tuple[Array, bool]:
    """One answer, without an axis of seeds."""
    return anywhere(flags), False


def select(mask: Array, new: Any, old: Any) -> Any:
    """`new` where mask [B], else `old`: two pytrees with leaves [B, ...]."""

    def pick(new: Array, old: Array) -> Array:
        return jnp.where(mask.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return jax.tree.map(pick, new, old)


@shared
def programs(env: JaxEnv, num_envs: int) -> tuple[Any, Any, Any]:
    """`reset`, `restart` and `autostep`, compiled at their first calls."""
    functions = (
        partial(reset, env, num_envs=num_envs),
        partial(restart, env),
        partial(autostep, env),
    )
    start, again, step = map(jax.jit, functions)
    return start, again, step


class JaxVectorEnv:
    """B copies of a JaxEnv behind the numpy VectorEnv protocol.

    The first `reset` starts from jax.random.key(seed); later ones draw fresh episodes.
    """

    infos = ()  # JAX environments have no infos

    def __init__(self, env: JaxEnv, num_envs: int, seed: int) -> None:
        self._env = env
        self.spec: EnvSpec = env.spec
        self.num_envs = num_envs
        self._action = env.spec.action
        self._key = jax.random.key(seed)
        self._vector: VectorState | None = None
        self._reset, self._restart, self._autostep = programs(env, num_envs)

    def reset(self) -> Any:
        """obs [B, *O] at the start of an episode in every environment."""
        old = self._vector
        self._vector = vector = self._reset(self._key) if old is None else self._restart(old)
        return writable(vector.obs)

    def step(self, action: Any) -> Transition:
        """Steps all environments with actions [B, ...]; returned arrays are never overwritten."""
        vector = self._started()
        action = jax.tree.map(lambda like, x: np.asarray(x, like.dtype), self._action, action)
        if any(np.shape(x)[:1] != (self.num_envs,) for x in jax.tree.leaves(action)):
            raise EnvError(
                f"{self.spec.id} steps {self.num_envs} environments at once: "
                f"its actions need a first axis of {self.num_envs}."
            )
        self._vector, transition = self._autostep(vector, action)
        answer = writable(transition)
        # NaN after a NaN action is not the environment's fault
        if find_not_finite(action) is None:
            for tree, what in ((answer.reward, "reward"), (answer.next_obs, "observation")):
                check_answer(tree, what, self.spec.id, int(vector.time) + 1)
        return answer

    def get_state(self) -> EnvState:
        """Everything that later steps depend on, as numpy arrays by path."""
        leaves = named_leaves(self._started())
        arrays = {name: to_numpy(leaf) for name, leaf in leaves.items()}
        return EnvState(arrays=arrays, meta={"env": self.spec.id}, exact=True)

    def set_state(self, state: EnvState) -> Any:
        """Continues bit for bit from `state`; returns obs [B, *O]."""
        like = self._reset(self._key) if self._vector is None else self._vector
        prefix = "parameters/"
        own = {n.removeprefix(prefix): x for n, x in state.arrays.items() if n.startswith(prefix)}
        like = changed(self._env, like, own) if own else like.replace(parameters=())
        wanted = named_leaves(like)
        if state.meta.get("env") != self.spec.id:
            raise CheckpointError(
                f"The saved environment is {state.meta.get('env')}, not {self.spec.id}."
            )
        for name in sorted(wanted.keys() ^ state.arrays.keys()):
            fault = "lacks" if name in wanted else "has the unknown"
            raise CheckpointError(f"The saved state of {self.spec.id} {fault} array {name!r}.")
        place = f"the saved state of {self.spec.id}"
        arrays = {name: np.asarray(x) for name, x in state.arrays.items()}
        leaves = [fitted(place, name, arrays[name], leaf) for name, leaf in wanted.items()]
        self._vector = vector = jax.tree.unflatten(jax.tree.structure(like), leaves)
        return writable(vector.obs)

    def change(self, parameters: Mapping[str, Any]) -> None:
        """Continues with these parameters, as data of the same compiled programs."""
        self._vector = changed(self._env, self._started(), parameters)

    def close(self) -> None:
        """Nothing to release."""

    def _started(self) -> VectorState:
        if self._vector is None:
            raise EnvError(f"{self.spec.id} has not started: call reset() first.")
        return self._vector


def writable(tree: Any) -> Any:
    """Copies of the leaves that the caller owns and may write to."""
    return jax.tree.map(np.array, tree)
