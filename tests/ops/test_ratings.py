"""Elo and matchmaking by hand."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from parl import ops


def test_a_lead_of_400_points_means_ten_wins_for_a_loss() -> None:
    expected = ops.expected_score(1200.0, jnp.array([1200.0, 800.0, 1600.0]))
    np.testing.assert_allclose(expected, [1 / 2, 10 / 11, 1 / 11], rtol=1e-6)


def test_elo_by_hand() -> None:
    """A win over an equal, a draw with one 400 points below, and one that was not played."""
    others, score = jnp.array([1000.0, 600.0, 1000.0]), jnp.array([1.0, 0.5, 0.0])
    rating, ratings = ops.elo(1000.0, others, score, jnp.array([True, True, False]), 16.0)
    gains = np.array([16 * (1 - 1 / 2), 16 * (1 / 2 - 10 / 11), 0.0])  # 8, -6.545..., 0
    np.testing.assert_allclose(ratings, others - gains, rtol=1e-6)
    np.testing.assert_allclose(rating, 1000 + gains.sum(), rtol=1e-6)
    np.testing.assert_allclose(rating + ratings.sum(), 1000 + others.sum(), rtol=1e-6)


def test_matchmaking_by_hand() -> None:
    """Squares of what is lost: 0.25, 0.0625 and 1 of those that are known."""
    win_rate, known = jnp.array([0.5, 0.75, 0.0, 0.0]), jnp.array([True, True, True, False])
    chances = ops.matchmaking(win_rate, known)
    np.testing.assert_allclose(chances, np.array([4, 1, 16, 0]) / 21, rtol=1e-6)
    np.testing.assert_allclose(ops.matchmaking(win_rate, known, 0.0), [1 / 3, 1 / 3, 1 / 3, 0])


def test_winning_among_three_by_hand() -> None:
    """Won, level with the best, beaten by one, and all level; against each alone in turn."""
    own = jnp.array([True, False, False])
    paid = jnp.array([[3.0, 1.0, -4.0], [2.0, 2.0, -4.0], [1.0, 3.0, -4.0], [0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(ops.game_score(paid, own), [1, 0.5, 0, 0.5])
    np.testing.assert_array_equal(ops.duel_score(paid, own), [1, 0.75, 0.5, 0.5])


@pytest.mark.parametrize("sides", [2, 3, 5])
def test_ratings_of_equals_stay_level(sides: int) -> None:
    """Every order of the sides once, with and without ties: on average equals score 1/2."""
    for pay in (range(sides), [1] + [0] * (sides - 1), [2, 2] + [0] * (sides - 2)):
        paid = jnp.array(list(itertools.permutations(pay)), jnp.float32)
        score = ops.duel_score(paid, jnp.arange(sides) == 0).mean()
        rating, others = ops.elo(1000.0, jnp.array([1000.0]), score[None], jnp.array([True]), 16.0)
        np.testing.assert_allclose([rating, *others], 1000.0)
