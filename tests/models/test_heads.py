"""Policies and values."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from observations import SPACES, draw

from parl import ops
from parl.core.spec import Box, Discrete, MultiDiscrete
from parl.models import (
    MLP,
    CategoricalPolicy,
    Critic,
    DiscreteValues,
    ImplicitValues,
    NormalPolicy,
    TanhNormalPolicy,
    Value,
    modes,
    orthogonal_torso,
    policy_head,
)

TORSO = MLP((4,))
VECTOR = SPACES["vector"]


def run(net: Any, *inputs: Any) -> tuple[Any, Any]:
    params = net.init(jax.random.key(0), *inputs)
    return params, net.apply(params, *inputs)


@pytest.mark.parametrize("lead", [(), (2, 3)])
@pytest.mark.parametrize("name", SPACES)
def test_shapes_for_every_space(name: str, lead: tuple[int, ...]) -> None:
    space = SPACES[name]
    obs = draw(space, lead)
    action = draw(Box((2,)), lead)
    shape = lambda net, *x: jax.tree.map(jnp.shape, jax.eval_shape(lambda: run(net, *x)[1]))
    assert shape(CategoricalPolicy(space, Discrete(4), TORSO), obs).logits == (*lead, 4)
    assert shape(NormalPolicy(space, 2, TORSO), obs).log_std == (*lead, 2)
    assert shape(TanhNormalPolicy(space, 2, TORSO), obs).mean == (*lead, 2)
    assert shape(Value(space, TORSO), obs) == lead
    assert shape(Critic(space, TORSO), obs, action) == lead
    assert shape(DiscreteValues(space, 4, TORSO, dueling=True), obs) == (*lead, 4)


def test_illegal_actions_have_probability_zero() -> None:
    space = SPACES["dict"]
    obs = draw(space, (64,))
    _, pi = run(CategoricalPolicy(space, Discrete(4), TORSO), obs)
    assert (~obs["legal"]).sum() > 50
    assert (pi.probs[~obs["legal"]] == 0).all()
    assert (pi.probs[obs["legal"]] > 0).all()
    np.testing.assert_allclose(pi.probs.sum(-1), 1, rtol=1e-6)
    action = pi.sample(jax.random.key(1))
    assert np.take_along_axis(obs["legal"], np.asarray(action)[:, None], -1).all()


def test_the_mask_changes_nothing_else() -> None:
    """Legal logits are those of an observation where all is legal: the mask is no feature."""
    space = SPACES["dict"]
    obs = draw(space, (8,))
    net: Any = CategoricalPolicy(space, Discrete(4), TORSO)
    params, pi = run(net, obs)
    free = net.apply(params, obs | {"legal": np.ones_like(obs["legal"])})
    np.testing.assert_array_equal(pi.logits[obs["legal"]], free.logits[obs["legal"]])


def test_one_head_per_component_of_a_multidiscrete() -> None:
    params, pi = run(CategoricalPolicy(VECTOR, MultiDiscrete((2, 3)), TORSO), np.ones((5, 3)))
    assert isinstance(pi, ops.MultiCategorical)
    assert pi.mode().shape == (5, 2)
    heads = [params["params"][name]["kernel"].shape for name in ("Dense_0", "Dense_1")]
    assert heads == [(4, 2), (4, 3)]


def test_the_policy_head_follows_the_action_space() -> None:
    head = lambda space: policy_head(VECTOR, space, TORSO)
    assert head(Box((2,))) == NormalPolicy(VECTOR, 2, TORSO)
    for space in (Discrete(4), MultiDiscrete((2, 3))):
        assert head(space) == CategoricalPolicy(VECTOR, space, TORSO)


def test_normal_policy_shares_one_standard_deviation() -> None:
    obs = draw(VECTOR, (6,))
    params, pi = run(NormalPolicy(VECTOR, 2, TORSO, log_std_init=-0.5), obs)
    assert params["params"]["log_std"].shape == (2,)
    np.testing.assert_array_equal(pi.log_std, np.full((6, 2), -0.5, np.float32))
    assert len(np.unique(pi.mean[:, 0])) > 1


def test_policies_start_near_uniform() -> None:
    """A last layer of gain 0.01, as PPO implementations have it."""
    obs = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    _, pi = run(CategoricalPolicy(VECTOR, Discrete(3), orthogonal_torso((16,), jnp.tanh)), obs)
    np.testing.assert_allclose(pi.probs, 1 / 3, atol=0.01)
    params, _ = run(Value(VECTOR, orthogonal_torso((16,), jnp.tanh)), obs)
    kernel = params["params"]["torso"]["Dense_0"]["kernel"]
    np.testing.assert_allclose(kernel @ kernel.T, 2 * np.eye(3), atol=1e-5)


def test_tanh_normal_clips_its_log_std() -> None:
    net: Any = TanhNormalPolicy(VECTOR, 2, MLP(()), log_std_min=-20, log_std_max=2)
    kernel = np.zeros((3, 4), np.float32)
    kernel[0, 2:] = [100.0, 1.0]  # log_std = (100 x, x); mean = 0
    params = {"params": {"Dense_0": {"kernel": kernel, "bias": np.zeros(4, np.float32)}}}
    obs = np.array([[1.0, 0, 0], [-1.0, 0, 0]], np.float32)
    pi = net.apply(params, obs)
    np.testing.assert_array_equal(pi.log_std, [[2, 1], [-20, -1]])
    np.testing.assert_array_equal(pi.mean, np.zeros((2, 2)))
    narrow: Any = TanhNormalPolicy(VECTOR, 2, MLP(()), log_std_min=-0.5, log_std_max=0.5)
    np.testing.assert_array_equal(narrow.apply(params, obs).log_std, [[0.5, 0.5], [-0.5, -0.5]])


def test_dueling_values_average_to_the_state_value() -> None:
    """Wang et al. 2016, eq. 9: mean_a Q = V, and Q - V is the centred advantage."""
    net: Any = DiscreteValues(VECTOR, 3, MLP(()), dueling=True)
    obs = draw(VECTOR, (6,))
    params = jax.device_get(net.init(jax.random.key(0), obs))
    layers = params["params"]
    layers["Dense_0"]["bias"] = np.array([1.0, -2.0, 4.0], np.float32)
    layers["Dense_1"]["bias"] = np.array([0.5], np.float32)
    advantage = obs @ layers["Dense_0"]["kernel"] + layers["Dense_0"]["bias"]
    value = obs @ layers["Dense_1"]["kernel"] + layers["Dense_1"]["bias"]
    q = net.apply(params, obs)
    np.testing.assert_allclose(q.mean(-1), value[:, 0], rtol=1e-4, atol=1e-5)
    centred = advantage - advantage.mean(-1, keepdims=True)
    np.testing.assert_allclose(q - value, centred, rtol=1e-4, atol=1e-5)


def test_plain_values_have_one_layer_less() -> None:
    params, q = run(DiscreteValues(VECTOR, 3, TORSO), np.ones((2, 3)))
    assert q.shape == (2, 3) and set(params["params"]) == {"torso", "Dense_0"}


def test_dueling_of_distributions_is_value_by_value() -> None:
    """Two atoms of three actions; a plain network has all of them in one layer."""
    obs = draw(VECTOR, (6,))
    plain = DiscreteValues(VECTOR, 3, MLP(()), outputs=2, form=ops.Quantiles)
    params, values = run(plain, obs)
    assert values.atoms.shape == (6, 3, 2) and values.mean.shape == (6, 3)
    layer = params["params"]["Dense_0"]
    np.testing.assert_allclose(values.atoms.reshape(6, 6), obs @ layer["kernel"], atol=1e-5)
    params, values = run(DiscreteValues(VECTOR, 3, MLP(()), True, 2, ops.Quantiles), obs)
    common = obs @ params["params"]["Dense_1"]["kernel"]
    np.testing.assert_allclose(values.atoms.mean(1), common, rtol=1e-4, atol=1e-5)


def test_implicit_quantiles_at_drawn_and_at_even_levels() -> None:
    net: Any = ImplicitValues(VECTOR, 3, MLP((4,)), MLP((5,)), quantiles=2, waves=3)
    obs = draw(VECTOR, (6,))
    params, even = run(net, obs)
    assert even.atoms.shape == (6, 3, 2)
    np.testing.assert_array_equal(even.levels, np.broadcast_to([0.25, 0.75], (6, 3, 2)))
    drawn = modes.perturb(net, params, obs, key=jax.random.key(1))
    levels = np.asarray(drawn.levels)
    assert (levels[:, 0] == levels[:, 2]).all() and len(np.unique(levels)) == 12
    # by hand: relu(W cos(pi i tau) + b) times the features
    layers, tau = params["params"], levels[0, 0, 1]
    dense = lambda name, x: x @ layers[name]["kernel"] + layers[name]["bias"]
    features = TORSO.apply({"params": layers["torso"]}, obs[0])
    embedded = jax.nn.relu(dense("Dense_0", np.cos(np.pi * np.arange(3) * tau)))
    x = MLP((5,)).apply({"params": layers["last"]}, features * embedded)
    np.testing.assert_allclose(drawn.atoms[0, :, 1], dense("Dense_1", x), rtol=1e-4, atol=1e-5)


def test_action_value_sees_the_action() -> None:
    net: Any = Critic(VECTOR, MLP(()))
    obs, action = draw(VECTOR, (6,)), draw(Box((2,)), (6,))
    params, q = run(net, obs, action)
    kernel = np.asarray(params["params"]["Dense_0"]["kernel"])
    np.testing.assert_allclose(q, np.concatenate([obs, action], -1) @ kernel[:, 0], rtol=1e-4)
