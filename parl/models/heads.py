"""Policy and value networks: a head over an encoder and a torso.

All take observations [..., *O] with any leading axes. The entry `legal` [..., A] bool of a dict
observation masks a policy over discrete choices.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from parl import ops
from parl.core.spec import Box, Discrete, MultiDiscrete, Space
from parl.core.types import Array
from parl.models.encoder import Encoder
from parl.models.initialization import orthogonal
from parl.models.mlp import MLP, Activation

Init = nn.initializers.Initializer
Linear = Callable[[int], nn.Module]  # number of outputs -> an output layer


class CategoricalPolicy(nn.Module):
    """obs -> Categorical, or MultiCategorical for a MultiDiscrete space."""

    observation_space: Any
    action_space: Discrete | MultiDiscrete
    torso: nn.Module
    head_init: Init = orthogonal(0.01)

    @nn.compact
    def __call__(self, obs: Any) -> ops.Categorical | ops.MultiCategorical:
        features = self.torso(Encoder(self.observation_space)(obs))
        logits = lambda n: nn.Dense(n, kernel_init=self.head_init)(features)
        if isinstance(self.action_space, MultiDiscrete):
            pi = ops.MultiCategorical(tuple(map(logits, self.action_space.nvec)))
        else:
            pi = ops.Categorical(logits(self.action_space.n))
        legal = ops.legal_actions(obs)
        return pi if legal is None else pi.masked(legal)


class NormalPolicy(nn.Module):
    """obs -> Normal over [..., A] with a learned standard deviation shared by all states."""

    observation_space: Any
    action_size: int
    torso: nn.Module
    head_init: Init = orthogonal(0.01)
    log_std_init: float = 0.0

    @nn.compact
    def __call__(self, obs: Any) -> ops.Normal:
        features = self.torso(Encoder(self.observation_space)(obs))
        mean = nn.Dense(self.action_size, kernel_init=self.head_init)(features)
        init = nn.initializers.constant(self.log_std_init)
        log_std = self.param("log_std", init, (self.action_size,))
        return ops.Normal(mean, jnp.broadcast_to(log_std, mean.shape))


class TanhNormalPolicy(nn.Module):
    """obs -> TanhNormal over [..., A]; mean and log standard deviation depend on the state.

    The log standard deviation is clipped to the bounds of Haarnoja et al. 2018 (their code).
    """

    observation_space: Any
    action_size: int
    torso: nn.Module
    log_std_min: float = -20.0
    log_std_max: float = 2.0

    @nn.compact
    def __call__(self, obs: Any) -> ops.TanhNormal:
        features = self.torso(Encoder(self.observation_space)(obs))
        out = nn.Dense(2 * self.action_size)(features)
        mean, log_std = jnp.split(out, 2, -1)
        return ops.TanhNormal(mean, jnp.clip(log_std, self.log_std_min, self.log_std_max))


class Value(nn.Module):
    """obs -> state value [...], or one for each of N `agents`, [..., N]."""

    observation_space: Any
    torso: nn.Module
    head_init: Init = orthogonal(1.0)
    agents: int | None = None

    @nn.compact
    def __call__(self, obs: Any) -> Array:
        features = self.torso(Encoder(self.observation_space)(obs))
        values = nn.Dense(self.agents or 1, kernel_init=self.head_init)(features)
        return values[..., 0] if self.agents is None else values


class PolicyValue(nn.Module):
    """obs -> (Categorical, values [...] in (-1, 1)), of one torso: a game's policy and outcome."""

    observation_space: Any
    action_space: Discrete
    torso: nn.Module
    head_init: Init = orthogonal(0.01)

    @nn.compact
    def __call__(self, obs: Any) -> tuple[ops.Categorical, Array]:
        features = self.torso(Encoder(self.observation_space)(obs))
        pi = ops.Categorical(nn.Dense(self.action_space.n, kernel_init=self.head_init)(features))
        value = jnp.tanh(nn.Dense(1, kernel_init=self.head_init)(features)[..., 0])
        legal = ops.legal_actions(obs)
        return pi if legal is None else pi.masked(legal), value


