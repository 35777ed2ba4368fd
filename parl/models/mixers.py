"""Mixers: from the values of agents' actions to that of their joint action.

A mixer takes q [..., N], with 0 where an agent does not act, and the state [..., S]; what it
returns, [...], must not fall where any of q rises, so that each agent's best action is part of the
best joint one.
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
    """No mixing: every agent's own value, [..., N]."""

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

    Two layers; their weights are absolute values of what networks of the state give. Two things are
    not the paper's, since such values grow with the square of the state and learning would set out
    for states of which it has seen nothing: these networks start small and are normalised inside.
    """

    features: int = 32  # of the mixing network
    hidden: int = 64  # of the networks of the state

    @nn.compact
    def __call__(self, q: Array, state: Array) -> Array:
        small = partial(nn.Dense, kernel_init=orthogonal(0.1))

        def from_state(size: int) -> Array:
            return small(size)(nn.LayerNorm()(nn.relu(nn.Dense(self.hidden)(state))))

        weight = from_state(q.shape[-1] * self.features).reshape(*q.shape, self.features)
        bias = small(self.features)(state)
        hidden = nn.elu(jnp.einsum("...n,...nf->...f", q, jnp.abs(weight)) + bias)
        return (hidden * jnp.abs(from_state(self.features))).sum(-1) + from_state(1)[..., 0]
