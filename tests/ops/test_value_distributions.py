"""Value distributions: targets and losses with worked numbers."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parl.ops.value_distributions import (
    Histogram,
    HLGauss,
    Huber,
    ImplicitQuantiles,
    Point,
    Quantiles,
    TwoHot,
    as_values,
    least,
    mean_of,
    pick,
    share_by_nearness,
    share_by_scatter,
    truncated_mixture,
)


def close(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def histogram(kind: type[Histogram], probs: Any, low: float = -1.0, high: float = 1.0) -> Histogram:
    return kind(jnp.log(jnp.asarray(probs)), low, high)


# -- numbers --------------------------------------------------------------------------------------


def test_point() -> None:
    """1 + 0.5 * (4 - 2) = 2 and -1 + 0 * (...) = -1; half the squared error."""
    next_values = Point(jnp.array([4.0, 7.0]))
    target = next_values.backup(jnp.array([1.0, -1.0]), jnp.array([0.5, 0.0]), jnp.array([2.0, 9]))
    close(target, [2, -1])
    values = Point(jnp.array([[3.0, -1.0], [0.0, 1.0]]))  # two critics
    close(values.loss(target), [[0.5, 0], [2, 2]])
    close(values.mean, values.value)


def test_plain_arrays_are_numbers() -> None:
    values = as_values(jnp.array([1.0, 2.0]))
    assert isinstance(values, Point) and as_values(values) is values


def test_huber_is_linear_beyond_its_width() -> None:
    values = Huber(jnp.array([1.0, 5.0]), 2.0)
    close(values.loss(jnp.array([2.0, 1.0])), [0.5, 2 * (4 - 1)])
    close(values.error(jnp.array([2.0, 1.0])), [1, 4])


# -- values of actions ----------------------------------------------------------------------------


def test_the_value_of_an_action() -> None:
    """Of arrays, atoms and logits alike, with two samples and three actions."""
    x = jnp.arange(12.0).reshape(2, 3, 2)
    index = jnp.array([2, 0])
    close(pick(x[..., 0], index), [4, 6])
    close(mean_of(pick(x[..., 0], index)), [4, 6])
    close(pick(Quantiles(x), index).atoms, [[4, 5], [6, 7]])
    close(pick(ImplicitQuantiles(x, x / 12), index).levels, [[4 / 12, 5 / 12], [6 / 12, 7 / 12]])
    found = pick(Histogram(x, 0.0, 1.0), index)
    close(found.logits, [[4, 5], [6, 7]])
    assert (found.low, found.high) == (0.0, 1.0)
    close(mean_of(Quantiles(x)), x.mean(-1))


def test_the_value_of_a_policy() -> None:
    """A quarter of the first action and three quarters of the second."""
    weights = jnp.array([0.25, 0.75])
    close(Point(jnp.array([4.0, 8.0])).mixture(weights).mean, 7)
    atoms = jnp.array([[0.0, 4.0], [8.0, 8.0]])
    close(Quantiles(atoms).mixture(weights).atoms, [6, 7])
    implicit = ImplicitQuantiles(atoms, jnp.array([[0.1, 0.2], [0.1, 0.2]])).mixture(weights)
    close(implicit.atoms, [6, 7])
    close(implicit.levels, [0.1, 0.2])
    both = histogram(Histogram, [[0.2, 0.4, 0.4], [0.6, 0.2, 0.2]])
    close(jax.nn.softmax(both.mixture(weights).logits), [0.5, 0.25, 0.25])
    close(jax.nn.softmax(both.mixture(jnp.array([1.0, 0.0])).logits), [0.2, 0.4, 0.4])


# -- quantiles ------------------------------------------------------------------------------------


def test_quantile_huber_loss() -> None:
    """Two quantiles, at 1/4 and 3/4, and three atoms.

    From the quantile 0 the errors are -2, 0.5, 3, of Huber losses 1.5, 0.125, 2.5 and weights
    |1/4 - 1|, 1/4, 1/4; from the quantile 1 they are -3, -0.5, 2, of losses 2.5, 0.125, 1.5 and
    weights 1/4, 1/4, 3/4.
    """
    low = 0.75 * 1.5 + 0.25 * 0.125 + 0.25 * 2.5
    high = 0.25 * 2.5 + 0.25 * 0.125 + 0.75 * 1.5
    values = Quantiles(jnp.array([[[0.0, 1.0]], [[1.0, 0.0]]]))  # [C = 2, B = 1, K = 2]
    target = jnp.array([[-2.0, 0.5, 3.0]])
    low_is_one = 0.75 * 2.5 + 0.75 * 0.125 + 0.25 * 1.5
    high_is_zero = 0.25 * 1.5 + 0.75 * 0.125 + 0.75 * 2.5
    close(values.loss(target), [[(low + high) / 6], [(low_is_one + high_is_zero) / 6]])
    close(values.mean, [[0.5], [0.5]])


def test_quantiles_of_any_levels() -> None:
    """At 0.1 and 0.9; errors 2 and -0.5 from 0, 1 and -1.5 from 1, of Huber losses as below."""
    values = ImplicitQuantiles(jnp.array([0.0, 1.0]), jnp.array([0.1, 0.9]))
    low = 0.1 * 1.5 + 0.9 * 0.125
    high = 0.9 * 0.5 + 0.1 * 1.0
    close(values.loss(jnp.array([2.0, -0.5])), (low + high) / 4)
    close(values.mean, 0.5)
    even = ImplicitQuantiles(jnp.array([0.0, 1.0]), jnp.array([0.25, 0.75]))
    target = jnp.array([2.0, -0.5])
    close(even.loss(target), Quantiles(even.atoms).loss(target))
    close(even.backup(jnp.array(1.0), jnp.array(0.5)), [1, 1.5])


def test_quantile_regression_finds_the_quantiles() -> None:
    """The minimum for many atoms: close to the quantiles, but for the Huber loss's smoothing."""
    atoms = jnp.asarray(np.random.default_rng(0).normal(size=2000) * 100, jnp.float32)
    values = Quantiles(jnp.zeros(4))
    grad = jax.jit(jax.grad(lambda v: v.loss(atoms)))
    for _ in range(600):
        values = jax.tree.map(lambda x, g: x - 40 * g, values, grad(values))
    close(values.atoms, np.quantile(atoms, [0.125, 0.375, 0.625, 0.875]), rtol=0.05, atol=2)


