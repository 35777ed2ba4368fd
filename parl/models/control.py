"""Policies and critics for continuous control with any torso and any output layer."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from parl import ops
from parl.core.types import Array
from parl.models.encoder import Encoder
from parl.models.heads import Linear
from parl.models.initialization import Uniform, orthogonal
from parl.ops.value_distributions import ValueDistribution

GLOROT = nn.initializers.xavier_uniform()
ORTHOGONAL = partial(nn.Dense, kernel_init=orthogonal(1.0))  # a Linear
WITHIN_1E3 = partial(nn.Dense, kernel_init=Uniform(1e-3), bias_init=Uniform(1e-3))  # a Linear
WITHIN_3E3 = partial(nn.Dense, kernel_init=Uniform(3e-3), bias_init=Uniform(3e-3))  # a Linear
UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # within 1 / sqrt(inputs)


def only(outputs: Array) -> Array:
    """The single number in [..., 1]."""
    return outputs[..., 0]


class DeterministicPolicy(nn.Module):
    """obs -> action [..., A] in (-1, 1)."""

    observation_space: Any
    action_size: int
    torso: nn.Module
    linear: Linear = nn.Dense

    @nn.compact
    def __call__(self, obs: Any) -> Array:
        features = self.torso(Encoder(self.observation_space)(obs))
        return jnp.tanh(self.linear(self.action_size)(features))


class BoundedNormalPolicy(nn.Module):
    """obs -> Normal over [..., A] with a mean in (-1, 1); the deviation is the same in all states.

    As in Kostrikov et al. 2021, arXiv:2110.06169 (their code).
    """

    observation_space: Any
    action_size: int
    torso: nn.Module
    log_std_min: float = -5.0
    log_std_max: float = 2.0

    @nn.compact
    def __call__(self, obs: Any) -> ops.Normal:
        features = self.torso(Encoder(self.observation_space)(obs))
        mean = jnp.tanh(nn.Dense(self.action_size, kernel_init=orthogonal(1.0))(features))
        log_std = self.param("log_std", nn.initializers.zeros, (self.action_size,))
        log_std = jnp.clip(log_std, self.log_std_min, self.log_std_max)
        return ops.Normal(mean, jnp.broadcast_to(log_std, mean.shape))


class SquashedNormalPolicy(nn.Module):
    """obs -> TanhNormal over [..., A], with a log standard deviation squashed to its bounds.

    Squashing instead of clipping keeps a gradient at the bounds. Mean and deviation have separate
    output layers.
    """

    observation_space: Any
    action_size: int
    torso: nn.Module
    linear: Linear = nn.Dense
    log_std_min: float = -10.0
    log_std_max: float = 2.0

    @nn.compact
    def __call__(self, obs: Any) -> ops.TanhNormal:
        features = self.torso(Encoder(self.observation_space)(obs))
        mean = self.linear(self.action_size)(features)
        share = (1 + jnp.tanh(self.linear(self.action_size)(features))) / 2
        log_std = self.log_std_min + (self.log_std_max - self.log_std_min) * share
        return ops.TanhNormal(mean, log_std)


class Critic(nn.Module):
    """obs, action [..., A] -> values [...]: `form` applied to the output [..., outputs].

    A form is a value distribution such as Quantiles. By default the value is the single output.
    """

    observation_space: Any
    torso: nn.Module
    outputs: int = 1
    form: Callable[[Array], ValueDistribution | Array] = only
    linear: Linear = nn.Dense

    @nn.compact
    def __call__(self, obs: Any, action: Array) -> ValueDistribution | Array:
        features = Encoder(self.observation_space)(obs)
        features = self.torso(jnp.concatenate([features, action], -1))
        return self.form(self.linear(self.outputs)(features))
