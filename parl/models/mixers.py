"""Mixers combine the values of the agents' actions into the value of their joint action.

A mixer takes q [..., N], with 0 for agents that do not act, and the state [..., S]. Its output
[...] must not decrease in any entry of q, so that each agent's best action is part of the best
joint action.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from parl.core.types import Array, Params
from parl.models.initialization import orthogonal


@dataclass(frozen=True)
class Independent:
    """No mixing: returns each agent's own value, [..., N]."""

    def init(self, key: Array, /, *inputs: Any) -> Params:
        return {}

    def apply(self, params: Params, /, *inputs: Any, method: Any = None) -> Array:
        return inputs[0]


@dataclass(frozen=True)
class Sum:
    """The sum of the values. VDN, Sunehag et al. 2018, arXiv:1706.05296, eq. 2."""

    def init(self, key: Array, /, *inputs: Any) -> Params:
        return {}

    def apply(self, params: Params, /, *inputs: Any, method: Any = None) -> Array:
        return inputs[0].sum(-1)


class QMixer(nn.Module):
    """A monotone network whose weights follow from the state. QMIX, arXiv:1803.11485, fig. 2.

    It has two layers, whose weights are the absolute outputs of networks of the state. Unlike in
    the paper, these networks start with small weights and use LayerNorm: otherwise values grow with
    the square of the state, and targets for unseen states would be far off.
    """

    features: int = 32  # of the mixing network
    hidden: int = 64  # of the networks that map the state to weights

    @nn.compact
    def __call__(self, q: Array, state: Array) -> Array:
        small = partial(nn.Dense, kernel_init=orthogonal(0.1))

        def from_state(size: int) -> Array:
            return small(size)(nn.LayerNorm()(nn.relu(nn.Dense(self.hidden)(state))))

        weight = from_state(q.shape[-1] * self.features).reshape(*q.shape, self.features)
        bias = small(self.features)(state)
        hidden = nn.elu(jnp.einsum("...n,...nf->...f", q, jnp.abs(weight)) + bias)
        return (hidden * jnp.abs(from_state(self.features))).sum(-1) + from_state(1)[..., 0]