def test_quantile_targets_are_shifted_atoms() -> None:
    target = Quantiles(jnp.array([[1.0, 3.0], [5.0, 7.0]])).backup(
        jnp.array([1.0, 2.0]), jnp.array([0.5, 0.0]), jnp.array([1.0, 1.0])
    )
    close(target, [[1, 2], [2, 2]])


def test_truncation_drops_the_largest_of_all_critics() -> None:
    """Of 2 critics x 3 quantiles, 2 * 1 are dropped."""
    values = Quantiles(jnp.array([[[1.0, 5.0, 9.0]], [[2.0, 3.0, 4.0]]]))  # [2, 1, 3]
    close(truncated_mixture(values, 1).atoms, [[1, 2, 3, 4]])
    close(truncated_mixture(values, 0).atoms, [[1, 2, 3, 4, 5, 9]])
    close(truncated_mixture(values, 2).atoms, [[1, 2]])
    with pytest.raises(ValueError, match=r"drop must lie in 0 \.\. 2, it is 3"):
        truncated_mixture(values, 3)


# -- histograms -----------------------------------------------------------------------------------


def naive_projection(probs: Any, atoms: Any, support: np.ndarray) -> np.ndarray:
    """Bellemare et al. 2017, algorithm 1, one atom after the other."""
    out, width = np.zeros(len(support)), support[1] - support[0]
    for p, z in zip(probs, atoms, strict=True):
        b = (np.clip(z, support[0], support[-1]) - support[0]) / width
        lower, upper = math.floor(b), math.ceil(b)
        if lower == upper:
            out[lower] += p
        else:
            out[lower] += p * (upper - b)
            out[upper] += p * (b - lower)
    return out


def test_histogram_projection_by_hand() -> None:
    """Support -1, 0, 1. Probability 0.2 moves from 0 to 0.25, 0.8 from 1 to 0.75."""
    next_values = histogram(Histogram, [1e-30, 0.2, 0.8])
    target = next_values.backup(jnp.array(0.25), jnp.array(0.5))
    close(target, [0, 0.2 * 0.75 + 0.8 * 0.25, 0.2 * 0.25 + 0.8 * 0.75])
    close(next_values.backup(jnp.array(0.5), jnp.array(0.0)), [0, 0.5, 0.5])
    close(next_values.backup(jnp.array(7.0), jnp.array(1.0)), [0, 0, 1])  # beyond the support


