"""What the learners do with updates that give NaN or infinity: nothing, and they count it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from parl.agents.agent import LearnerAgent, transition
from parl.agents.execution.pooled import learning_programs
from parl.agents.execution.protocol import Seeds
from parl.agents.learner import (
    MAX_BAD,
    LearnerState,
    OffPolicy,
    OnPolicy,
    all_finite,
    lacks_replay,
    ring_of,
    seed_axes,
    skip_if_not_finite,
    with_rows,
    without_rows,
)
from parl.agents.replay.ring import NumpyReplay, Replay
from parl.agents.replay.sampling import NStep
from parl.core.algorithm import Algorithm
from parl.core.errors import DamagedCheckpoint
from parl.core.pieces import Ring
from parl.core.spec import Box, Discrete, EnvSpec
from parl.core.types import Array, Rollout, Step

SPEC = EnvSpec("toy", Box((1,)), Discrete(2), None)
KEY = jax.random.key(0)


class ToyState(struct.PyTreeNode):
    total: Array  # [2]
    overflow: Array  # [] becomes infinite where the rewards are huge
    observed: Array  # [] int32


class Toy(Algorithm):
    """A user's algorithm: sums roots of mean rewards, NaN for negative ones."""

    def init(self, key: Array, spec: EnvSpec) -> ToyState:
        return ToyState(jnp.zeros(2), jnp.zeros(()), jnp.zeros((), jnp.int32))

    def policy(self, state: ToyState) -> Array:
        return state.total

    def act(self, policy: Array, obs: Any, memory: Any, key: Array, explore: bool) -> Any:
        return jnp.zeros(obs.shape[0], jnp.int32), memory, {}

    def update(self, state: ToyState, batch: Any, key: Array) -> tuple[ToyState, Any]:
        reward = (batch.steps if isinstance(batch, Rollout) else batch).reward
        total = state.total + jnp.sqrt(reward.mean())
        return state.replace(total=total, overflow=jnp.exp(reward.max())), {"total": total.mean()}

    def observe(self, state: ToyState, rollout: Rollout) -> ToyState:
        return state.replace(observed=state.observed + rollout.steps.reward.size)


def rollout(reward: float) -> Rollout:
    obs = np.zeros(1, np.float32)
    return transition(obs, np.int32(0), reward, obs, False, False)


def play(learner: Any, rewards: list[float]) -> LearnerState:
    """The state after learning from one rollout [1, 1] per reward."""
    state = learner.init(learner.algorithm.init(KEY, SPEC), rollout(0.0))
    learn = jax.jit(learner.learn)
    for reward in rewards:
        state, _ = learn(state, rollout(reward), KEY)
    return state


@pytest.mark.parametrize("bad", [-1.0, 1e3], ids=["nan", "infinity in another leaf"])
def test_a_bad_update_is_as_if_it_had_not_been(bad: float) -> None:
    state = play(OnPolicy(Toy()), [4.0, bad, bad, 9.0, bad])
    np.testing.assert_array_equal(state.algorithm_state.total, [5.0, 5.0])
    np.testing.assert_allclose(state.algorithm_state.overflow, np.exp(9.0), rtol=1e-6)
    assert (int(state.algorithm_state.observed), int(state.skipped), int(state.bad_in_row)) == (
        2,
        3,
        1,
    )


def test_what_came_of_a_bad_update_is_the_state_before_it_to_the_bit() -> None:
    good, after = play(OnPolicy(Toy()), [0.3]), play(OnPolicy(Toy()), [0.3, -1.0])
    for a, b in zip(
        jax.tree.leaves(good.algorithm_state), jax.tree.leaves(after.algorithm_state), strict=True
    ):
        assert a.tobytes() == b.tobytes()


