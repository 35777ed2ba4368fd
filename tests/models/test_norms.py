"""Normalisation: statistics with worked numbers, and when they are renewed."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from parl.models import modes
from parl.models.ensemble import Ensemble
from parl.models.mlp import MLP
from parl.models.norms import BatchNorm, Dropout, RMSNorm, unit

KEY = jax.random.key(0)
X = np.array([[0.0, 2.0], [4.0, 2.0], [2.0, 8.0], [2.0, 0.0]], np.float32)  # means 2, 3; var 2, 9


def close(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def statistics(mean: Any, var: Any, batches: float = 0.0) -> dict[str, Any]:
    parts = {"mean": mean, "var": var, "batches": batches}
    return {name: jnp.asarray(x, jnp.float32) for name, x in parts.items()}


def variables(mean: Any, var: Any, batches: float = 0.0) -> dict[str, Any]:
    """Scale 2 and bias 1 for two features."""
    params = {"scale": jnp.full(2, 2.0), "bias": jnp.ones(2)}
    return {"params": params, "batch_stats": statistics(mean, var, batches)}


# -- batch normalisation --------------------------------------------------------------------------


def test_batch_norm_in_training() -> None:
    """The batch's own moments, and running ones that go a tenth of the way."""
    norm = BatchNorm(momentum=0.9, epsilon=0.0)
    out, new = modes.train(norm, variables([10, 20], [1, 4]), X, key=KEY)
    close(out, 2 * (X - [2, 3]) / np.sqrt([2, 9]) + 1)
    close(new["batch_stats"]["mean"], [9.2, 18.3])
    close(new["batch_stats"]["var"], [1.1, 4.5])
    assert new["batch_stats"]["batches"] == 1


def test_batch_norm_frozen() -> None:
    norm = BatchNorm(epsilon=0.0)
    params = variables([10, 20], [1, 4])
    close(norm.apply(params, X), 2 * (X - [10, 20]) / [1, 2] + 1)
    close(modes.perturb(norm, params, X, key=KEY), 2 * (X - [10, 20]) / [1, 2] + 1)


def test_batch_norm_is_that_of_flax() -> None:
    """Values, gradients and statistics, over two leading axes."""
    x = jax.random.normal(KEY, (3, 5, 4)) * 3 + 1
    ours, theirs = BatchNorm(), nn.BatchNorm(use_running_average=False, epsilon=1e-3)
    params = ours.init(KEY, x)
    other = theirs.init(KEY, x)
    loss = lambda out: (jnp.sin(out) * x).sum()
    mine = lambda x: loss(modes.train(ours, params, x, key=KEY)[0])
    flax = lambda x: loss(theirs.apply(other, x, mutable="batch_stats")[0])
    close(mine(x), flax(x), rtol=1e-4)
    close(jax.grad(mine)(x), jax.grad(flax)(x), rtol=1e-3, atol=1e-4)
    new = modes.train(ours, params, x, key=KEY)[1]["batch_stats"]
    expected = theirs.apply(other, x, mutable="batch_stats")[1]["batch_stats"]
    for name in ("mean", "var"):
        close(new[name], expected[name], rtol=1e-4)


def test_initialisation_leaves_the_statistics_at_zero_and_one() -> None:
    state = BatchNorm().init(KEY, X)["batch_stats"]
    np.testing.assert_array_equal(state["mean"], [0, 0])
    np.testing.assert_array_equal(state["var"], [1, 1])
    assert state["batches"] == 0


# -- batch renormalisation ------------------------------------------------------------------------


def test_renormalisation_corrects_to_the_running_moments() -> None:
    """Ioffe 2017: as by the running moments, as long as neither factor is clipped."""
    norm = BatchNorm(epsilon=0.0, renorm_after=0, momentum=0.9)
    out, new = modes.train(norm, variables([3, 2], [1, 4]), X, key=KEY)
    close(out, 2 * (X - [3, 2]) / [1, 2] + 1)
    close(new["batch_stats"]["mean"], [0.9 * 3 + 0.2, 0.9 * 2 + 0.3])


def test_renormalisation_is_clipped() -> None:
    """Spreads sqrt 2 and 3 against 10 and 0.1; means 2 and 3 against 102 and 2.8."""
    norm = BatchNorm(epsilon=0.0, renorm_after=0, r_max=3.0, d_max=5.0)
    out, _ = modes.train(norm, variables([102, 2.8], [100, 0.01]), X, key=KEY)
    standard = (X - [2, 3]) / np.sqrt([2, 9])
    close(out, 2 * (standard * [1 / 3, 3] + [-5, 2]) + 1, rtol=1e-4)


