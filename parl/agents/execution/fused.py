"""Fused execution: environment, acting, replay and learning in one compiled program.

Shapes: T rollout length, B environments, K seeds (an axis in front of everything, by vmap).
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh

from parl import ops
from parl.agents.execution.ended import Ended, both, ended, nothing, total, unscaled
from parl.agents.execution.protocol import (
    Devices,
    Discarded,
    Report,
    Seeds,
    Snapshot,
    act,
    batch_mesh,
    finite_sums,
    init_learner,
    mean_of,
    no_legal_action,
    policy_program,
    updates_of,
    warmup_iterations,
)
from parl.agents.learner import (
    Learner,
    LearnerState,
    OffPolicy,
    lacks_replay,
    ring_of,
    seed_axes,
    with_rows,
    without_rows,
)
from parl.core.algorithm import Algorithm
from parl.core.checkpoint import Checkpoint, with_default
from parl.core.errors import ConfigError, EnvError
from parl.core.programs import as_data, shared
from parl.core.seeding import RunKeys, env_seed
from parl.core.sharding import apart, batches_over, mesh_for, split, whole
from parl.core.types import Array, Metrics, Rollout, Step
from parl.envs import jax_vector
from parl.envs.protocol import JaxEnv


class ActorState(struct.PyTreeNode):
    """The collecting side of a run."""

    vector: jax_vector.VectorState  # [B, ...]
    first: Array  # [B] bool, the next step opens an episode
    memory: Any  # [B, ...]
    returns: Array  # [B] sum of rewards of the episode so far, and over agents
    lengths: Array  # [B] int32, steps of the episode so far


class RunState(struct.PyTreeNode):
    """The complete state of a run, which a checkpoint saves."""

    learner: LearnerState
    actor: ActorState
    keys: RunKeys
    iteration: Array  # [] int32, rollouts collected


class Tally(NamedTuple):
    """Sums over the iterations of one program call."""

    metrics: Metrics  # [] each, of those that are finite: a skipped update says nothing
    counted: dict[str, Array]  # [] int32 each, of how many
    ended: Ended  # [] each, the episodes that ended; `return_sum` is scaled
    broken: Array  # [] int32, iterations in which the environment gave NaN or infinity
    no_legal_action: Array  # [] int32, iterations in which it left an agent no legal action


def collect(
    env: JaxEnv,
    algorithm: Algorithm,
    policy: Any,
    actor: ActorState,
    key: Array,
    length: int,
    random: bool = False,
) -> tuple[ActorState, Rollout, Tally]:
    """Steps all environments `length` times; `random` replaces the actions, for warm-up."""
    if algorithm.episodic:
        actor = restart(env, actor)

    def step(actor: ActorState, _: None) -> tuple[ActorState, tuple[Step, Array, Array]]:
        obs, k_act = actor.vector.obs, jax.random.fold_in(key, actor.vector.time)
        action, memory, extras = act(
            algorithm, env.spec, policy, obs, actor.first, actor.memory, k_act, random
        )
        vector, new = jax_vector.autostep(env, actor.vector, action)
        last, discount = new.terminated | new.truncated, 1.0 - new.terminated
        record = Step(obs, action, new.reward, discount, new.next_obs, actor.first, last, extras)
        returns = actor.returns + ops.over_agents(new.reward, last)
        lengths = actor.lengths + 1
        going = jnp.where(last, 0.0, returns), jnp.where(last, 0, lengths)
        return ActorState(vector, last, memory, *going), (record, returns, lengths)

    after, (steps, returns, lengths) = jax.lax.scan(step, actor, length=length)
    flags = is_broken(steps), ops.is_stuck(steps.obs, env.spec.action_space)
    tally = Tally({}, {}, ended(returns, lengths, steps.last), *map(jnp.int32, flags))
    return after, Rollout(steps, actor.memory), tally


def restart(env: JaxEnv, actor: ActorState) -> ActorState:
    """New episodes in all environments."""
    vector = jax_vector.restart(env, actor.vector)
    fresh = jnp.ones_like(actor.first), jnp.zeros_like(actor.returns), jnp.zeros_like(actor.lengths)
    return ActorState(vector, fresh[0], actor.memory, *fresh[1:])


def is_broken(steps: Step) -> Array:
    """[] bool: the environment returned NaN or infinity for finite inputs.

    NaN that follows NaN actions is the learner's fault, not the environment's.
    """
    obs = is_finite(steps.obs, steps.first)
    given = obs & is_finite(steps.action, steps.first)
    answered = is_finite((steps.reward, steps.next_obs), steps.first)
    return ((given & ~answered) | (steps.first & ~obs)).any()


def is_finite(tree: Any, like: Array) -> Array:
    """[T, B] bool like `like`: no NaN or infinity in any leaf [T, B, ...]."""
    floats = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
    finite = [jnp.isfinite(x).reshape(*like.shape, -1).all(-1) for x in floats]
    return jnp.stack([jnp.ones_like(like), *finite]).all(0)


def iterate(
    env: JaxEnv, learner: Learner, length: int, fill: bool, run: RunState
) -> tuple[RunState, Tally]:
    """One iteration: collect, then learn, or only store while warming up."""
    policy = learner.policy(run.learner)
    k_act = jax.random.fold_in(run.keys.act, 0)  # the only worker
    actor, rollout, tally = collect(
        env, learner.algorithm, policy, run.actor, k_act, length, random=fill
    )
    if fill:
        state = learner.fill(run.learner, rollout)
    else:
        k_learn = jax.random.fold_in(run.keys.learn, run.iteration)
        state, metrics = learner.learn(run.learner, rollout, k_learn)
        sums, counted = finite_sums(metrics)
        tally = tally._replace(metrics=sums, counted=counted)
    return RunState(state, actor, run.keys, run.iteration + 1), tally


def iterate_many(step: Any, run: RunState, iterations: Array) -> tuple[RunState, Tally]:
    """Runs `step` `iterations` times; the number is data, so one program serves any."""

    def body(_: Array, carry: tuple[RunState, Tally]) -> tuple[RunState, Tally]:
        run, tally = step(carry[0])
        return run, added(carry[1], tally)

    zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(step, run)[1])
    none = jax.tree.map(lambda like, x: jnp.asarray(x, like.dtype), zero.ended, nothing())
    return jax.lax.fori_loop(0, iterations, body, (run, zero._replace(ended=none)))


def added(one: Tally, other: Tally) -> Tally:
    """The sums of both."""
    sums = jax.tree.map(jnp.add, one._replace(ended=()), other._replace(ended=()))
    return sums._replace(ended=both(one.ended, other.ended))


@shared
def run_program(
    fill: bool,
    env: JaxEnv,
    length: int,
    seeds: Seeds,
    mesh: Mesh | None,
    places: Any,
    structure: Any,
) -> Any:
    """(learner, run, iterations) -> (run, tally), for learners of a structure."""

    def one(learner: Learner, run: RunState, iterations: Array) -> tuple[RunState, Tally]:
        return iterate_many(partial(iterate, env, learner, length, fill), run, iterations)

    def all_seeds(learner: Learner, run: RunState, iterations: Array) -> tuple[RunState, Tally]:
        axes, many = run_axes(run.learner), batches_over(mesh)(one)
        if not seeds.vmapped:
            return many(learner, run, iterations)
        of_run = jax.tree.map(lambda _: seeds.learner_axis, learner), axes
        many = jax.vmap(many, (seeds.learner_axis, axes, None), (axes, 0))
        return apart(many, of_run, len(seeds.values))(learner, run, iterations)

    return jax.jit(all_seeds, donate_argnums=1, out_shardings=(places, None))


def at_start(algorithm: Algorithm, vector: jax_vector.VectorState, num_envs: int) -> ActorState:
    """The collecting side around environments that were just reset."""
    memory = algorithm.memory((num_envs,))
    first, returns = jnp.ones(num_envs, bool), jnp.zeros(num_envs)
    return ActorState(vector, first, memory, returns, jnp.zeros(num_envs, jnp.int32))


@shared
def actor_program(env: JaxEnv, num_envs: int, seeds: Seeds, structure: Any) -> Any:
    """(algorithm, keys) -> environments at their start, for algorithms of a structure."""

    def init(algorithm: Algorithm, key: Array) -> ActorState:
        return at_start(algorithm, jax_vector.reset(env, key, num_envs), num_envs)

    return jax.jit(seeds.vmap(init, (seeds.learner_axis, 0)))


def run_axes(state: LearnerState) -> RunState:
    """vmap axes of the run of several seeds, around the learner's state."""
    return RunState(seed_axes(state), 0, 0, None)  # pyright: ignore[reportArgumentType]


