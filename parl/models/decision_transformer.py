"""The causal transformer of Decision Transformer. Chen et al. 2021, arXiv:2106.01345, section 3.

Shapes: [...] any leading axes, K steps, O observation, A action, D features of a token.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from parl import ops
from parl.core.spec import Box, Discrete, example
from parl.core.types import Array
from parl.models.encoder import Encoder
from parl.models.norms import Dropout

TOKENS = 3  # of a step: the return to go, the observation and the action
FAR = -1e9  # the score of a token that is not looked at


class History(struct.PyTreeNode):
    """Consecutive steps of an episode."""

    to_go: Any  # [..., K] returns to go
    obs: Any  # [..., K, *O]
    action: Any  # [..., K, A], or [..., K] choices
    time: Any  # [..., K] int32, the step's number in its episode
    there: Any  # [..., K] bool, others are padding


class DecisionTransformer(nn.Module):
    """A History -> the actions [..., K, A] in (-1, 1), or a Categorical over the choices.

    Each is of the tokens up to the observation of its step: no later token and no padding changes
    it.
    """

    observation_space: Any
    action_space: Box | Discrete
    steps: int = 20  # K of acting
    width: int = 128
    layers: int = 3
    heads: int = 1
    dropout: float = 0.1
    times: int = 1_000  # steps of an episode with features of their own

    @nn.compact
    def __call__(self, history: History) -> Any:
        features = Encoder(self.observation_space)(history.obs)
        taken = history.action
        if isinstance(self.action_space, Discrete):
            taken = jax.nn.one_hot(taken, self.action_space.n)
        parts = history.to_go[..., None], features, taken
        table = self.param("times", nn.initializers.normal(0.02), (self.times, self.width))
        time = jnp.asarray(table)[jnp.clip(history.time, 0, self.times - 1)]
        tokens = jnp.stack([nn.Dense(self.width)(part) + time for part in parts], -2)
        x = tokens.reshape(*tokens.shape[:-3], -1, self.width)  # [..., 3 K, D]
        x = Dropout(self.dropout)(nn.LayerNorm()(x))
        seen = visible(history.there)
        for _ in range(self.layers):
            x = Block(self.heads, self.dropout)(x, seen)
        x = nn.LayerNorm()(x).reshape(tokens.shape)[..., 1, :]  # those of the observations
        if isinstance(self.action_space, Box):
            return jnp.tanh(nn.Dense(self.action_space.shape[-1])(x))
        pi = ops.Categorical(nn.Dense(self.action_space.n)(x))
        legal = ops.legal_actions(history.obs)
        return pi if legal is None else pi.masked(legal)

    @nn.nowrap
    def empty(self, batch_shape: tuple[int, ...], to_go: Any) -> History:
        """The history before an episode's first step, all of it padding."""
        lead = *batch_shape, self.steps
        zeros = lambda space: jax.tree.map(jnp.asarray, example(space, lead))
        return History(
            jnp.full(lead, to_go, jnp.float32),
            zeros(self.observation_space),
            zeros(self.action_space),
            jnp.full(lead, -1, jnp.int32),
            jnp.zeros(lead, bool),
        )


class Block(nn.Module):
    """Attention and two layers, each added to what goes in: x [..., T, D], seen [..., T, T]."""

    heads: int
    dropout: float

    @nn.compact
    def __call__(self, x: Array, seen: Array) -> Array:
        width, split = x.shape[-1], (*x.shape[:-1], self.heads, -1)
        q, k, v = jnp.split(nn.Dense(3 * width)(nn.LayerNorm()(x)), 3, -1)
        q, k, v = (part.reshape(split) for part in (q, k, v))
        scores = jnp.einsum("...qhd,...khd->...hqk", q, k) / jnp.sqrt(jnp.float32(q.shape[-1]))
        weights = jax.nn.softmax(jnp.where(seen[..., None, :, :], scores, FAR), -1)
        weights = Dropout(self.dropout)(weights)
        heads = jnp.einsum("...hqk,...khd->...qhd", weights, v).reshape(x.shape)
        x = x + Dropout(self.dropout)(nn.Dense(width)(heads))
        y = nn.relu(nn.Dense(4 * width)(nn.LayerNorm()(x)))
        return x + Dropout(self.dropout)(nn.Dense(width)(y))


def visible(there: Array) -> Array:
    """[..., 3 K, 3 K] bool, which tokens (last axis) each one looks at: its own and earlier ones.

    Padding, where `there` [..., K] is false, is looked at by none but itself.
    """
    tokens = jnp.repeat(there, TOKENS, -1)
    count = tokens.shape[-1]
    earlier = jnp.tril(jnp.ones((count, count), bool))
    return earlier & (tokens[..., None, :] | jnp.eye(count, dtype=bool))
