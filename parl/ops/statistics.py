"""Aggregate scores with confidence intervals. Agarwal et al. 2021, arXiv:2108.13264. numpy only."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike


def iqm(scores: ArrayLike, axis: int | None = None) -> np.ndarray:
    """Interquartile mean: the mean without the lowest and the highest floor(n / 4) scores.

    Over all entries of [seeds, tasks] or [seeds], or over one axis; section 4.3.
    """
    values = np.asarray(scores, float)
    values = values.reshape(-1) if axis is None else np.moveaxis(values, axis, -1)
    n = values.shape[-1]
    if n == 0 or np.isnan(values).any():
        raise ValueError("The interquartile mean needs at least one score, and no NaN.")
    cut = n // 4
    return np.sort(values, axis=-1)[..., cut : n - cut].mean(axis=-1)


def stratified_bootstrap(
    scores: ArrayLike,
    statistic: Callable[..., np.ndarray] = iqm,
    confidence: float = 0.95,
    samples: int = 2000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """A statistic of scores [seeds, tasks] or [seeds] and its interval: (point, low, high).

    Seeds are drawn with replacement, independently for each task (section 4.1); the interval holds
    the central share `confidence` of the resampled statistics. `statistic(x, axis)` reduces one
    axis over all seeds and tasks: iqm, np.mean, np.median.
    """
    values = np.asarray(scores, float)
    if values.ndim not in (1, 2) or values.size == 0:
        raise ValueError(f"scores {values.shape} must be [seeds, tasks] or [seeds], and not empty.")
    values = values.reshape(len(values), -1)
    seeds, tasks = values.shape
    draws = np.random.default_rng(seed).integers(seeds, size=(samples, seeds, tasks))
    resampled = values[draws, np.arange(tasks)].reshape(samples, -1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(statistic(resampled, axis=-1), (tail, 1 - tail))
    return float(statistic(values.reshape(-1), axis=-1)), float(low), float(high)


def t_interval(scores: np.ndarray, confidence: float = 0.95) -> tuple[float, float, float]:
    """The mean of scores [K] and Student's t interval around it: (mean, low, high).

    Use it for few seeds, for which a bootstrap is too narrow. A single score is its own interval.
    """
    scores = np.asarray(scores, float)
    count, mean = len(scores), float(scores.mean())
    if count < 2:
        return mean, mean, mean
    from scipy.special import stdtrit  # only now: it takes a while to load

    reach = stdtrit(count - 1, (1 + confidence) / 2) * scores.std(ddof=1) / np.sqrt(count)
    return mean, float(mean - reach), float(mean + reach)


def probability_of_improvement(better: np.ndarray, worse: np.ndarray) -> float:
    """How likely a score [m] of the one is above one [n] of the other; ties count half.

    Section 4.3: Mann and Whitney's U divided by m n.
    """
    better, worse = np.asarray(better, float), np.asarray(worse, float)
    if not better.size or not worse.size:
        raise ValueError("The probability of improvement needs a score of each.")
    difference = better[:, None] - worse
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


def performance_profile(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The share of scores [...] above each of the thresholds [T]: [T], section 4.2."""
    return (np.asarray(scores, float).reshape(-1, 1) > np.asarray(thresholds)).mean(0)
