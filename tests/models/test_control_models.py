"""Policies and critics with any torso and output layer."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from observations import SPACES, draw

from parl.core.spec import Box
from parl.models import MLP, Ensemble
from parl.models.control import (
    ORTHOGONAL,
    UNIFORM,
    Critic,
    DeterministicPolicy,
    SquashedNormalPolicy,
)
from parl.models.torsos import SimBaV2Head
from parl.ops.value_distributions import Histogram, Quantiles

VECTOR, TORSO = SPACES["vector"], MLP((4,))


@pytest.mark.parametrize("lead", [(), (2, 3)])
@pytest.mark.parametrize("name", ["vector", "dict"])
def test_shapes(name: str, lead: tuple[int, ...]) -> None:
    space = SPACES[name]
    obs, action = draw(space, lead), draw(Box((2,)), lead)

    def shape(net: Any, *inputs: Any) -> Any:
        run = lambda: net.apply(net.init(jax.random.key(0), *inputs), *inputs)
        return jax.tree.map(jnp.shape, jax.eval_shape(run))

    assert shape(DeterministicPolicy(space, 2, TORSO), obs) == (*lead, 2)
    assert shape(SquashedNormalPolicy(space, 2, TORSO), obs).mean == (*lead, 2)
    assert shape(Critic(space, TORSO), obs, action) == lead
    assert shape(Critic(space, TORSO, 7, Quantiles), obs, action).atoms == (*lead, 7)
    form = partial(Histogram, low=-5.0, high=5.0)
    ensemble: Any = Ensemble(Critic(space, TORSO, 7, form, partial(SimBaV2Head, width=3)), 3)
    assert shape(ensemble, obs, action).logits == (3, *lead, 7)


def fixed(kernels: list[Any]) -> Any:
    """Parameters of layers without a torso, biases 0."""
    params = {
        f"Dense_{i}": {"kernel": jnp.asarray(k, jnp.float32), "bias": jnp.zeros(np.shape(k)[1])}
        for i, k in enumerate(kernels)
    }
    return {"params": params}


def test_log_std_is_squashed_between_its_bounds() -> None:
    """-10 + 12 * (1 + tanh x) / 2: -4 at 0, the bounds far away."""
    net: Any = SquashedNormalPolicy(VECTOR, 1, MLP(()))
    params = fixed([[[0.0], [2.0], [0.0]], [[1.0], [0.0], [0.0]]])
    obs = np.array([[0.0, 1, 0], [50.0, 0, 0], [-50.0, 0, 0], [1.0, 3, 0]], np.float32)
    pi: Any = net.apply(params, obs)
    np.testing.assert_allclose(pi.mean[:, 0], [2, 0, 0, 6])
    np.testing.assert_allclose(pi.log_std[:, 0], [-4, 2, -10, -4 + 6 * np.tanh(1)], rtol=1e-5)


def test_deterministic_policy_is_bounded() -> None:
    net: Any = DeterministicPolicy(VECTOR, 1, MLP(()))
    params = fixed([[[1.0], [0.0], [0.0]]])
    obs = np.array([[0.5, 0, 0], [100.0, 0, 0]], np.float32)
    np.testing.assert_allclose(net.apply(params, obs), [[np.tanh(0.5)], [1.0]], rtol=1e-6)


def test_a_critic_sees_observation_and_action() -> None:
    net: Any = Critic(VECTOR, MLP(()))
    params = fixed([[[1.0], [0.0], [0.0], [10.0]]])
    q = net.apply(params, np.ones((2, 3), np.float32), np.array([[1.0], [2.0]], np.float32))
    np.testing.assert_allclose(q, [11, 21])


def test_initial_weights() -> None:
    """Uniform within 1 / sqrt(inputs), and orthogonal output layers."""
    kernel = UNIFORM(jax.random.key(0), (100, 400), jnp.float32)
    assert 0.099 < np.abs(kernel).max() <= 0.1
    np.testing.assert_allclose(np.std(kernel), 0.1 / np.sqrt(3), rtol=0.02)
    x = np.ones((1, 8), np.float32)
    last: Any = ORTHOGONAL(3).init(jax.random.key(0), x)["params"]["kernel"]
    np.testing.assert_allclose(last.T @ last, np.eye(3), atol=1e-5)