def test_replay_takes_what_was_not_learned_from() -> None:
    """Batches of the one item that replay can hold, bursts of two updates."""
    state = play(OffPolicy(Toy(), Replay(1), batch_size=4, updates=2), [4.0, -1.0, 9.0])
    np.testing.assert_array_equal(state.algorithm_state.total, [10.0, 10.0])
    assert (int(state.algorithm_state.observed), int(state.skipped), int(state.bad_in_row)) == (
        3,
        1,
        0,
    )


def test_one_bad_update_of_a_burst_takes_all_of_it_along() -> None:
    learner = OffPolicy(Toy(), Replay(1), batch_size=1, updates=3)
    state = learner.init(learner.algorithm.init(KEY, SPEC), rollout(0.0))
    batches = jax.tree.map(lambda x: jnp.stack([x[0]] * 3), rollout(4.0).steps)
    mixed = batches._replace(reward=jnp.array([[4.0], [-1.0], [4.0]]))
    state, _ = learner.update_many(state, mixed, KEY)
    assert not state.algorithm_state.total.any() and int(state.skipped) == 1
    state, _ = learner.update_many(state, batches, KEY)
    np.testing.assert_array_equal(state.algorithm_state.total, [6.0, 6.0])


def test_replay_in_host_memory_is_guarded_too() -> None:
    learner = OffPolicy(Toy(), NumpyReplay(1), batch_size=4, updates=2)
    state = learner.init(learner.algorithm.init(KEY, SPEC), rollout(0.0))
    _, learn = learning_programs(learner, SPEC, Seeds((0,)))
    policy = None
    for i, reward in enumerate([4.0, -1.0, 9.0]):
        state, policy, _ = learn(learner, state, rollout(reward), KEY, np.int32(i))
    np.testing.assert_array_equal(policy, [10.0, 10.0])
    assert (int(state.algorithm_state.observed), int(state.skipped), int(state.replay.size)) == (
        3,
        1,
        1,
    )


def test_each_seed_is_guarded_on_its_own() -> None:
    learner = OnPolicy(Toy())
    train = jax.vmap(lambda key: Toy().init(key, SPEC))(jax.random.split(KEY, 2))
    state = learner.init(train, rollout(0.0), (2,))
    axes = seed_axes(state)
    learn = jax.jit(jax.vmap(learner.learn, (axes, 0, None), (axes, 0)))
    both = [rollout(4.0), rollout(-1.0)]
    state, _ = learn(state, jax.tree.map(lambda *x: np.stack(x), *both), KEY)
    np.testing.assert_array_equal(state.algorithm_state.total, [[2.0, 2.0], [0.0, 0.0]])
    np.testing.assert_array_equal(state.skipped, [0, 1])
    np.testing.assert_array_equal(state.bad_in_row, [0, 1])


def test_too_many_in_a_row_are_remembered() -> None:
    """A look at the count may come long after."""
    short = play(OnPolicy(Toy()), [-1.0] * (MAX_BAD - 1) + [4.0])
    assert (int(short.skipped), int(short.bad_in_row)) == (MAX_BAD - 1, 0)
    long = play(OnPolicy(Toy()), [-1.0] * MAX_BAD + [4.0])
    assert (int(long.skipped), int(long.bad_in_row)) == (MAX_BAD, MAX_BAD)


def test_leaves_that_are_no_floats_are_no_reason() -> None:
    train = {"count": jnp.int32(2**31 - 1), "key": jax.random.key(1), "flag": jnp.bool_(True)}
    state = skip_if_not_finite(LearnerState.fresh(train), train | {"count": jnp.int32(0)})
    assert int(state.skipped) == 0 and int(state.algorithm_state["count"]) == 0
    half = {"x": jnp.ones(2, jnp.bfloat16), "key": jax.random.key(1)}
    bad = {"x": jnp.array([1.0, jnp.inf], jnp.bfloat16), "key": jax.random.key(2)}
    state = skip_if_not_finite(LearnerState.fresh(half), bad)
    assert state.algorithm_state["x"].tolist() == [1.0, 1.0]
    assert jax.random.key_data(state.algorithm_state["key"]).tolist() == [0, 1]


