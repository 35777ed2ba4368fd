"""Learners: the step from a rollout to a new state, between collection and update rule."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.custom_batching import sequential_vmap

from parl import ops
from parl.agents.replay.ring import Replay, ReplayState
from parl.agents.replay.sampling import Sampler
from parl.core.algorithm import Algorithm
from parl.core.errors import DamagedCheckpoint
from parl.core.pieces import Ring
from parl.core.sharding import as_batch, on_shares
from parl.core.spec import EnvSpec, example
from parl.core.types import Array, Metrics, Rollout, Step, static

MAX_BAD = 10  # consecutive discarded results after which learning is considered lost
OF_ROLLOUT = Rollout(1, 0)  # pyright: ignore[reportArgumentType]  axes of its environments


class LearnerState(struct.PyTreeNode):
    """The state that learning changes."""

    algorithm_state: Any  # the algorithm's state
    replay: Any = None  # a ReplayState, if the learner has replay
    data: Any = ()  # a ReplayState with a data set, if the learner has one
    skipped: Any = (
        0  # [] int32, updates and rollouts that were thrown away, see `skip_if_not_finite`
    )
    bad_in_row: Any = 0  # [] int32, discarded since the last good one

    @classmethod
    def fresh(
        cls, algorithm_state: Any, replay: Any = None, lead: tuple[int, ...] = ()
    ) -> "LearnerState":
        """The state before the first rollout."""
        zero = jnp.zeros(lead, jnp.int32)
        return cls(algorithm_state, replay, skipped=zero, bad_in_row=jnp.copy(zero))


def skip_if_not_finite(
    state: LearnerState, algorithm_state: Any, usable: Any = True
) -> LearnerState:
    """`state` with the new `algorithm_state` if it is finite, else the old one, counted as skipped.

    It is skipped if any leaf holds NaN or infinity or the data are not `usable` [] bool. A count of
    MAX_BAD in a row is never reset, so it cannot be missed between two checks.
    """
    new, good = kept_if_finite(state.algorithm_state, algorithm_state, usable)
    lost = state.bad_in_row >= MAX_BAD
    return state.replace(
        algorithm_state=new,
        skipped=state.skipped + ~good,
        bad_in_row=jnp.where(good & ~lost, 0, state.bad_in_row + ~good),
    )


def kept_if_finite(old: Any, new: Any, usable: Any) -> tuple[Any, Array]:
    """(`new` if its leaves are finite and the data `usable`, else `old`; whether it is `new`).

    Leaves that are the same object in both are not checked.
    """
    before, structure = jax.tree.flatten(old)
    after = jax.tree.leaves(new)
    changed = [b for a, b in zip(before, after, strict=True) if a is not b]
    good = all_finite(changed) & usable
    choose = lambda a, b: a if a is b else jnp.where(good, b, a)
    leaves = [choose(a, b) for a, b in zip(before, after, strict=True)]
    return jax.tree.unflatten(structure, leaves), good


def all_finite(leaves: list[Any]) -> Array:
    """Whether no float in these arrays is NaN or infinity: [] bool.

    x * 0 is 0 for what is finite, else NaN. Arrays of one shape are added before they are summed:
    reductions of each take a small network as long as a quarter of its update.
    """
    zeros: dict[tuple[int, ...], Any] = {}  # by shape
    for x in leaves:
        if jnp.issubdtype(x.dtype, jnp.floating):
            zeros[x.shape] = zeros.get(x.shape, 0) + (x * 0).astype(jnp.float32)
    return jnp.isfinite(sum((x.sum() for x in zeros.values()), jnp.zeros(())))


def observe(algorithm: Algorithm, state: LearnerState, rollout: Rollout) -> LearnerState:
    """The state after the algorithm's `observe`, outside of `learn`.

    A rollout that is not usable or makes statistics infinite is skipped and counted.
    """
    algorithm_state = algorithm.observe(state.algorithm_state, rollout)
    algorithm_state, good = kept_if_finite(
        state.algorithm_state, algorithm_state, ops.is_usable(rollout.steps)
    )
    return state.replace(algorithm_state=algorithm_state, skipped=state.skipped + ~good)


class OnPolicy(struct.PyTreeNode):
    """Learns from every rollout once and discards it."""

    algorithm: Algorithm
    warmup: int = static(default=0)  # environment steps before learning
    in_turn: bool = static(default=False)  # several seeds are updated one after the other

    def init(
        self, algorithm_state: Any, rollout: Rollout, lead: tuple[int, ...] = ()
    ) -> LearnerState:
        """The state before the first rollout, around the algorithm's state [*lead, ...].

        `rollout` gives the shapes of one seed's rollout.
        """
        return LearnerState.fresh(algorithm_state, lead=lead)

    def policy(self, state: LearnerState) -> Any:
        """The policy for actors."""
        return self.algorithm.policy(state.algorithm_state)

    def fill(self, state: LearnerState, rollout: Rollout) -> LearnerState:
        """Observes without learning, during warm-up."""
        return observe(self.algorithm, state, rollout)

    def learn(
        self, state: LearnerState, rollout: Rollout, key: Array
    ) -> tuple[LearnerState, Metrics]:
        """Updates, then observes: the update must use the same statistics as acting did."""
        update = lambda algorithm, state, x, key: algorithm.update(state, x, key)
        update = on_shares(update, OF_ROLLOUT)
        if self.in_turn:
            update = sequential_vmap(update)
        algorithm_state, metrics = update(self.algorithm, state.algorithm_state, rollout, key)
        algorithm_state = self.algorithm.observe(algorithm_state, rollout)
        return skip_if_not_finite(state, algorithm_state, ops.is_usable(rollout.steps)), metrics


class OffPolicy(struct.PyTreeNode):
    """Stores the rollout, then makes `updates` updates on fresh samples."""

    algorithm: Algorithm
    replay: Replay | Sampler
    batch_size: int = static(default=256)
    updates: int = static(default=1)
    warmup: int = static(default=0)  # environment steps of random actions before learning
    in_turn: bool = static(default=False)  # several seeds are updated one after the other

    def init(
        self, algorithm_state: Any, rollout: Rollout, lead: tuple[int, ...] = ()
    ) -> LearnerState:
        items = jax.eval_shape(self.algorithm.items, rollout)
        replay = self.replay.init(items, lead, stride=rollout.steps.first.shape[1])
        return LearnerState.fresh(algorithm_state, replay, lead)

    def policy(self, state: LearnerState) -> Any:
        """The policy for actors."""
        return self.algorithm.policy(state.algorithm_state)

    def fill(self, state: LearnerState, rollout: Rollout) -> LearnerState:
        """Stores without learning, during warm-up."""
        state = observe(self.algorithm, state, rollout)
        return state.replace(replay=self.store(state.replay, rollout))

    def store(self, replay: Any, rollout: Rollout) -> Any:
        """Replay with the rollout's items."""
        return self.replay.add(replay, self.algorithm.items(rollout))

    def learn(
        self, state: LearnerState, rollout: Rollout, key: Array
    ) -> tuple[LearnerState, Metrics]:
        """Stores the rollout, then updates on batches sampled from replay."""
        return self.improve(self.fill(state, rollout), key)

    def improve(self, state: LearnerState, key: Array) -> tuple[LearnerState, Metrics]:
        """Updates on batches sampled from replay."""
        k_sample, k_update = jax.random.split(key)
        index, batches = self.sample(state, k_sample)
        state, metrics = self.update_many(state, batches, k_update)
        state = self.learned(state, index, metrics.get("td_error"))
        return state, jax.tree.map(jnp.mean, metrics)

    def sample(self, state: LearnerState, key: Array) -> tuple[Any, Any]:
        """(what to report errors for, batches [updates, batch_size, ...])."""
        return self.replay.draw(state.replay, key, (self.updates, self.batch_size))

    def learned(self, state: LearnerState, index: Any, td_error: Any) -> LearnerState:
        """The state after replay was told the errors [updates, batch_size] of a sample."""
        return state.replace(replay=self.replay.learned(state.replay, index, td_error))

    def update_many(
        self, state: LearnerState, batches: Any, key: Array
    ) -> tuple[LearnerState, Metrics]:
        """One update per leading index of `batches`; all are discarded if any is not finite.

        Metrics are those of each update, [updates, ...].
        """
        keys = jax.random.split(key, self.updates)

        def burst(
            algorithm: Algorithm, algorithm_state: Any, batches: Any, keys: Array
        ) -> tuple[Any, Metrics]:
            update = lambda algorithm_state, x: algorithm.update(
                algorithm_state, as_batch(x[0]), x[1]
            )
            return jax.lax.scan(update, algorithm_state, (batches, keys))

        burst = on_shares(burst, 1)
        if self.in_turn:
            burst = sequential_vmap(burst)
        algorithm_state, metrics = burst(self.algorithm, state.algorithm_state, batches, keys)
        return skip_if_not_finite(state, algorithm_state), metrics

    @property
    def on_host(self) -> bool:
        """Whether replay lies in host memory, so that only `update_many` can be compiled."""
        return self.replay.on_host


