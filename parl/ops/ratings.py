"""Ratings of players and who meets whom. P opponents."""

import jax.numpy as jnp

from parl.core.types import Array

POINTS_PER_TENFOLD = 400.0  # a lead of this many points means ten wins for a loss


def expected_score(rating: Array | float, other: Array) -> Array:
    """What a player of this rating scores against others [...]: 1 a win, 1/2 a draw. Elo 1978."""
    return 1.0 / (1.0 + 10.0 ** ((other - rating) / POINTS_PER_TENFOLD))


def game_score(paid: Array, own: Array) -> Array:
    """What a side scores [...] in a game whose sides are paid [..., S]; `own` [..., S] bool is it.

    1 where it is paid more than any other, 1/2 where it is level with the best of them, else 0.
    """
    mine, best = jnp.where(own, paid, 0.0).sum(-1), jnp.where(own, -jnp.inf, paid).max(-1)
    return 0.5 * (mine > best) + 0.5 * (mine >= best)


def duel_score(paid: Array, own: Array) -> Array:
    """The mean score [...] against each of the other sides alone; arguments as in `game_score`.

    Equals score 1/2 on average however many they are, as `expected_score` has it.
    """
    mine = jnp.where(own, paid, 0.0).sum(-1, keepdims=True)
    duels = 0.5 * (mine > paid) + 0.5 * (mine >= paid)
    return jnp.where(own, 0.0, duels).sum(-1) / (~own).sum(-1)


def elo(
    rating: Array | float, others: Array, score: Array, played: Array, k: float
) -> tuple[Array, Array]:
    """(rating [], others [P]) after one match against each opponent where `played` [P].

    score [P] in 0 .. 1 is the mean of a match's games. Elo 1978: a player gains k times what it
    scored beyond `expected_score`, and the other loses it. All matches count at the same time.
    """
    gain = jnp.where(played, k * (score - expected_score(rating, others)), 0.0)
    return rating + gain.sum(), others - gain


def matchmaking(win_rate: Array, known: Array, power: float = 2.0) -> Array:
    """Probabilities [P] to meet opponents of whom a share `win_rate` [P] of games is won.

    Proportional to (1 - win_rate)^power, the weight that prefers the hardest of Vinyals et al.
    2019, doi:10.1038/s41586-019-1724-z, methods; 0 where not `known` [P].
    """
    weight = jnp.where(known, (1.0 - win_rate) ** power, 0.0)
    return weight / weight.sum()