@pytest.mark.parametrize("bad", (jnp.inf, -jnp.inf, jnp.nan, -jnp.nan))
def test_one_bad_number_in_any_leaf_is_found(bad: float) -> None:
    good = [jnp.full((2, 3), 3e38), jnp.full((2, 3), -3e38), jnp.ones(2, jnp.bfloat16)]
    assert all_finite([]) and all_finite([*good, jnp.int32(7), jnp.zeros((0, 3))])
    for place, leaf in enumerate(good):
        leaves = [x.at[-1].set(bad) if x is leaf else x for x in good]
        assert not all_finite(leaves), place
    assert not all_finite([good[0].at[0, 0].set(bad), good[1].at[0, 0].set(-bad)])


def test_an_agent_counts_what_it_did_not_learn() -> None:
    agent = LearnerAgent(Toy(), SPEC)
    for reward in (4.0, -1.0, 9.0):
        agent.learn(rollout(reward))
    np.testing.assert_array_equal(agent.weights, [5.0, 5.0])
    batch = Step(*(jax.tree.map(lambda x: x[0], part) for part in rollout(-1.0).steps))
    agent.learn(batch)
    np.testing.assert_array_equal(agent.weights, [5.0, 5.0])
    assert agent.skipped == 2


def test_seeds_are_updated_together_or_in_turn_alike() -> None:
    """In turn is a loop over the seeds around that over the updates."""
    rewards = jnp.arange(1.0, 7.0).reshape(3, 2, 1, 1)  # of 3 seeds and 2 updates
    batches = jax.tree.map(lambda x: jnp.broadcast_to(x, (3, 2, *x.shape)), rollout(0.0).steps)
    batches = batches._replace(reward=rewards)
    keys = jax.random.split(KEY, 3)

    def made(in_turn: bool) -> tuple[LearnerState, int]:
        """The states of the seeds, and how many loops make them."""
        learner = OffPolicy(Toy(), Replay(1), batch_size=1, updates=2, in_turn=in_turn)
        train = jax.vmap(Toy().init, (0, None))(keys, SPEC)
        state = LearnerState.fresh(train, lead=(3,))
        improve = jax.vmap(learner.update_many)
        loops = str(jax.make_jaxpr(improve)(state, batches, keys)).count(" scan[")
        return improve(state, batches, keys)[0], loops

    (together, one), (in_turn, two) = made(False), made(True)
    assert (one, two) == (1, 2)
    np.testing.assert_allclose(
        in_turn.algorithm_state.total[:, 0], [1 + 2**0.5, 3**0.5 + 2, 5**0.5 + 6**0.5]
    )
    np.testing.assert_array_equal(in_turn.algorithm_state.total, together.algorithm_state.total)


@pytest.mark.parametrize("kind", [Replay, NumpyReplay])
def test_replay_leaves_a_state_and_comes_back(kind: type[Replay]) -> None:
    replay = kind(8)
    items = {"x": np.arange(4.0, dtype=np.float32)[:, None]}
    fresh = lambda: LearnerState.fresh(None, replay.init(items))
    state = fresh().replace(replay=replay.add(fresh().replay, items))
    bare, rows = without_rows(state)
    assert {name: row.shape for name, row in rows.items()} == {"float32": (4, 1)}
    assert bare.replay.rows == {} and not lacks_replay(bare, rows)
    again = with_rows(bare, rows, fresh())
    np.testing.assert_array_equal(again.replay.rows["float32"][:, 0], [0, 1, 2, 3, 0, 0, 0, 0])
    assert int(again.replay.cursor) == 4

    bare, rows = without_rows(state, replay=False)
    assert rows == {} and lacks_replay(bare, rows)
    empty = with_rows(bare, rows, fresh()).replay
    assert (int(empty.size), int(empty.cursor)) == (0, 0) and not empty.rows["float32"].any()