class Fused:
    """Runs a JaxEnv and a learner for one seed, or for several as one program.

    With several devices, each runs some of the seeds, or some of one seed's environments and a part
    of its batches.
    """

    def __init__(
        self,
        env: JaxEnv,
        learner: Learner,
        seeds: Seeds,
        num_envs: int,
        length: int,
        data: Any = (),
    ):
        if isinstance(learner, OffPolicy) and learner.on_host:
            raise ConfigError(
                "fused execution keeps replay on the device; "
                "set replay_on_host=False or use host execution."
            )
        self.env, self.learner, self.seeds, self.data = env, learner, seeds, as_data(learner)
        self.steps_per_iteration = num_envs * length
        self.warmup = warmup_iterations(learner, self.steps_per_iteration)
        self.iteration = 0
        state = init_learner(learner, env.spec, seeds, length, num_envs, data)
        self.mesh = None if seeds.vmapped else batch_mesh(learner, num_envs)
        self.places = self.over_seeds(state) if seeds.vmapped else self.over_batch(num_envs)
        self.run = self.place(
            RunState(state, self.init_actor(num_envs), seeds.keys(), jnp.zeros((), jnp.int32))
        )
        kind = env, length, seeds.form, self.mesh, self.places, jax.tree.structure(self.data)
        self.programs = {fill: run_program(fill, *kind) for fill in (True, False)}

    def init_actor(self, num_envs: int) -> ActorState:
        """Environments at the start of their first episodes."""
        algorithm = self.data.algorithm
        init = actor_program(self.env, num_envs, self.seeds.form, jax.tree.structure(algorithm))
        keys = [jax.random.key(env_seed(seed, 0)) for seed in self.seeds.values]
        return init(algorithm, self.seeds.stack(keys))

    def over_seeds(self, state: LearnerState) -> Any:
        """The shardings of the run if each device has some of the seeds."""
        count = len(self.seeds.values)
        mesh = mesh_for(count)
        if mesh is None:
            return None
        place = lambda axis: whole(mesh) if axis is None else split(mesh, count)
        return jax.tree.map(place, run_axes(state), is_leaf=lambda axis: axis is None)

    def over_batch(self, num_envs: int) -> Any:
        """The shardings of the run if each device has some of the environments."""
        if self.mesh is None:
            return None
        common: Any = whole(self.mesh)
        part: Any = split(self.mesh, num_envs)
        vector = jax_vector.VectorState(part, part, common, common, common)
        return RunState(common, ActorState(vector, part, part, part, part), common, common)

    def place(self, run: RunState) -> RunState:
        """Moves the run to the devices; no effect with a single one."""
        return run if self.places is None else jax.device_put(run, self.places)

    def advance(self, iterations: int) -> Report:
        """Runs some iterations; warming up and learning are two programs."""
        fill = min(iterations, max(0, self.warmup - self.iteration))
        tallies = [self.call(True, fill)] if fill else []
        metrics: dict[str, np.ndarray] = {}
        if learn := iterations - fill:
            tallies.append(self.call(False, learn))
            sums, counted = tallies[-1].metrics, tallies[-1].counted
            metrics = {name: mean_of(x, counted[name]) for name, x in sums.items()}
        return Report(metrics, total([unscaled(tally.ended) for tally in tallies]))

    def call(self, fill: bool, iterations: int) -> Tally:
        """Runs one of the programs and copies its sums to the host."""
        self.run, tally = self.programs[fill](self.data, self.run, iterations)
        tally = jax.device_get(tally)
        self.iteration += iterations
        if np.any(tally.no_legal_action):
            raise no_legal_action(self.env.spec)
        if np.any(tally.broken):
            steps = self.iteration * self.steps_per_iteration
            raise EnvError(
                f"{self.env.spec.id} returned NaN or infinity before step {steps}; "
                "the last checkpoint is intact, mend the environment and resume."
            )
        return tally

    @property
    def policy(self) -> Any:
        algorithm = self.data.algorithm
        return policy_program(self.seeds, algorithm)(algorithm, self.algorithm_state)

    @property
    def state(self) -> LearnerState:
        return self.run.learner

    def set_state(self, state: LearnerState) -> None:
        self.run = self.place(self.run.replace(learner=state))

    @property
    def algorithm_state(self) -> Any:
        return self.state.algorithm_state

    def keep(self, take: Callable[[Rollout, int], None]) -> None:
        raise ConfigError(
            "fused execution keeps its rollouts on the device: use --execution host with --record."
        )

    @property
    def discarded(self) -> Discarded:
        return Discarded.of(self.state)

    @property
    def devices(self) -> Devices:
        return Devices.of(self.mesh)

    def updates_since(self, iteration: int) -> int:
        return updates_of(self.learner, self.iteration - max(iteration, self.warmup))

    def stats(self) -> dict[str, float]:
        return {}

    def snapshot(self, replay: bool = True) -> Snapshot:
        state, rows = without_rows(self.run.learner, replay)
        tree = {"run": self.run.replace(learner=state), "replay": rows}
        return Snapshot(tree, {}, True, ring_of(self.learner, state, self.iteration))

    def restore(self, checkpoint: Checkpoint) -> None:
        empty = self.run.learner
        template = self.run.replace(learner=without_rows(empty)[0])
        lengths = np.zeros(self.run.actor.lengths.shape, np.int32)  # older ones did not count
        run = with_default(checkpoint, "run/actor/lengths", lengths).restore("run", template)
        rows = checkpoint.under("replay")
        self.run = self.place(run.replace(learner=with_rows(run.learner, rows, empty)))
        self.iteration = int(run.iteration)
        self.warmup = warmup_iterations(self.learner, self.steps_per_iteration)
        if lacks_replay(run.learner, rows):
            self.warmup += self.iteration

    def lend(self) -> None:
        """Pure environments need no lending."""

    def restart(self) -> None:
        """Nothing was lent."""

    def change(self, parameters: Mapping[str, Any]) -> None:
        actor, lead = self.run.actor, self.seeds.lead
        vector = jax_vector.changed(self.env, actor.vector, parameters, lead)
        self.run = self.place(self.run.replace(actor=actor.replace(vector=vector)))

    def heed(self, stopped: Callable[[], bool]) -> None:
        """Nothing is waited for."""

    def close(self) -> None:
        """Nothing to release."""
