"""Whole episodes that a form of a policy plays."""

from typing import Any

import jax
import numpy as np

from parl.deploy.backends import Backend
from parl.deploy.compiler import names_of
from parl.deploy.names import ACTION
from parl.deploy.observed import WIDTH
from parl.deploy.rows import forgotten
from parl.envs.factory import EnvFactory
from parl.runs.episodes import RULES

NORMAL = 1.96  # standard errors of an interval that holds the mean in 95 of 100 cases
AWAY = 3.0  # standard errors that two means may differ by


def returns_of(
    factory: EnvFactory, act: Backend, start: dict[str, np.ndarray], episodes: int, seed: int
) -> np.ndarray:
    """Returns [episodes], of several agents their sums; the same seed opens the same episodes.

    Environment i of B plays its share of them, and they are in the order of environments. An
    episode is cut where evaluation cuts it.
    """
    spec, width = factory.spec, min(WIDTH, episodes)
    share = np.full(width, episodes // width)
    share[: episodes % width] += 1
    limit = RULES.limit(spec)
    opening = {name: np.repeat(x[None], width, 0) for name, x in start.items()}
    env = factory.vector(width, seed, 0)
    played: list[list[float]] = [[] for _ in range(width)]
    total, length = np.zeros(width), np.zeros(width, int)
    memory, first = opening, np.ones(width, bool)
    try:
        obs = env.reset()
        while share.any():
            memory = forgotten(memory, opening, first)
            seen = dict(zip(names_of(obs), map(np.asarray, jax.tree.leaves(obs)), strict=True))
            outputs = act(seen | memory, width)
            memory = {name: outputs[name] for name in memory}
            new = env.step(outputs[ACTION])
            total += np.asarray(new.reward, float).reshape(width, -1).sum(-1)
            length += 1
            first = np.asarray(new.terminated | new.truncated)
            over = first | (length >= limit)
            for i in np.flatnonzero(over & (share > 0)):
                played[i].append(float(total[i]))
            share = np.where(over & (share > 0), np.where(first, share - 1, 0), share)
            total, length = np.where(over, 0.0, total), np.where(over, 0, length)
            obs = new.obs
    finally:
        env.close()
    return np.concatenate(played)


def half_interval(numbers: Any) -> float:
    """Half of the interval of 95 % of the mean of some numbers; 0 of a single one."""
    if len(numbers) < 2:
        return 0.0
    return float(NORMAL * np.std(numbers, ddof=1) / np.sqrt(len(numbers)))


def summary(returns: np.ndarray) -> dict[str, Any]:
    """The mean of some returns, and the half of its interval of 95 %."""
    return {
        "return_mean": float(returns.mean()),
        "interval": half_interval(returns),
        "episodes": len(returns),
    }


def difference(form: str, found: dict[str, Any], want: dict[str, Any], part: float) -> list[str]:
    """A sentence where a form's mean return is too far below that of JAX.

    By more than AWAY standard errors of the difference, and than a part of the mean.
    """
    error = np.hypot(found["interval"], want["interval"]) / NORMAL
    room = max(AWAY * error, part * abs(want["return_mean"]))
    if found["return_mean"] >= want["return_mean"] - room - 1e-6:
        return []
    means = f"{found['return_mean']:,.2f} in place of {want['return_mean']:,.2f}"
    return [f"{form}: the mean return of {found['episodes']} episodes is {means}."]