class FromData(OffPolicy):
    """Fills a share of every batch from a data set, `LearnerState.data`, and the rest from replay.

    With a share of 1 it is offline learning, with a half Ball et al. 2023, arXiv:2302.02948.
    """

    share: float = static(default=1.0)

    @property
    def of_data(self) -> int:
        """Items of a batch that are of the data."""
        return round(self.share * self.batch_size)

    def sample(self, state: LearnerState, key: Array) -> tuple[Any, Any]:
        """((rows of the data, rows of replay), batches): the data's items come first."""
        if not self.of_data:
            index, batches = super().sample(state, key)
            return (None, index), batches
        own = self.batch_size - self.of_data
        k_data, k_own = jax.random.split(key)
        rows, batches = self.replay.draw(state.data, k_data, (self.updates, self.of_data))
        if not own:
            return (rows, None), batches
        index, fresh = self.replay.draw(state.replay, k_own, (self.updates, own))
        joined = lambda *x: jnp.concatenate(x, 1)
        return (rows, index), jax.tree.map(joined, batches, fresh)

    def learned(self, state: LearnerState, index: Any, td_error: Any) -> LearnerState:
        rows, own = index
        part = lambda where: None if td_error is None else td_error[:, where]
        if rows is not None:
            told = part(slice(self.of_data))
            state = state.replace(data=self.replay.learned(state.data, rows, told))
        if own is not None:
            told = part(slice(self.of_data, None)) if self.of_data else td_error
            state = state.replace(replay=self.replay.learned(state.replay, own, told))
        return state


