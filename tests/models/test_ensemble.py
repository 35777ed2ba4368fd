"""Several networks evaluated as one."""

import jax
import numpy as np

from parl.core.spec import Box
from parl.models import MLP, ActionValue, Ensemble


def test_equals_its_members_one_by_one() -> None:
    member = ActionValue(Box((3,)), MLP((4,)))
    ensemble = Ensemble(member, size=3)
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
    ensemble = Ensemble(MLP((4,)), size=2)
    x = np.ones((2, 5, 3), np.float32)
    params = ensemble.init(jax.random.key(0), x[0, :1])
    kernel = jax.tree.leaves(params)[-1]
    assert kernel.shape == (2, 3, 4)
    assert (kernel[0] != kernel[1]).all()
    assert ensemble.apply(params, x).shape == (2, 2, 5, 4)
