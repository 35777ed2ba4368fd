"""Published network bodies, layer by layer against numpy."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parl.models import modes
from parl.models.torsos import (
    BatchNormMLP,
    DropoutMLP,
    FlashTorso,
    Scaler,
    SimBa,
    SimBaV2,
    SimBaV2Head,
    UnitDense,
    WeightNormDense,
)

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32) * 2 + 1


def close(a: Any, b: Any, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def relu(x: Any) -> Any:
    return np.maximum(x, 0)


def layer_norm(x: Any) -> Any:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)


def unit(x: Any) -> Any:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def trained(net: nn.Module) -> Any:
    """Parameters away from their initial values, so that every one of them matters."""
    params: Any = modes.project(net.init(KEY, X))
    leaves, structure = jax.tree.flatten(params["params"])
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noisy = [x + 0.1 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
    return modes.project({**params, "params": jax.tree.unflatten(structure, noisy)})


def layers(params: Any) -> Any:
    return jax.tree.map(np.asarray, params["params"])


def dense(p: Any, x: Any) -> Any:
    return x @ p["kernel"] + p["bias"]


def test_weight_normalised_layer() -> None:
    """Salimans & Kingma 2016, eq. 2: columns (3, 4) and (0, 2) at lengths 10 and 1."""
    layer = WeightNormDense(2)
    params = {
        "kernel": jnp.array([[3.0, 0.0], [4.0, 2.0]]),
        "scale": jnp.array([10.0, 1.0]),
        "bias": jnp.array([0.5, 0.0]),
    }
    out = layer.apply({"params": params}, jnp.array([[1.0, 1.0]]))
    close(out, [[6 + 8 + 0.5, 1.0]])
    start = layers(layer.init(KEY, X))
    close(start["scale"], np.linalg.norm(start["kernel"], axis=0))
    x = jnp.asarray(X)
    close(
        layer.apply({"params": start}, x),
        nn.Dense(2).apply({"params": {"kernel": start["kernel"], "bias": start["bias"]}}, x),
    )


def test_weight_normalised_gradient_keeps_the_direction_apart() -> None:
    """The gradient of the kernel is orthogonal to it: its length does not learn."""
    layer = WeightNormDense(2)
    params = layer.init(KEY, X)
    loss = lambda p: jnp.sum(jnp.sin(layer.apply(p, X)))  # type: ignore[arg-type]
    grads = layers(jax.grad(loss)(params))
    close((grads["kernel"] * layers(params)["kernel"]).sum(0), [0, 0], atol=1e-4)


def test_scaler_starts_at_its_value_and_learns_at_its_scale() -> None:
    scaler = Scaler(start=0.5, scale=0.1)
    params = scaler.init(KEY, X)
    close(scaler.apply(params, X), 0.5 * X)
    close(params["params"]["factor"], np.full(3, 0.1))
    moved = jax.tree.map(lambda x: x + 0.01, params)
    close(scaler.apply(moved, X), 0.55 * X)


def test_simba() -> None:
    net = SimBa(4, 2)
    params = trained(net)
    p = layers(params)
    normed = lambda i, x: layer_norm(x) * p[f"LayerNorm_{i}"]["scale"] + p[f"LayerNorm_{i}"]["bias"]
    x = dense(p["Dense_0"], X)
    for block in range(2):
        y = relu(dense(p[f"Dense_{2 * block + 1}"], normed(block, x)))
        x = x + dense(p[f"Dense_{2 * block + 2}"], y)
    close(net.apply(params, X), normed(2, x))
    assert p["Dense_1"]["kernel"].shape == (4, 16), "inverted bottleneck of four times the width"


def test_simba_v2() -> None:
    net = SimBaV2(8, 2, shift=3.0)
    params = trained(net)
    p = layers(params)
    linear = lambda i, x: x @ p[f"UnitDense_{i}"]["unit_kernel"]
    factor = lambda i: p[f"Scaler_{i}"]["factor"]
    x = unit(np.concatenate([X, np.full((6, 1), 3.0)], -1))
    x = unit(linear(0, x) * factor(0))  # starts at sqrt(2 / 8), and learns at that scale
    for block in range(2):
        y = relu(linear(2 * block + 1, x) * factor(2 * block + 1))
        y = unit(linear(2 * block + 2, y))
        alpha = factor(2 * block + 2) * (1 / 3) * np.sqrt(8)
        x = unit((1 - alpha) * x + alpha * y)
    close(net.apply(params, X), x)
    close(np.linalg.norm(net.apply(params, X), axis=-1), np.ones(6))  # type: ignore[arg-type]


def test_simba_v2_starts_as_an_even_mean_of_its_blocks() -> None:
    start = layers(SimBaV2(8, 1).init(KEY, X))
    close(start["Scaler_0"]["factor"], np.full(8, 0.5))  # sqrt(2 / 8)
    close(start["Scaler_1"]["factor"], np.full(32, 0.25))
    close(start["Scaler_2"]["factor"] * 0.5 * np.sqrt(8), np.full(8, 0.5))


def test_simba_v2_sees_the_length_of_its_input() -> None:
    """A plain projection on the sphere would not."""
    net = SimBaV2(8, 1)
    params = modes.project(net.init(KEY, X))
    assert np.abs(net.apply(params, X) - net.apply(params, 2 * X)).max() > 0.01  # type: ignore


def test_simba_v2_head() -> None:
    net = SimBaV2Head(2, width=5)
    params = trained(net)
    p = layers(params)
    x = X @ p["UnitDense_0"]["unit_kernel"] * p["Scaler_0"]["factor"]
    close(net.apply(params, X), x @ p["UnitDense_1"]["unit_kernel"] + p["UnitDense_1"]["bias"])


def frozen_batch_norm(params: Any, statistics: Any, x: Any) -> Any:
    x = (x - statistics["mean"]) / np.sqrt(statistics["var"] + 1e-5)
    return x * params["unit_scale"] + params["unit_bias"]


def test_flash_torso() -> None:
    net = FlashTorso(4, 1)
    params = trained(net)
    statistics = modes.train(net, params, X, key=KEY)[1]
    params = modes.renew(params, statistics)
    p, s = layers(params), jax.tree.map(np.asarray, statistics["batch_stats"])
    norm = lambda i, x: frozen_batch_norm(p[f"BatchNorm_{i}"], s[f"BatchNorm_{i}"], x)
    linear = lambda i, x: x @ p[f"UnitDense_{i}"]["unit_kernel"]
    x = linear(0, norm(0, X))
    y = relu(norm(2, linear(2, relu(norm(1, linear(1, x))))))
    x = x + y
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * p["RMSNorm_0"]["unit_scale"]
    close(net.apply(params, X), x)
    assert p["UnitDense_1"]["unit_kernel"].shape == (4, 16)


def test_dropout_mlp() -> None:
    """Dense, dropout, layer norm, relu; without dropout by numpy."""
    net = DropoutMLP((4, 5), rate=0.3)
    params = trained(net)
    p, x = layers(params), X
    for i in range(2):
        x = layer_norm(dense(p[f"Dense_{i}"], x))
        x = relu(x * p[f"LayerNorm_{i}"]["scale"] + p[f"LayerNorm_{i}"]["bias"])
    close(net.apply(params, X), x)
    other = modes.perturb(net, params, X, key=KEY)
    assert np.abs(other - x).max() > 0.01


def test_batch_norm_mlp() -> None:
    """Normalised input, then relu and normalisation after each layer; in training mode."""
    net = BatchNormMLP((4,), renorm_after=10)
    params = trained(net)
    p = layers(params)
    standard = lambda x: (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-3)
    norm = lambda i, x: standard(x) * p[f"BatchNorm_{i}"]["scale"] + p[f"BatchNorm_{i}"]["bias"]
    x = norm(1, relu(dense(p["Dense_0"], norm(0, X))))
    close(modes.train(net, params, X, key=KEY)[0], x)


@pytest.mark.parametrize(
    "net", [SimBa(4, 1), SimBaV2(4, 1), FlashTorso(4, 1), DropoutMLP((4,)), BatchNormMLP((4,))]
)
def test_any_leading_axes(net: nn.Module) -> None:
    params = net.init(KEY, X)
    for shape in ((3,), (2, 5, 3)):
        out = jax.eval_shape(net.apply, params, jnp.zeros(shape))
        assert out.shape == (*shape[:-1], 4)  # type: ignore[attr-defined]


def test_a_unit_layer_with_a_bias() -> None:
    layer = UnitDense(2, use_bias=True)
    params: Any = layer.init(KEY, X)
    assert params["params"]["bias"].shape == (2,)
    assert "bias" not in UnitDense(2).init(KEY, X)["params"]
