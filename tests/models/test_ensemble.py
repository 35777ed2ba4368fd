"""Several networks evaluated as one."""

import re
from typing import Any

import jax
import numpy as np

from parl.core.spec import Box
from parl.models import MLP, Critic, Ensemble
from parl.ops.value_distributions import Quantiles


def test_equals_its_members_one_by_one() -> None:
    member: Any = Critic(Box((3,)), MLP((4,)))
    ensemble: Any = Ensemble(member, size=3)
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(5, 3)).astype(np.float32)
    action = rng.normal(size=(5, 2)).astype(np.float32)
    params = ensemble.init(jax.random.key(0), obs, action)
    q = ensemble.apply(params, obs, action)
    assert q.shape == (3, 5)
    stacked = params["params"]["member"]
    for i in range(3):
        one = {"params": jax.tree.map(lambda x, i=i: x[i], stacked)}
        np.testing.assert_allclose(q[i], member.apply(one, obs, action), rtol=1e-5, atol=1e-6)


def test_members_start_apart_and_any_leading_axes() -> None:
    ensemble: Any = Ensemble(MLP((4,)), size=2)
    x = np.ones((2, 5, 3), np.float32)
    params = ensemble.init(jax.random.key(0), x[0, :1])
    kernel = jax.tree.leaves(params)[-1]
    assert kernel.shape == (2, 3, 4)
    assert (kernel[0] != kernel[1]).all()
    assert ensemble.apply(params, x).shape == (2, 2, 5, 4)


def test_members_are_one_matrix_product_a_layer() -> None:
    """The first layer as one wide matrix, the others as one batched product, no loop."""
    ensemble: Any = Ensemble(Critic(Box((3,)), MLP((16, 16))), size=5)
    obs, action = np.ones((8, 3), np.float32), np.ones((8, 2), np.float32)
    params = ensemble.init(jax.random.key(0), obs, action)
    text = str(jax.jit(ensemble.apply).lower(params, obs, action).compile().as_text())
    shapes = sorted(re.findall(r"= f32(\[[\d,]+\])\S* dot\(", text))
    assert shapes == ["[5,8,16]", "[5,8,1]", "[8,80]"] and "while" not in text


def test_fewer_parameters_make_a_smaller_ensemble() -> None:
    ensemble: Any = Ensemble(MLP((4,)), size=5)
    x = np.ones((2, 3), np.float32)
    params = ensemble.init(jax.random.key(0), x)
    some = jax.tree.map(lambda p: p[np.array([3, 1])], params)
    np.testing.assert_allclose(ensemble.apply(some, x), ensemble.apply(params, x)[np.array([3, 1])])


def test_members_may_return_distributions() -> None:
    ensemble: Any = Ensemble(Critic(Box((3,)), MLP((4,)), 7, Quantiles), size=3)
    obs, action = np.ones((8, 3), np.float32), np.ones((8, 2), np.float32)
    values = ensemble.apply(ensemble.init(jax.random.key(0), obs, action), obs, action)
    assert isinstance(values, Quantiles) and values.atoms.shape == (3, 8, 7)
