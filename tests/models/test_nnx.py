"""A network written in flax.nnx behind the same protocol as a linen one."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from parl.algorithms.dqn import DQN
from parl.core.checkpoint import named_leaves
from parl.core.errors import ConfigError
from parl.core.spec import Box, Discrete, EnvSpec
from parl.core.types import Step
from parl.models import MLP, DiscreteValues
from parl.models.nnx import NnxModel

SPEC = EnvSpec("test", Box((3,)), Discrete(2))


class QNetwork(nnx.Module):
    """The nnx twin of DiscreteValues(MLP((4,)))."""

    def __init__(self, rngs: nnx.Rngs):
        self.hidden = nnx.Linear(3, 4, rngs=rngs)
        self.out = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, obs: jax.Array) -> jax.Array:
        return self.out(self.features(obs))

    def features(self, obs: jax.Array) -> jax.Array:
        return nnx.relu(self.hidden(obs))


def to_linen(params: Any) -> Any:
    """The same weights in the linen module's structure."""
    return {"params": {"torso": {"Dense_0": params["hidden"]}, "Dense_0": params["out"]}}


@pytest.fixture(scope="module")
def model() -> NnxModel:
    return NnxModel(lambda rngs: QNetwork(rngs))


def batch() -> Step:
    rng = np.random.default_rng(0)
    obs, next_obs = rng.normal(size=(2, 16, 3)).astype(np.float32)
    return Step(
        obs,
        rng.integers(2, size=16).astype(np.int32),
        rng.normal(size=16).astype(np.float32),
        (rng.random(16) < 0.8).astype(np.float32),
        next_obs,
        np.zeros(16, bool),
        np.zeros(16, bool),
        {},
    )


def test_parameters_are_plain_dicts_that_depend_on_the_key(model: NnxModel) -> None:
    init = jax.jit(lambda key: model.init(key, SPEC.obs))
    params = init(jax.random.key(0))
    assert set(named_leaves(params)) == {"hidden/kernel", "hidden/bias", "out/kernel", "out/bias"}
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(params))
    again, other = init(jax.random.key(0)), init(jax.random.key(1))
    np.testing.assert_array_equal(params["hidden"]["kernel"], again["hidden"]["kernel"])
    assert (params["hidden"]["kernel"] != other["hidden"]["kernel"]).all()


def test_apply_is_pure_and_takes_a_method(model: NnxModel) -> None:
    params = model.init(jax.random.key(0))
    doubled = jax.tree.map(lambda x: 2 * x, params)
    x = np.ones((5, 3), np.float32)
    np.testing.assert_allclose(model.apply(doubled, x), 4 * model.apply(params, x), rtol=1e-5)
    assert model.apply(params, x, method="features").shape == (5, 4)


def test_training_equals_linen(model: NnxModel) -> None:
    """Five updates of DQN from the same weights give the same weights."""
    linen = DiscreteValues(SPEC.observation_space, 2, MLP((4,)))
    ends = []
    for network, convert in ((model, lambda p: p), (linen, to_linen)):
        algorithm = DQN(q=network, learning_rate=1e-2, target_period=2)
        params = convert(model.init(jax.random.key(3)))
        start = algorithm.init(jax.random.key(0), SPEC)
        state = start.replace(
            net=start.net._replace(params=params), target=jax.tree.map(jnp.copy, params)
        )
        update = jax.jit(algorithm.update)
        for _ in range(5):
            state, metrics = update(state, batch(), jax.random.key(0))
        ends.append((state.net.params, state.target, metrics["loss"]))
    (params, target, loss), (linen_params, linen_target, linen_loss) = ends
    moved = params["out"]["kernel"] - model.init(jax.random.key(3))["out"]["kernel"]
    assert np.abs(moved).min() > 0.02
    np.testing.assert_allclose(loss, linen_loss, rtol=1e-5)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, to_linen(params), linen_params)
    jax.tree.map(close, to_linen(target), linen_target)


def test_a_module_that_draws_nothing_at_call_can_be_vmapped(model: NnxModel) -> None:
    params = jax.vmap(model.init)(jax.random.split(jax.random.key(0), 3))
    x = np.ones((3, 5, 3), np.float32)
    q = jax.vmap(model.apply)(params, x)
    assert q.shape == (3, 5, 2)
    one = model.apply(jax.tree.map(lambda p: p[1], params), x[1])
    np.testing.assert_allclose(q[1], one, rtol=1e-5)


def test_modules_with_other_variables_are_refused() -> None:
    """Nothing would renew them."""
    normed = lambda rngs: nnx.Sequential(nnx.Linear(4, 4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs))
    with pytest.raises(ConfigError, match="are not parameters, BatchStat, which"):
        NnxModel(normed)
    with pytest.raises(ConfigError, match="are not parameters, RngCount, RngKey, which"):
        NnxModel(lambda rngs: nnx.Dropout(0.5, rngs=rngs))
    layered = lambda rngs: nnx.Sequential(nnx.Linear(4, 2, rngs=rngs), nnx.LayerNorm(2, rngs=rngs))
    assert len(named_leaves(NnxModel(layered).init(jax.random.key(0)))) == 4
