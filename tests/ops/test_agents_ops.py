"""Who counts, and turns: worked numbers. Two agents A and B move in turns, A first."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parl import ops

TIME = 5
TURN = np.array([[True, False], [False, True]] * 3)[:TIME]  # [T, N]
NEXT = np.concatenate([TURN[1:], [[False, True]]])
REWARD = np.array([[1, 10], [2, 20], [3, 30], [4, 40], [5, 50]], np.float32)
VALUE = np.array([[10, 99], [99, 1], [20, 99], [99, 2], [30, 99]], np.float32)  # 99: it waits
NEXT_VALUE = np.concatenate([VALUE[1:], [[99, 4]]]).astype(np.float32)
GAMMA = 0.5


def turns(last: Any = (4,), terminated: Any = (), known: Any = NEXT, lambda_: float = 0.5) -> Any:
    end = np.isin(np.arange(TIME), last)
    discount = 1.0 - np.isin(np.arange(TIME), terminated)
    steps = REWARD, discount.astype(np.float32), end, VALUE, NEXT_VALUE
    given: list[Any] = [TURN, known, *steps, GAMMA, lambda_]
    return ops.between_turns(*given)


def test_an_agents_transition_goes_from_move_to_move() -> None:
    moves = turns(terminated=(4,))
    np.testing.assert_array_equal(moves.active, TURN)
    np.testing.assert_allclose(moves.reward[:, 0], [1 + 2, 0, 3 + 4, 0, 5])
    np.testing.assert_allclose(moves.reward[:, 1], [0, 20 + 30, 0, 40 + 50, 0])
    np.testing.assert_allclose(moves.discount[TURN], [0.5, 0.5, 0.5, 0, 0])
    np.testing.assert_allclose(moves.next_value[[0, 1, 2], [0, 1, 0]], [20, 2, 30])
    np.testing.assert_array_equal(moves.last[TURN], [False, False, False, True, True])


def test_advantages_over_idle_steps() -> None:
    """A: deltas 3, 2 and -25 by hand; B's last reward arrives while it waits."""
    *given, _ = turns(terminated=(4,))
    advantage = ops.gae(*given)
    last_a = 5 - 30
    middle = (3 + 4) + 0.5 * 30 - 20 + 0.25 * last_a
    first = (1 + 2) + 0.5 * 20 - 10 + 0.25 * middle
    np.testing.assert_allclose(advantage[[0, 2, 4], 0], [first, middle, last_a], rtol=1e-6)
    last_b = 40 + 50 - 2
    first_b = 20 + 30 + 0.5 * 2 - 1 + 0.25 * last_b
    np.testing.assert_allclose(advantage[[1, 3], 1], [first_b, last_b], rtol=1e-6)


def test_lambda_returns_are_advantages_and_values() -> None:
    *given, active = turns(last=(2, 4), terminated=(2,))
    reward, discount, last, value, next_value, lambda_ = given
    returns = ops.lambda_returns(reward, discount, last, next_value, lambda_)
    np.testing.assert_allclose((returns - value)[active], ops.gae(*given)[active], rtol=1e-6)


def test_what_is_cut_before_the_next_move_is_not_learned_from() -> None:
    """At the end of the sequence it is B's turn: A's last move has no value to bootstrap from."""
    moves = turns()
    np.testing.assert_array_equal(moves.active[:, 0], [True, False, True, False, False])
    np.testing.assert_array_equal(moves.active[:, 1], TURN[:, 1])
    assert moves.last[3, 1] and moves.next_value[3, 1] == 4
    advantage = ops.gae(*moves[:-1])
    np.testing.assert_allclose(advantage[2, 0], (3 + 4) + 0.5 * 30 - 20)
    np.testing.assert_allclose(advantage[3, 1], 40 + 50 + 0.5 * 4 - 2)


def test_a_time_limit_cuts_and_a_new_episode_does_not_leak() -> None:
    """The episode is cut at t = 1, behind B's move: A's move at 0 has no next one."""
    known = NEXT.copy()
    known[1] = [False, True]
    moves = turns(last=(1, 4), terminated=(4,), known=known)
    assert not moves.active[0, 0] and moves.active[1, 1] and moves.last[1, 1]
    np.testing.assert_allclose(moves.reward[1, 1], 20)
    np.testing.assert_allclose(moves.next_value[1, 1], NEXT_VALUE[1, 1])
    np.testing.assert_allclose(moves.reward[2, 0], 3 + 4)