@pytest.mark.parametrize("discount", [0.37, 0.99])
def test_histogram_projection_is_the_algorithm_of_the_paper(discount: float) -> None:
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(6, 21)), jnp.float32)
    values = Histogram(logits, -3.0, 2.0)
    reward, cost = rng.normal(size=(2, 6)).astype(np.float32)
    target = values.backup(reward, jnp.full(6, discount), cost)
    support = np.linspace(-3, 2, 21)
    for i in range(6):
        atoms = reward[i] + discount * (support - cost[i])
        expected = naive_projection(jax.nn.softmax(logits[i]), atoms, support)
        close(target[i], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("share", [share_by_nearness, share_by_scatter])
def test_either_way_of_sharing_probabilities(share: Callable) -> None:
    """At 0, 1.25 and the last value, 2; then two at one place, 0.5."""
    position = jnp.array([[0.0, 1.25, 2.0], [0.5, 0.5, 1.0]])
    probs = jnp.array([[0.5, 0.3, 0.2], [0.4, 0.2, 0.4]])
    close(share(position, probs, 3), [[0.5, 0.225, 0.275], [0.3, 0.7, 0.0]])
    critics = jnp.stack([probs, probs[::-1]])  # the positions have no such axis
    close(share(position, critics, 3)[1], [[0.4, 0.15, 0.45], [0.4, 0.6, 0.0]])


def test_histogram_mean_and_cross_entropy() -> None:
    values = histogram(Histogram, [[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])
    close(values.mean, [-0.25, 0.7])
    target = jnp.array([0.0, 0.5, 0.5])
    close(values.loss(target), [-math.log(0.25), -0.5 * (math.log(0.1) + math.log(0.8))])
    grad = jax.grad(lambda v: v.loss(target).sum())(values).logits
    close(grad, [[0.5, -0.25, -0.25], [0.1, -0.4, 0.3]])


def test_two_hot_shares_the_mean_of_the_target() -> None:
    """Mean 0.7; 0.2 + 0.5 * (0.7 - 0.1) = 0.5, half way between 0 and 1."""
    next_values = histogram(TwoHot, [[0.1, 0.1, 0.8]])
    target = next_values.backup(jnp.array([0.2]), jnp.array([0.5]), jnp.array([0.1]))
    close(target, [[0, 0.5, 0.5]])


def test_hl_gauss_is_the_mass_of_a_normal_in_each_interval() -> None:
    """Edges -1.5, -0.5, 0.5, 1.5; mean 0.5 and standard deviation 0.75: z = -8/3, -4/3, 0, 4/3."""
    cdf = lambda z: 0.5 * (1 + math.erf(z / math.sqrt(2)))
    mass = np.diff([cdf(z) for z in (-8 / 3, -4 / 3, 0, 4 / 3)])
    next_values = histogram(HLGauss, [0.25, 0.25, 0.5])  # mean 0.25
    target = next_values.backup(jnp.array(0.375), jnp.array(0.5))
    close(target, mass / mass.sum(), rtol=1e-4)
    fine = HLGauss(jnp.zeros(101), -5.0, 5.0)
    close((fine.backup(jnp.array(1.234), jnp.array(0.0)) * fine.support).sum(), 1.234, atol=1e-4)


# -- ensembles ------------------------------------------------------------------------------------


def test_the_least_of_points_is_their_minimum() -> None:
    q = jnp.array([[1.0, 5.0, 2.0], [3.0, 4.0, 2.0]])
    close(least(Point(q)).mean, [1, 4, 2])


def test_the_least_is_a_whole_distribution() -> None:
    values = Quantiles(jnp.array([[[0.0, 4.0], [1.0, 1.0]], [[-3.0, 8.0], [0.0, 1.0]]]))
    close(least(values).atoms, [[0, 4], [0, 1]])  # means (2, 1) and (2.5, 0.5)
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5, 7)), jnp.float32)
    chosen = least(Histogram(logits, 0.0, 1.0))
    assert isinstance(chosen, Histogram) and (chosen.low, chosen.high) == (0.0, 1.0)
    index = np.asarray(Histogram(logits, 0.0, 1.0).mean).argmin(0)
    np.testing.assert_array_equal(chosen.logits, logits[index, np.arange(5)])


