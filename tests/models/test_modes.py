"""Statistics in the parameters' tree, and weights of fixed norm."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from parl.algorithms.shared.critics import init_net, learn
from parl.core.errors import ConfigError
from parl.models import modes
from parl.models.norms import BatchNorm, RMSNorm
from parl.models.torsos import BatchNormMLP, FlashTorso, SimBaV2, UnitDense

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32) * 2 + 1


class Times:
    """A model that is no linen module."""

    def init(self, key: Any, *inputs: Any) -> Any:
        return jnp.float32(2)

    def apply(self, params: Any, *inputs: Any, method: Any = None) -> Any:
        return params * inputs[0]


def test_any_model_can_be_trained() -> None:
    out, new = modes.train(Times(), jnp.float32(2), X, key=KEY)
    np.testing.assert_array_equal(out, 2 * X)
    assert new == {} and modes.renew(jnp.float32(2), new) == 2
    np.testing.assert_array_equal(modes.perturb(Times(), jnp.float32(3), X, key=KEY), 3 * X)
    assert modes.project(jnp.float32(2)) == 2


def test_renewing_changes_the_statistics_only() -> None:
    net = BatchNormMLP((4,))
    params = net.init(KEY, X)
    after = modes.renew(params, modes.train(net, params, X, key=KEY)[1])
    assert after["params"] is params["params"]
    assert jax.tree.structure(after) == jax.tree.structure(params)
    first = after["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(first["mean"], 0.01 * X.mean(0), rtol=1e-5)
    np.testing.assert_allclose(first["var"], 0.99 + 0.01 * X.var(0), rtol=1e-5)


def test_the_optimiser_leaves_statistics_to_the_batches() -> None:
    """Adam's step is 0 where the gradient is; weight decay is masked."""
    net = BatchNormMLP((4,), renorm_after=0)
    optimizer = optax.adamw(0.1, weight_decay=0.5, mask=modes.decayed)
    before = init_net(optimizer, net.init(KEY, X))

    def loss(params: Any) -> Any:
        out, new = modes.train(net, params, X, key=KEY)
        return (out**2).sum(), ({}, new)

    after, _ = jax.jit(lambda net: learn(optimizer, loss, net))(before)
    expected = modes.train(net, before.params, X, key=KEY)[1]["batch_stats"]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
        after.params["batch_stats"],
        expected,
    )
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), after.params, before.params)["params"]
    assert all(jax.tree.leaves(moved))


def test_unit_columns() -> None:
    layer = UnitDense(5)
    params = layer.init(KEY, X)
    params = jax.tree.map(lambda x: 7 * x + 1, params)
    kernel = modes.project(params)["params"]["unit_kernel"]
    np.testing.assert_allclose((kernel**2).sum(0), np.ones(5), rtol=1e-5)
    old = params["params"]["unit_kernel"]
    np.testing.assert_allclose(kernel, old / np.linalg.norm(old, axis=0), rtol=1e-5)
    stacked = {"member": {"unit_kernel": jnp.stack([old, 2 * old])}}
    both = modes.project(stacked)["member"]["unit_kernel"]
    np.testing.assert_allclose(both, jnp.stack([kernel, kernel]), rtol=1e-5)


def test_scale_and_bias_share_one_norm() -> None:
    """(1, 2) and (2, 4) have the norm 5; two features want sqrt 2."""
    params = {"a": {"unit_scale": jnp.array([1.0, 2.0]), "unit_bias": jnp.array([2.0, 4.0])}}
    after = modes.project(params)["a"]
    factor = np.sqrt(2) / 5
    np.testing.assert_allclose(after["unit_scale"], np.array([1, 2]) * factor, rtol=1e-6)
    np.testing.assert_allclose(after["unit_bias"], np.array([2, 4]) * factor, rtol=1e-6)
    alone = modes.project({"unit_scale": jnp.array([3.0, 4.0])})["unit_scale"]
    np.testing.assert_allclose(alone, np.array([0.6, 0.8]) * np.sqrt(2), rtol=1e-6)


def test_projecting_is_idempotent_and_leaves_others_alone() -> None:
    obs, action = X[:, :2], X[:, 2:]
    for torso in (SimBaV2(4, 1), FlashTorso(4, 1)):
        params = torso.init(KEY, X)
        once = modes.project(params)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), modes.project(once), once
        )
    plain = {**BatchNorm().init(KEY, obs), "other": RMSNorm().init(KEY, action)}
    jax.tree.map(np.testing.assert_array_equal, modes.project(plain), plain)


def test_what_decays() -> None:
    params = {**BatchNormMLP((4,)).init(KEY, X), "alpha": jnp.zeros(())}
    mask = modes.decayed(params)
    assert all(jax.tree.leaves(mask["params"]))
    assert not any(jax.tree.leaves(mask["batch_stats"])) and not mask["alpha"]


# -- variables that are no parameters -------------------------------------------------------------


class Normed(nn.Module):
    """Batch normalisation of flax's: asked for training, or for ever as it began."""

    fixed: bool = False

    @nn.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        return nn.BatchNorm(use_running_average=self.fixed or not train, momentum=0.9)(x)


def test_statistics_must_be_renewed() -> None:
    served = modes.init(BatchNormMLP((4,)), KEY, X, renewed=True)
    assert served.keys() == {"params", "batch_stats"}
    assert modes.init(nn.Dense(2), KEY, X).keys() == {"params"}
    for model, renewed in ((BatchNormMLP((4,)), False), (Normed(), False), (Normed(True), True)):
        with pytest.raises(ConfigError, match="beside its parameters, batch_stats, that"):
            modes.init(model, KEY, X, renewed=renewed)
    assert modes.init(Times(), KEY, X) == 2


def test_a_model_may_be_asked_to_train() -> None:
    """Its moments follow those of the data."""
    model = Normed()
    params = modes.init(model, KEY, X, renewed=True)
    out, new = modes.train(model, params, X, key=KEY)
    np.testing.assert_allclose(out.mean(0), np.zeros(3), atol=1e-5)
    np.testing.assert_allclose(new["batch_stats"]["BatchNorm_0"]["mean"], 0.1 * X.mean(0), 1e-5)
    np.testing.assert_allclose(modes.perturb(model, params, X, key=KEY), X, rtol=1e-4)