class DiscreteValues(nn.Module):
    """obs -> values of all actions [..., A], or `form` of the outputs [..., A, outputs].

    A form is a value distribution such as Quantiles.
    """

    observation_space: Any
    num_actions: int
    torso: nn.Module
    dueling: bool = False
    outputs: int | None = None  # numbers for each action; None: one, without an axis
    form: Callable[[Array], ops.ValueDistribution] | None = None
    linear: Linear = nn.Dense
    layer_norm: bool = False  # in the convolutions of images

    @nn.compact
    def __call__(self, obs: Any) -> Array | ops.ValueDistribution:
        encoder = Encoder(self.observation_space, self.layer_norm)
        features = self.torso(encoder(obs))
        x = action_outputs(features, self.num_actions, self.dueling, self.linear, self.outputs)
        return x if self.form is None else self.form(x)


class ImplicitValues(nn.Module):
    """obs -> ImplicitQuantiles [..., A, quantiles]. Dabney et al. 2018, arXiv:1806.06923, eq. 4.

    The levels are drawn for each observation under the name "tau", and without a key evenly spaced.
    `last` follows the product of the features with the embedded levels.
    """

    observation_space: Any
    num_actions: int
    torso: nn.Module
    last: nn.Module
    quantiles: int = 32
    dueling: bool = False
    waves: int = 64  # cosines that embed a level
    linear: Linear = nn.Dense

    @nn.compact
    def __call__(self, obs: Any) -> ops.ImplicitQuantiles:
        features = self.torso(Encoder(self.observation_space)(obs))  # [..., F]
        shape = (*features.shape[:-1], self.quantiles)
        if self.has_rng("tau"):
            taus = jax.random.uniform(self.make_rng("tau"), shape)
        else:
            taus = jnp.broadcast_to((jnp.arange(self.quantiles) + 0.5) / self.quantiles, shape)
        waves = jnp.cos(jnp.pi * jnp.arange(self.waves) * taus[..., None])
        embedded = nn.relu(nn.Dense(features.shape[-1])(waves))  # [..., K, F]
        x = self.last(features[..., None, :] * embedded)
        atoms = action_outputs(x, self.num_actions, self.dueling, self.linear).swapaxes(-1, -2)
        return ops.ImplicitQuantiles(atoms, jnp.broadcast_to(taus[..., None, :], atoms.shape))


def action_outputs(
    features: Array, actions: int, dueling: bool, linear: Linear, outputs: int | None = None
) -> Array:
    """The last layer over features [..., F]: [..., A], or [..., A, outputs].

    Dueling as in Wang et al. 2016, eq. 9: a common value and advantages of mean 0.
    """
    axis, size = (-1, 1) if outputs is None else (-2, outputs)

    def layer(count: int) -> Array:
        x = linear(count * size)(features)
        return x if outputs is None else x.reshape(*x.shape[:-1], count, size)

    advantage = layer(actions)
    if not dueling:
        return advantage
    return layer(1) + advantage - advantage.mean(axis, keepdims=True)


def policy_head(
    observation_space: Space, action_space: Space, torso: nn.Module
) -> CategoricalPolicy | NormalPolicy:
    """The policy network for an action space: an unbounded normal for a Box, else categorical."""
    if isinstance(action_space, Box):
        return NormalPolicy(observation_space, action_space.shape[-1], torso)
    assert isinstance(action_space, Discrete | MultiDiscrete)
    return CategoricalPolicy(observation_space, action_space, torso)


def orthogonal_torso(hidden: tuple[int, ...], activation: Activation) -> MLP:
    """An MLP with orthogonal weights of gain sqrt 2, as in most reference implementations."""
    return MLP(hidden, activation, orthogonal(2**0.5))
