"""Equilibria of matrix games of two players whose payoffs sum to zero."""

import jax
import jax.numpy as jnp

from parl.core.types import Array


def zero_sum(
    payoff: Array, rows: Array, columns: Array, iterations: int = 2000
) -> tuple[Array, Array]:
    """(mixture over rows [P], over columns [Q]) of an equilibrium, as a linear program finds it.

    The row player gets payoff [P, Q] and the other loses it. rows [P] and columns [Q] bool say what
    can be played. By regret matching+ in turn, averaged linearly (Tammelin 2014, arXiv:1407.5042),
    whose gap to the value falls below 1e-3 of the payoffs' range.
    """
    payoff = jnp.where(rows[:, None] & columns, payoff, 0.0)

    def matched(regret: Array, allowed: Array) -> Array:
        positive = jnp.where(allowed, regret, 0.0)
        total = positive.sum()
        even = allowed / jnp.maximum(allowed.sum(), 1)
        return jnp.where(total > 0, positive / jnp.where(total > 0, total, 1.0), even)

    def improved(regret: Array, gain: Array, mixture: Array) -> Array:
        return jnp.maximum(regret + gain - mixture @ gain, 0.0)

    def step(time: Array, carry: tuple[Array, ...]) -> tuple[Array, ...]:
        row_regret, column_regret, row_sum, column_sum = carry
        y = matched(column_regret, columns)
        row_regret = improved(row_regret, payoff @ y, matched(row_regret, rows))
        x = matched(row_regret, rows)
        column_regret = improved(column_regret, -(x @ payoff), y)
        y = matched(column_regret, columns)
        return row_regret, column_regret, row_sum + (time + 1) * x, column_sum + (time + 1) * y

    zeros = jnp.zeros(payoff.shape[0]), jnp.zeros(payoff.shape[1])
    _, _, x, y = jax.lax.fori_loop(0, iterations, step, (*zeros, *zeros))
    return x / x.sum(), y / y.sum()