Learner = OnPolicy | OffPolicy


def seed_axes(state: LearnerState) -> LearnerState:
    """vmap axes of the state of several seeds: 0, except for replay's cursor and size.

    All seeds add in lockstep. With a cursor per seed, an add would become a scatter. They share the
    rows of a data set.
    """
    if state.replay is None and not has_data(state):
        return LearnerState(0)
    axes = lambda ring, **alone: jax.tree.map(lambda _: 0, ring).replace(
        cursor=None, size=None, **alone
    )
    replay = None if state.replay is None else axes(state.replay)
    data = axes(state.data, rows=None) if has_data(state) else ()
    return LearnerState(0, replay, data)


def has_data(state: LearnerState) -> bool:
    """Whether the state holds a data set."""
    return isinstance(state.data, ReplayState)


def without_data(state: LearnerState) -> LearnerState:
    """The state without the rows of its data set, as a checkpoint holds it."""
    return state.replace(data=state.data.replace(rows={})) if has_data(state) else state


def with_data(state: LearnerState, held: LearnerState) -> LearnerState:
    """The inverse of `without_data`: with the rows that `held` holds."""
    if not has_data(state):
        return state
    return state.replace(data=state.data.replace(rows=held.data.rows))


def without_rows(state: LearnerState, replay: bool = True) -> tuple[LearnerState, dict[str, Any]]:
    """(state without replay's rows, rows in use), as a checkpoint holds them.

    Without `replay` there are no rows; those of a data set are in no checkpoint.
    """
    state = without_data(state)
    if state.replay is None:
        return state, {}
    if not replay:
        return state.replace(replay=state.replay.replace(rows={})), {}
    size = int(state.replay.size)
    used = {name: row[..., :size, :] for name, row in state.replay.rows.items()}
    return state.replace(replay=state.replay.replace(rows={})), used