def test_renormalisation_starts_after_its_warm_up() -> None:
    """Until then it is batch normalisation, and the batches are counted."""
    norm = BatchNorm(epsilon=0.0, renorm_after=2)
    plain = 2 * (X - [2, 3]) / np.sqrt([2, 9]) + 1
    renormed = 2 * (X - [3, 2]) / [1, 2] + 1
    for batches, expected in ((0, plain), (1, plain), (2, renormed), (3, renormed)):
        out, new = modes.train(norm, variables([3, 2], [1, 4], batches), X, key=KEY)
        close(out, expected)
        assert new["batch_stats"]["batches"] == batches + 1


def test_no_gradient_flows_through_the_correction() -> None:
    """d out / d x is that of batch normalisation, times r."""
    batch = lambda norm: (
        lambda x: (modes.train(norm, variables([3, 2], [1, 4]), x, key=KEY)[0] ** 2).sum(0)
    )
    jacobian = jax.jacobian(batch(BatchNorm(epsilon=0.0, renorm_after=0)))(X)
    r, d = np.sqrt([2, 9]) / [1, 2], (np.array([2, 3]) - [3, 2]) / [1, 2]

    def expected(x: Any) -> Any:
        standard = (x - x.mean(0)) / x.std(0)
        return ((2 * (standard * r + d) + 1) ** 2).sum(0)

    close(jacobian, jax.jacobian(expected)(jnp.asarray(X)), rtol=1e-4, atol=1e-4)


# -- the others -----------------------------------------------------------------------------------


def test_rms_norm() -> None:
    """3 and 4 have a root mean square of sqrt 12.5."""
    norm = RMSNorm(epsilon=0.0)
    out = norm.apply({"params": {"scale": jnp.array([1.0, 2.0])}}, jnp.array([[3.0, 4.0]]))
    close(out, [[3 / np.sqrt(12.5), 8 / np.sqrt(12.5)]])
    x = jax.random.normal(KEY, (5, 6))
    params = RMSNorm().init(KEY, x)
    close(RMSNorm().apply(params, x), nn.RMSNorm().apply(params, x))


def test_dropout_needs_a_key() -> None:
    x = jnp.ones((200, 50))
    drop = Dropout(0.2)
    close(drop.apply({}, x), x)
    out = np.asarray(modes.perturb(drop, {}, x, key=KEY))
    assert set(np.unique(out)) == {0.0, np.float32(1.25)}
    close((out == 0).mean(), 0.2, atol=0.02)
    assert (out != modes.perturb(drop, {}, x, key=jax.random.key(1))).any()
    close(modes.train(Dropout(0.0), {}, x, key=KEY)[0], x)


def test_members_of_an_ensemble_have_their_own_statistics_and_dropout() -> None:
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            return Dropout(0.5)(BatchNorm()(nn.Dense(8)(x)))

    net = Ensemble(Net(), 3)
    params = net.init(KEY, X)
    out, new = modes.train(net, params, X, key=KEY)
    moments = jax.tree.leaves(new["batch_stats"])
    assert out.shape == (3, 4, 8) and {x.shape[0] for x in moments} == {3}
    assert len(np.unique(np.asarray(out) == 0, axis=0)) == 3
    stacked = jax.tree.map(lambda x: x[1], params)["params"]["member"]
    dense = X @ stacked["Dense_0"]["kernel"]
    mean = new["batch_stats"]["member"]["BatchNorm_0"]["mean"][1]
    close(mean, 0.01 * dense.mean(0), rtol=1e-4)


def test_unit_vectors_and_their_gradient_at_zero() -> None:
    close(unit(jnp.array([[3.0, 4.0], [0.0, 0.0]])), [[0.6, 0.8], [0, 0]])
    close(unit(jnp.array([[3.0], [4.0]]), axis=0), [[0.6], [0.8]])
    assert np.isfinite(jax.grad(lambda x: unit(x).sum())(jnp.zeros(3))).all()


def test_layers_without_statistics_do_not_notice_training() -> None:
    net = MLP((4,))
    params = net.init(KEY, X)
    out, new = modes.train(net, params, X, key=KEY)
    np.testing.assert_array_equal(out, net.apply(params, X))
    assert new == {} and modes.renew(params, new) is params