def test_where_all_act_nothing_changes() -> None:
    rng = np.random.default_rng(0)
    reward, value, next_value = rng.normal(size=(3, 7, 2, 3)).astype(np.float32)
    last = rng.random((7, 2)) < 0.3
    discount = np.where(last & (rng.random((7, 2)) < 0.5), 0.0, 1.0).astype(np.float32)
    yes = np.ones(reward.shape, bool)
    given: list[Any] = [yes, yes, reward, discount, last, value, next_value, 0.9, 0.8]
    moves: list[Any] = [*ops.between_turns(*given)][:-1]
    rest: list[Any] = [reward, 0.9 * discount, last, value, next_value, 0.8]
    plain = ops.gae(*rest)
    np.testing.assert_allclose(ops.gae(*moves), plain, rtol=1e-5, atol=1e-6)


def test_death_ends_an_agents_return() -> None:
    """Its discount is 0 where it dies; what it is said to be paid later is not counted."""
    active = np.array([[True], [True], [False], [False]])
    discount = np.array([[1.0], [0.0], [1.0], [1.0]], np.float32)
    reward = np.array([[1.0], [2.0], [777.0], [777.0]], np.float32)
    value = np.array([[3.0], [4.0], [888.0], [888.0]], np.float32)
    known = np.concatenate([active[1:], [[False]]])
    last = np.array([False, False, False, True])
    steps = active, known, reward, discount, last, value, np.roll(value, -1, 0)
    given: list[Any] = [*steps, 0.5, 1.0]
    moves: list[Any] = [*ops.between_turns(*given)]
    counts = moves.pop()
    np.testing.assert_array_equal(counts, active)
    advantage = ops.gae(*moves)
    np.testing.assert_allclose(advantage[:2, 0], [1 + 0.5 * 4 - 3 + 0.5 * (2 - 4), 2 - 4])


def test_means_are_of_active_agents() -> None:
    x, active = jnp.array([1.0, 3.0, 1e9]), jnp.array([True, True, False])
    assert ops.mean(x, active) == 2 and ops.mean(x) == x.mean()
    assert ops.mean(x, jnp.zeros(3, bool)) == 0
    np.testing.assert_allclose(ops.standardize(x, active)[:2], [-1, 1], rtol=1e-6)
    np.testing.assert_allclose(ops.standardize(x[:2]), [-1, 1], rtol=1e-6)
    assert jax.grad(lambda x: ops.mean(x**2, active))(x)[2] == 0
    np.testing.assert_allclose(ops.mean_of_team(x[None], active[None]), [[2.0]])


def test_a_team_is_paid_what_the_living_are_paid() -> None:
    reward, alive = jnp.array([[1.0, 2.0, 100.0]]), jnp.array([[True, True, False]])
    np.testing.assert_array_equal(ops.team_reward(reward, alive), [[3.0, 3.0, 3.0]])


def test_who_is_active() -> None:
    alive, turn = jnp.array([True, True, False]), jnp.array([True, False, True])
    assert ops.active_agents(jnp.zeros(3)) is None and ops.active_agents({"x": turn}) is None
    assert (ops.active_agents({"alive": alive}) == alive).all()
    both = ops.active_agents({"alive": alive, "turn": turn})
    np.testing.assert_array_equal(both, [True, False, False])


def test_rewards_add_up_over_agents() -> None:
    like = np.zeros((4, 2), bool)
    rewards = np.arange(24.0).reshape(4, 2, 3)
    np.testing.assert_array_equal(ops.over_agents(rewards, like), rewards.sum(-1))
    assert ops.over_agents(rewards[..., 0], like) is not None
    np.testing.assert_array_equal(ops.over_agents(rewards[..., 0], like), rewards[..., 0])


def test_turns_without_a_step_are_said_in_words():
    none, no = jnp.zeros((0, 1, 2)), jnp.zeros((0, 1, 2), bool)
    with pytest.raises(ValueError, match="must have at least one step"):
        ops.between_turns(no, no, none, none, no, none, none, 0.9, 0.5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rewards_after_an_end_do_not_leak_between_turns(bad):
    """One agent acts at each step; its episode ends with the second one."""
    yes = jnp.ones((3, 1, 1), bool)
    reward = jnp.array([1.0, 2, bad]).reshape(3, 1, 1)
    discount = jnp.array([1.0, 0, 1]).reshape(3, 1)
    last = jnp.array([False, True, False]).reshape(3, 1)
    value = jnp.array([5.0, 6, bad]).reshape(3, 1, 1)
    after = jnp.array([6.0, bad, bad]).reshape(3, 1, 1)
    deltas = ops.between_turns(yes, yes, reward, discount, last, value, after, 0.5, 1.0)
    # 2 - 6; 1 + 0.5 * 6 - 5, and half of what follows
    np.testing.assert_allclose(ops.gae(*deltas.arguments)[:2, 0, 0], [-1 + 0.5 * -4, -4])
