"""Worked numbers, properties under masks and at the edges, and distrax against ours."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parl import ops

KEY = jax.random.key(0)
LN2, LN3 = math.log(2), math.log(3)
HALF_LOG_2PI = 0.9189385


def close(x, expected, atol=1e-5, **kwargs):
    np.testing.assert_allclose(x, expected, rtol=1e-5, atol=atol, **kwargs)


def test_categorical():
    pi = ops.Categorical(jnp.log(jnp.array([0.5, 0.25, 0.25])) + 7)
    uniform = ops.Categorical(jnp.zeros(3))
    close(pi.log_prob(jnp.array(1)), -2 * LN2)
    close(pi.entropy(), 1.5 * LN2)
    close(pi.kl(uniform), LN3 - 1.5 * LN2)
    close(uniform.kl(pi), 5 / 3 * LN2 - LN3)
    close(pi.kl(pi), 0)
    assert pi.mode() == 0 and pi.mode().dtype == jnp.int32


def test_categorical_samples():
    pi = ops.Categorical(jnp.broadcast_to(jnp.log(jnp.array([0.5, 0.2, 0.3])), (4000, 3)))
    action, log_prob = pi.sample_and_log_prob(KEY)
    assert action.shape == (4000,) and action.dtype == jnp.int32
    close(np.bincount(action) / 4000, [0.5, 0.2, 0.3], atol=0.03)
    close(log_prob, pi.log_prob(action))
    np.testing.assert_array_equal(pi.sample(KEY), action)


LEGAL = jnp.array([True, False, True, False])
LOGITS = jnp.array([1.0, 50, 1, -3])  # the illegal action would be nearly certain


def test_a_masked_categorical_lives_on_the_legal_actions():
    pi = ops.Categorical(LOGITS).masked(LEGAL)
    np.testing.assert_array_equal(pi.probs, [0.5, 0, 0.5, 0])
    close(pi.entropy(), LN2)
    close(pi.log_prob(jnp.array(2)), -LN2)
    assert pi.mode() == 0
    close(pi.kl(ops.Categorical(jnp.zeros(4)).masked(LEGAL)), 0)
    many = ops.Categorical(jnp.broadcast_to(LOGITS, (10_000, 4))).masked(LEGAL)
    assert set(many.sample(KEY).tolist()) == {0, 2}


@pytest.mark.parametrize("legal", [LEGAL, [False, True, False, False], [False] * 4])
def test_masked_gradients_are_finite(legal):
    legal = jnp.array(legal)

    def loss(logits):
        pi = ops.Categorical(logits).masked(legal)
        return pi.entropy() + pi.log_prob(jnp.argmax(legal)) + pi.kl(ops.Categorical(LOGITS))

    value, grad = jax.jit(jax.value_and_grad(loss))(LOGITS)
    assert jnp.isfinite(value) and jnp.isfinite(grad).all()
    np.testing.assert_array_equal(grad[~legal], 0)


def test_multi_categorical_is_the_sum_of_its_parts():
    logits = (jnp.log(jnp.array([[0.5, 0.5]])), jnp.log(jnp.array([[0.5, 0.25, 0.25]])))
    pi = ops.MultiCategorical(logits)
    close(pi.log_prob(jnp.array([[1, 2]])), [-3 * LN2])
    close(pi.entropy(), [2.5 * LN2])
    close(pi.kl(ops.MultiCategorical((jnp.zeros((1, 2)), jnp.zeros((1, 3))))), [LN3 - 1.5 * LN2])
    np.testing.assert_array_equal(pi.mode(), [[0, 0]])
    with pytest.raises(ValueError, match="axis of 2"):
        pi.log_prob(jnp.array([[1, 2, 0]]))


def test_multi_categorical_samples_each_part_by_itself():
    shares = jnp.array([0.5, 0.5]), jnp.array([0.2, 0.3, 0.5])
    pi = ops.MultiCategorical(tuple(jnp.broadcast_to(jnp.log(p), (4000, len(p))) for p in shares))
    action, log_prob = pi.sample_and_log_prob(KEY)
    assert action.shape == (4000, 2) and action.dtype == jnp.int32
    joint = np.histogram2d(*np.array(action).T, bins=(2, 3))[0] / 4000
    close(joint, np.outer(*shares), atol=0.03)
    close(log_prob, pi.log_prob(action))


def test_normal():
    pi = ops.Normal(jnp.array([0.0, 3.0]), jnp.log(jnp.array([1.0, 2.0])))
    close(pi.log_prob(jnp.array([0.0, 5.0])), -2 * HALF_LOG_2PI - LN2 - 0.5)
    close(pi.entropy(), 2 * HALF_LOG_2PI + 1 + LN2)
    np.testing.assert_array_equal(pi.mode(), [0, 3])
    unit, wide = ops.Normal(jnp.zeros(1), jnp.zeros(1)), ops.Normal(jnp.ones(1), jnp.full(1, LN2))
    close(unit.kl(wide), LN2 + 2 / 8 - 0.5)
    close(wide.kl(unit), -LN2 + 5 / 2 - 0.5)


def test_normal_with_one_log_std_for_all_states():
    pi = ops.Normal(jnp.zeros((5, 2)), jnp.zeros(2))
    close(pi.entropy(), [2 * HALF_LOG_2PI + 1] * 5)
    close(pi.log_prob(jnp.zeros((5, 2))), [-2 * HALF_LOG_2PI] * 5)
    close(pi.kl(pi), [0] * 5)
    assert pi.sample(KEY).shape == (5, 2)


def test_normal_samples():
    pi = ops.Normal(jnp.full((5000, 1), 3.0), jnp.full((5000, 1), LN2))
    action, log_prob = pi.sample_and_log_prob(KEY)
    close(action.mean(), 3, atol=0.1)
    close(action.std(), 2, atol=0.1)
    close(log_prob, pi.log_prob(action))


def test_a_tiny_std_does_not_round_the_log_prob_away():
    pi = ops.Normal(jnp.full((1000, 1), 5.0), jnp.full((1000, 1), -20.0))
    log_prob = pi.sample_and_log_prob(KEY)[1]
    close(log_prob.mean(), 20 - HALF_LOG_2PI - 0.5, atol=0.1)
    assert log_prob.std() > 0.5


def test_tanh_normal():
    pi = ops.TanhNormal(jnp.array([0.0]), jnp.array([0.0]))
    close(pi.log_prob(jnp.array([0.0])), -HALF_LOG_2PI)
    # x = artanh(0.5) = ln(3) / 2, slope 1 - 0.25
    close(pi.log_prob(jnp.array([0.5])), -HALF_LOG_2PI - LN3**2 / 8 - math.log(0.75))
    close(ops.TanhNormal(jnp.array([LN3 / 2]), jnp.zeros(1)).mode(), [0.5])
    assert not hasattr(pi, "entropy")


def test_tanh_normal_density_integrates_to_one():
    action = jnp.linspace(-1, 1, 20_001)[1:-1, None]
    for mean, log_std in [(0.0, -1.0), (0.7, 0.0), (-0.5, -0.5)]:
        pi = ops.TanhNormal(jnp.full((1, 1), mean), jnp.full((1, 1), log_std))
        close(jnp.exp(pi.log_prob(action)).sum() * 1e-4, 1, atol=1e-3)


def test_tanh_normal_samples():
    pi = ops.TanhNormal(jnp.full((1000, 2), 0.3), jnp.full((1000, 2), -0.7))
    action, log_prob = pi.sample_and_log_prob(KEY)
    assert action.shape == (1000, 2) and log_prob.shape == (1000,)
    close(log_prob, pi.log_prob(action), atol=1e-3)
    close(jnp.arctanh(action).mean(), 0.3, atol=0.05)
    np.testing.assert_array_equal(pi.sample(KEY), action)


def test_tanh_normal_is_finite_where_the_action_rounds_to_one():
    def sampled(mean, log_std):
        action, log_prob = ops.TanhNormal(mean, log_std).sample_and_log_prob(KEY)
        return log_prob, action

    mean, log_std = jnp.array([20.0]), jnp.array([-2.0])
    (log_prob, action), grads = jax.jit(jax.value_and_grad(sampled, (0, 1), has_aux=True))(
        mean, log_std
    )
    assert action == 1.0
    # -log(1 - tanh(x)^2) = 2 x - 2 ln 2 here, so d/dmean = 2
    noise = jax.random.normal(KEY, (1,))
    x = 20 + math.exp(-2) * noise
    close(log_prob, (-0.5 * noise**2 + 2 - HALF_LOG_2PI + 2 * x - 2 * LN2)[0], atol=1e-4)
    close(grads[0], [2])
    assert jnp.isfinite(grads[1]).all()

    def replayed(mean):
        return ops.TanhNormal(mean, log_std).log_prob(jnp.array([[1.0], [-1.0]])).sum()

    value, grad = jax.jit(jax.value_and_grad(replayed))(jnp.array([0.5]))
    assert jnp.isfinite(value) and jnp.isfinite(grad).all()


def test_distributions_are_pytrees():
    pi = jax.jit(ops.Normal)(jnp.zeros((4, 2)), jnp.zeros((4, 2)))
    assert isinstance(pi, ops.Normal)
    each = jax.vmap(lambda pi, key: pi.sample(key))(pi, jax.random.split(KEY, 4))
    assert each.shape == (4, 2)
    assert len(jax.tree.leaves(ops.MultiCategorical((jnp.zeros(2), jnp.zeros(3))))) == 2


# Against distrax, on two rows each.
LOGITS_P: Any = np.array([[0.3, -1.2, 2.0], [0.0, 0.5, -0.5]], "f4")
LOGITS_Q: Any = np.array([[1.0, 0.4, -0.7], [-2.0, 0.1, 0.6]], "f4")
MEAN_P, MEAN_Q = np.array([[[0.1, -0.8], [1.3, 0.4]], [[-0.2, 0.5], [0.9, 1.1]]], "f4")
LOG_STD_P, LOG_STD_Q = np.array([[[-0.5, 0.2], [0.0, -1.0]], [[0.3, -0.1], [-0.6, 0.4]]], "f4")
CHOICE: Any = np.array([2, 1], "i4")
ACTION: Any = np.array([[0.5, -0.9], [-0.3, 0.95]], "f4")

DISTRAX = {
    "categorical_log_prob": [-0.201671, -0.68027],
    "categorical_entropy": [0.562129, 1.020191],
    "categorical_kl": [1.396365, 0.55103],
    "normal_log_prob": [-1.758691, -3.235471],
    "normal_entropy": [2.537877, 1.837877],
    "normal_kl": [1.568789, 1.866159],
    "tanh_normal_log_prob": [-0.015294, -7.284708],
}


def ours():
    p, q = ops.Categorical(LOGITS_P), ops.Categorical(LOGITS_Q)
    normal_p, normal_q = ops.Normal(MEAN_P, LOG_STD_P), ops.Normal(MEAN_Q, LOG_STD_Q)
    return {
        "categorical_log_prob": p.log_prob(CHOICE),
        "categorical_entropy": p.entropy(),
        "categorical_kl": p.kl(q),
        "normal_log_prob": normal_p.log_prob(ACTION),
        "normal_entropy": normal_p.entropy(),
        "normal_kl": normal_p.kl(normal_q),
        "tanh_normal_log_prob": ops.TanhNormal(MEAN_P, LOG_STD_P).log_prob(ACTION),
    }


def theirs(distrax):
    p, q = distrax.Categorical(LOGITS_P), distrax.Categorical(LOGITS_Q)
    normal_p = distrax.MultivariateNormalDiag(MEAN_P, jnp.exp(LOG_STD_P))
    normal_q = distrax.MultivariateNormalDiag(MEAN_Q, jnp.exp(LOG_STD_Q))
    tanh_p = distrax.Transformed(normal_p, distrax.Block(distrax.Tanh(), 1))
    return {
        "categorical_log_prob": p.log_prob(CHOICE),
        "categorical_entropy": p.entropy(),
        "categorical_kl": p.kl_divergence(q),
        "normal_log_prob": normal_p.log_prob(ACTION),
        "normal_entropy": normal_p.entropy(),
        "normal_kl": normal_p.kl_divergence(normal_q),
        "tanh_normal_log_prob": tanh_p.log_prob(ACTION),
    }


def test_numbers_of_distrax():
    found = jax.jit(ours)()
    assert found.keys() == DISTRAX.keys()
    for name, x in found.items():
        close(x, DISTRAX[name], err_msg=name)


@pytest.mark.filterwarnings("ignore")
def test_distrax_gives_these_numbers():
    distrax = pytest.importorskip("distrax")
    for name, x in theirs(distrax).items():
        close(x, DISTRAX[name], err_msg=name)


# -- at the edges ---------------------------------------------------------------------------------


def finite(tree):
    return all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(tree))


@pytest.mark.parametrize("kind", [ops.Normal, ops.TanhNormal])
def test_any_spread_has_finite_numbers_and_gradients(kind):
    """Below e^-88 the inverse of a standard deviation is infinite in float32."""
    log_std = jnp.array([-200.0, -100, -88, -50, -31, -10, 0, 31, 50, 100])
    mean = jnp.array([0.0, 0.5, -3, 1e4])
    action = jnp.array([0.0, 0.5, 1, -1, 0.9999999])
    grid = [x.reshape(-1, 1) for x in jnp.meshgrid(log_std, mean, action)]
    log_prob = lambda log_std, mean, action: kind(mean, log_std).log_prob(action).sum()
    assert finite(kind(grid[1], grid[0]).log_prob(grid[2]))
    assert finite(jax.grad(log_prob, (0, 1, 2))(*grid))

    def sampled(log_std, mean):
        action, log_prob = kind(mean, log_std).sample_and_log_prob(KEY)
        return action.sum() + log_prob.sum(), (action, log_prob)

    assert finite(jax.grad(sampled, (0, 1), has_aux=True)(*grid[:2]))


def test_the_mode_of_a_narrow_normal():
    """At the mean the log-density is -log_std - log(2 pi) / 2, however small the spread."""
    pi = ops.Normal(jnp.full((2, 1), 0.3), jnp.array([[-100.0], [-5.0]]))
    close(pi.log_prob(pi.mean), [100 - 0.918939, 5 - 0.918939], atol=1e-4)
    assert pi.log_prob(pi.mean + 1)[0] < -1e20


def test_distances_of_narrow_and_wide_normals_are_finite():
    kl = lambda a, b: ops.Normal(jnp.ones(1), a).kl(ops.Normal(jnp.zeros(1), b))
    for a, b in ((-100.0, 100.0), (100.0, -100.0), (0.0, -100.0)):
        args = jnp.array([a]), jnp.array([b])
        assert finite((kl(*args), jax.grad(kl, (0, 1))(*args)))
    close(kl(jnp.zeros(1), jnp.zeros(1)), 0.5)


INF = np.inf


OF_LOGITS = {
    name: jax.jit(jax.value_and_grad(function))
    for name, function in {
        "entropy": lambda x: ops.Categorical(x).entropy(),
        "log_probs": lambda x: ops.Categorical(x).log_probs.sum(),
        "kl": lambda x: ops.Categorical(x).kl(ops.Categorical(jnp.roll(x, 1))),
    }.items()
}


@pytest.mark.parametrize(
    ("logits", "probs", "entropy"),
    [
        ([-INF, 0.0, 0.0], [0, 0.5, 0.5], np.log(2)),
        ([-INF, -INF, -INF], [1 / 3] * 3, np.log(3)),
        ([-1e9, -1e9, -1e9], [1 / 3] * 3, np.log(3)),
        ([INF, 0.0, 0.0], [1, 0, 0], 0),
        ([1e30, 2e30, 0.0], [0, 1, 0], 0),
        ([3e38, -3e38, 0.0], [1, 0, 0], 0),
        ([5.0], [1], 0),
    ],
)
def test_categorical_of_any_logits(logits, probs, entropy):
    logits = jnp.array(logits)
    pi = ops.Categorical(logits)
    close(pi.probs, probs)
    close(pi.entropy(), entropy)
    close(pi.kl(pi), 0)
    for name, function in OF_LOGITS.items():
        assert finite(function(logits)), name
    drawn = ops.Categorical(jnp.tile(logits, (600, 1))).sample(KEY)
    close(np.bincount(drawn, minlength=len(probs)) / 600, probs, atol=0.08)