# -- at the edges ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Histogram, TwoHot, HLGauss])
@pytest.mark.parametrize("reward", [1.0, -1.0, 1.5, 1e30, -3e38, np.inf])
def test_targets_beyond_the_support_lie_at_its_end(kind: type[Histogram], reward: float) -> None:
    values = histogram(kind, [[0.2, 0.6, 0.2]])
    target = values.backup(jnp.array([reward]), jnp.zeros(1))
    close(target.sum(-1), [1])
    assert target[0].argmax() == (2 if reward > 0 else 0)
    if kind is not HLGauss:
        close(target[0], [0, 0, 1] if reward > 0 else [1, 0, 0])
    assert np.isfinite(values.loss(target)).all()


@pytest.mark.parametrize("kind", [Histogram, TwoHot, HLGauss])
def test_any_logits_have_a_mean_and_a_loss(kind: type[Histogram]) -> None:
    inf = np.inf
    for logits, mean in (
        ([-inf, 0, 0], 0.5),
        ([-inf] * 3, 0),
        ([inf, 0, 0], -1),
        ([0, 0, 1e30], 1),
    ):
        values = kind(jnp.array([logits], jnp.float32), -1.0, 1.0)
        close(values.mean, [mean])
        target = values.backup(jnp.zeros(1), jnp.ones(1))
        assert np.isfinite(values.loss(target)).all()
        loss = lambda x, target=target: kind(x, -1.0, 1.0).loss(target).sum()
        slope = jax.grad(loss)(values.logits)
        assert np.isfinite(slope).all()


def test_values_behind_a_discount_of_zero_count_for_nothing() -> None:
    bad, reward, discount = jnp.array([np.nan, np.inf, 4.0]), jnp.ones(3), jnp.array([0.0, 0, 0.5])
    close(Point(bad).backup(reward, discount), [1, 1, 3])
    close(Quantiles(bad[:, None]).backup(reward, discount), [[1], [1], [3]])


@pytest.mark.parametrize(("count", "low", "high"), [(1, -1.0, 1.0), (3, 1.0, 1.0), (3, 2.0, -2.0)])
def test_a_histogram_needs_a_range(count: int, low: float, high: float) -> None:
    values = Histogram(jnp.zeros((1, count)), low, high)
    with pytest.raises(ValueError, match="at least two values with low < high"):
        values.backup(jnp.zeros(1), jnp.ones(1))


# -- against rlax ---------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_targets_and_losses_of_rlax() -> None:
    """Its projection, cross entropy and quantile losses, with random numbers."""
    rlax = pytest.importorskip("rlax")
    rng = np.random.default_rng(1)
    logits, now = rng.normal(size=(2, 4, 21)).astype(np.float32)
    reward, discount = rng.normal(size=(2, 4)).astype(np.float32)
    values = Histogram(jnp.asarray(logits), -3.0, 2.0)
    atoms = reward[:, None] + discount[:, None] * values.support
    probs = jax.nn.softmax(logits)
    theirs = jax.vmap(rlax.categorical_l2_project, (0, 0, None))(atoms, probs, values.support)
    target = values.backup(reward, discount)
    close(target, theirs, atol=1e-5)
    cross = jax.vmap(rlax.categorical_cross_entropy)(theirs, now)
    close(Histogram(jnp.asarray(now), -3.0, 2.0).loss(target), cross, rtol=1e-4)
    # rlax sums over the levels where ours is a mean
    atoms, wanted = rng.normal(size=(4, 5)).astype(np.float32), rng.normal(size=(4, 7)) * 3
    taus = np.sort(rng.random((4, 5)), -1).astype(np.float32)
    wanted = jnp.asarray(wanted, jnp.float32)
    loss = lambda x, taus: jax.vmap(rlax.quantile_regression_loss, (0, 0, 0, None))(
        x, taus, wanted, 1.0
    )
    close(
        ImplicitQuantiles(jnp.asarray(atoms), jnp.asarray(taus)).loss(wanted), loss(atoms, taus) / 5
    )
    even = np.broadcast_to((np.arange(5) + 0.5) / 5, (4, 5)).astype(np.float32)
    close(Quantiles(jnp.asarray(atoms)).loss(wanted), loss(atoms, even) / 5)