def ring_of(learner: Learner, state: LearnerState, adds: int) -> Ring | None:
    """The position of replay's ring after `adds` adds; None without replay.

    The number of written rows is None for a user's replay class, which may change rows otherwise.
    """
    if state.replay is None or not isinstance(learner, OffPolicy):
        return None
    layers: list[Any] = [learner.replay]
    while isinstance(layers[-1], Sampler):
        layers.append(layers[-1].inner)
    ours = all(type(layer).__module__.startswith("parl.") for layer in layers)
    return Ring(int(state.replay.cursor), adds * state.replay.count if ours else None)


def with_rows(state: LearnerState, used: dict[str, Any], empty: LearnerState) -> LearnerState:
    """The inverse of `without_rows`; writes into the unused rows of the state `empty`.

    If no rows were saved, replay is empty. Raises DamagedCheckpoint if they do not fit.
    """
    state = with_data(state, empty)
    if state.replay is None or empty.replay is None:
        return state
    if lacks_replay(state, used):
        return state.replace(replay=empty.replay)
    check_ring(state.replay, used, empty.replay)
    rows = {}
    for name, row in empty.replay.rows.items():
        if isinstance(row, jax.Array):
            rows[name] = row.at[..., : used[name].shape[-2], :].set(used[name])
        else:
            row[..., : used[name].shape[-2], :] = used[name]
            rows[name] = row
    return state.replace(replay=state.replay.replace(rows=rows))


def lacks_replay(state: LearnerState, used: dict[str, Any]) -> bool:
    """Whether the learner has a replay whose rows were not kept."""
    return state.replay is not None and not used


def check_ring(ring: ReplayState, used: dict[str, Any], empty: ReplayState) -> None:
    """Raises DamagedCheckpoint if a ring's cursor and size do not match its rows."""
    size, cursor = int(ring.size), int(ring.cursor)
    rooms = {name: row.shape for name, row in empty.rows.items()}
    capacity = next(iter(rooms.values()))[-2]
    if not (0 <= size <= capacity and 0 <= cursor < capacity):
        raise DamagedCheckpoint(f"its replay of {capacity} is at {cursor} and holds {size} items")
    wanted = {name: (*shape[:-2], size, shape[-1]) for name, shape in rooms.items()}
    if {name: row.shape for name, row in used.items()} != wanted:
        raise DamagedCheckpoint("the rows of its replay do not have this run's shapes")


def shapes(algorithm: Algorithm, spec: EnvSpec, length: int, num_envs: int) -> tuple[Any, Rollout]:
    """(Shapes of an algorithm's state, of a rollout [length, num_envs, ...]); traced."""
    found: dict[str, Rollout] = {}

    def start(key: Array) -> Any:
        state = algorithm.init(key, spec)
        found["rollout"] = example_rollout(algorithm, state, spec, length, num_envs)
        return state

    return jax.eval_shape(start, jax.random.key(0)), found["rollout"]


def example_rollout(
    algorithm: Algorithm, algorithm_state: Any, spec: EnvSpec, length: int, num_envs: int
) -> Rollout:
    """Shapes of a rollout [length, num_envs, ...], traced, not computed."""

    def rollout() -> Rollout:
        obs = jax.tree.map(jnp.asarray, example(spec.observation_space, (num_envs,)))
        memory, key = algorithm.memory((num_envs,)), jax.random.key(0)
        policy = algorithm.policy(algorithm_state)
        action, _, extras = algorithm.act(policy, obs, memory, key, explore=True)
        number, flag = jnp.zeros(num_envs), jnp.zeros(num_envs, bool)
        reward = jnp.zeros((num_envs, *spec.agent_shape))
        step = Step(obs, action, reward, number, obs, flag, flag, extras)
        steps = jax.tree.map(lambda x: jnp.broadcast_to(x, (length, *x.shape)), step)
        return Rollout(steps, memory)

    return jax.eval_shape(rollout)
