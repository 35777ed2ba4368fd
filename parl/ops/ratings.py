"""Ratings of players and the choice of opponents. P opponents."""

import jax.numpy as jnp

from parl.core.types import Array

POINTS_PER_TENFOLD = 400.0  # a lead of 400 points means ten wins per loss


def expected_score(rating: Array | float, other: Array) -> Array:
    """Expected score [...] of a player against others: 1 for a win, 1/2 for a draw. Elo 1978."""
    return 1.0 / (1.0 + 10.0 ** ((other - rating) / POINTS_PER_TENFOLD))


def game_score(paid: Array, own: Array) -> Array:
    """The score [...] of the side `own` [..., S] bool in a game with returns `paid` [..., S].

    1 if its return is above all others, 1/2 if it equals the best of them, else 0.
    """
    mine, best = jnp.where(own, paid, 0.0).sum(-1), jnp.where(own, -jnp.inf, paid).max(-1)
    return 0.5 * (mine > best) + 0.5 * (mine >= best)


def duel_score(paid: Array, own: Array) -> Array:
    """The mean score [...] against each of the other sides alone; arguments as in `game_score`.

    Equal players score 1/2 on average whatever their number, in line with `expected_score`.
    """
    mine = jnp.where(own, paid, 0.0).sum(-1, keepdims=True)
    duels = 0.5 * (mine > paid) + 0.5 * (mine >= paid)
    return jnp.where(own, 0.0, duels).sum(-1) / (~own).sum(-1)


def elo(
    rating: Array | float, others: Array, score: Array, played: Array, k: float
) -> tuple[Array, Array]:
    """(rating [], others [P]) after one match against each opponent with `played` [P].

    score [P] in 0 .. 1 is the mean over the games of a match. Elo 1978: a player gains k times the
    difference of its score and `expected_score`, and the opponent loses it. All matches are rated
    simultaneously.
    """
    gain = jnp.where(played, k * (score - expected_score(rating, others)), 0.0)
    return rating + gain.sum(), others - gain


def matchmaking(win_rate: Array, known: Array, power: float = 2.0) -> Array:
    """Probabilities [P] of meeting each opponent, given the share `win_rate` [P] of games won.

    Proportional to (1 - win_rate)^power, which prefers the hardest opponents, Vinyals et al. 2019,
    doi:10.1038/s41586-019-1724-z, methods. 0 for opponents that are not `known` [P].
    """
    weight = jnp.where(known, (1.0 - win_rate) ** power, 0.0)
    return weight / weight.sum()
