import numpy as np
import pytest

from parl import ops

# Four seeds of two tasks.
SCORES = np.array([[1.0, 8], [7, 2], [3, 6], [5, 4]])
RANDOM = np.random.default_rng(1).normal(size=(10, 5)).round(2)
RLIABLE = (0.005385, -0.209615, 0.214625)  # iqm, low, high of 20,000 samples


def test_iqm_over_all_entries():
    assert ops.iqm(SCORES) == 4.5  # of 1 .. 8 it keeps 3, 4, 5, 6
    assert ops.iqm([1, 2, 3, 4, 100]) == 3  # floor(5 / 4) = 1 score off each end
    assert ops.iqm([1, 2, 6]) == 3  # nothing to trim
    assert ops.iqm([5]) == 5


def test_iqm_over_one_axis():
    np.testing.assert_array_equal(ops.iqm(SCORES, axis=0), [4, 5])
    np.testing.assert_array_equal(ops.iqm([[1, 9, 2, 3], [4, 4, 5, 0]], axis=-1), [2.5, 4])


@pytest.mark.parametrize("shape", [(3,), (7,), (10, 5), (3, 3)])
def test_iqm_is_the_trimmed_mean_of_scipy(shape):
    scores = np.random.default_rng(0).normal(size=shape)
    from scipy import stats  # only now: it takes a second to load

    flat = stats.trim_mean(np.ravel(scores), 0.25)
    np.testing.assert_allclose(ops.iqm(scores), flat)


def test_iqm_refuses_nan_and_nothing():
    for scores in ([], [1.0, np.nan, 2]):
        with pytest.raises(ValueError, match="at least one score, and no NaN"):
            ops.iqm(scores)


def test_bootstrap_is_deterministic_and_ordered():
    point, low, high = ops.stratified_bootstrap(RANDOM)
    assert point == ops.iqm(RANDOM) and low < point < high
    assert ops.stratified_bootstrap(RANDOM) == (point, low, high)
    assert ops.stratified_bootstrap(RANDOM, seed=1) != (point, low, high)
    narrow = ops.stratified_bootstrap(RANDOM, confidence=0.5)
    assert low < narrow[1] < narrow[2] < high


def test_bootstrap_is_stratified_by_task():
    # Tasks without noise: drawing across tasks would give an interval, drawing within gives none.
    scores = np.tile([0.0, 100, 7, 3], (5, 1))
    assert ops.stratified_bootstrap(scores) == (5, 5, 5)


def test_bootstrap_draws_each_task_by_itself():
    # The seeds of the tasks cancel; only independent draws see the variance of the mean.
    seeds = np.random.default_rng(0).normal(size=100)
    scores = np.stack([seeds, -seeds], axis=1)
    point, low, high = ops.stratified_bootstrap(scores, np.mean)
    half_width = 1.96 * seeds.std() / np.sqrt(200)
    np.testing.assert_allclose(point, 0, atol=1e-12)
    np.testing.assert_allclose([low, high], [-half_width, half_width], rtol=0.1)


def test_bootstrap_of_one_task_and_other_statistics():
    column = RANDOM[:, 0]
    assert ops.stratified_bootstrap(column) == ops.stratified_bootstrap(column[:, None])
    assert ops.stratified_bootstrap(SCORES, np.median)[0] == 4.5
    assert ops.stratified_bootstrap([3.0]) == (3, 3, 3)
    with pytest.raises(ValueError, match="must be"):
        ops.stratified_bootstrap(np.zeros((2, 2, 2)))


def test_numbers_of_rliable():
    np.testing.assert_allclose(ops.stratified_bootstrap(RANDOM, samples=20_000), RLIABLE, atol=0.02)


@pytest.mark.filterwarnings("ignore")
def test_rliable_gives_these_numbers():
    library = pytest.importorskip("rliable.library")
    metrics = pytest.importorskip("rliable.metrics")
    point, interval = library.get_interval_estimates(
        {"x": RANDOM}, lambda x: np.array([metrics.aggregate_iqm(x)]), reps=2000,
        random_state=np.random.RandomState(0),
    )  # fmt: skip
    np.testing.assert_allclose([point["x"][0], *interval["x"][:, 0]], RLIABLE, atol=0.02)