def test_where_a_ring_stands() -> None:
    class Relabelling(NStep):
        """May change rows wherever it likes."""

    items = {"x": np.ones((4, 1), np.float32)}
    state = LearnerState.fresh(None, Replay(8).add(Replay(8).init(items), items))
    ring = lambda replay: ring_of(OffPolicy(Toy(), replay), state, adds=3)
    assert ring(Replay(8)) == ring(NStep(Replay(8))) == Ring(cursor=4, written=12)
    assert ring(Relabelling(Replay(8))) == ring(NStep(Relabelling(Replay(8)))) == Ring(4, None)
    assert ring_of(OnPolicy(Toy()), LearnerState.fresh(None), 3) is None


@pytest.mark.parametrize(
    "change",
    [{"cursor": -5}, {"cursor": 10**9}, {"cursor": 8}, {"size": -1}, {"size": 9}, {"size": 3}],
)
def test_a_ring_that_cannot_be_is_refused(change: dict[str, int]) -> None:
    replay = Replay(8)
    items = {"x": np.ones((4, 1), np.float32)}
    state = LearnerState.fresh(None, replay.add(replay.init(items), items))
    bare, rows = without_rows(state)
    broken = bare.replace(replay=bare.replay.replace(**change))
    with pytest.raises(DamagedCheckpoint, match="its replay"):
        with_rows(broken, rows, LearnerState.fresh(None, replay.init(items)))


# -- data that nothing can be learned from --------------------------------------------------------


@pytest.mark.parametrize(
    "replay", [None, Replay(8), NumpyReplay(8)], ids=["none", "device", "host"]
)
@pytest.mark.parametrize("bad", [3e38, -np.inf, np.nan])
def test_a_rollout_beyond_float32_is_counted_and_not_seen(replay: Any, bad: float) -> None:
    """By any learner alike, while filling too; what is stored of it is never learned from."""
    learner: Any = OnPolicy(Toy())
    if replay is not None:
        learner = OffPolicy(Toy(), replay, batch_size=64, updates=2)
    state = learner.init(learner.algorithm.init(KEY, SPEC), rollout(0.0))
    fill, learn = jax.jit(learner.fill), jax.jit(learner.learn)
    act = lambda state, reward, i: learn(state, rollout(reward), jax.random.fold_in(KEY, i))[0]
    if replay is not None and learner.on_host:
        fill_host, learn_host = learning_programs(learner, SPEC, Seeds((0,)))
        fill = lambda *x: fill_host(learner, *x)[0]
        act = lambda state, reward, i: learn_host(
            learner, state, rollout(reward), KEY, np.int32(i)
        )[0]
    state = fill(fill(state, rollout(4.0)), rollout(bad))
    assert (int(state.algorithm_state.observed), int(state.skipped), int(state.bad_in_row)) == (
        1,
        1,
        0,
    )
    state = act(act(state, 4.0, 0), bad, 1)
    assert (int(state.algorithm_state.observed), int(state.skipped)) == (2, 2)
    state = act(state, 4.0, 2)
    expected = [4.0, 4.0] if replay is None else [12.0, 12.0]
    np.testing.assert_array_equal(state.algorithm_state.total, expected)
    assert int(state.skipped) == 2 and int(state.bad_in_row) == 0


class Glutton(Toy):
    """Whose statistics overflow where no single number does."""

    def observe(self, state: ToyState, rollout: Rollout) -> ToyState:
        paid = rollout.steps.reward.sum()
        return state.replace(total=state.total + paid**2 * 10, observed=state.observed + 1)


def test_statistics_that_overflow_are_not_taken() -> None:
    learner = OffPolicy(Glutton(), Replay(4), batch_size=1)
    state = learner.init(learner.algorithm.init(KEY, SPEC), rollout(0.0))
    for reward in (1.0, 9e18, 2.0):
        state = jax.jit(learner.fill)(state, rollout(reward))
    np.testing.assert_array_equal(state.algorithm_state.total, [50.0, 50.0])
    assert (int(state.algorithm_state.observed), int(state.skipped)) == (2, 1)
