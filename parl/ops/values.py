"""Selection among values [..., A], and random actions."""

import functools
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from parl.core.spec import Box, Discrete, MultiDiscrete, Space, mask_space
from parl.core.types import Array
from parl.ops.tree import expand_like

# Finite, so that 0 * ILLEGAL is 0 for an agent without legal actions at a discount of 0, and low
# enough for a softmax to give exactly 0.
ILLEGAL = -1e9


RESCALE_SLOPE = 1e-3  # of rescaled values, beside the square root


def legal_actions(obs: Any) -> Array | None:
    """The mask `legal` [..., A] of a dict observation, or None."""
    return obs.get("legal") if isinstance(obs, dict) else None


def split_choices(x: Array, space: MultiDiscrete) -> list[Array]:
    """Splits [..., sum of n_i] into one array [..., n_i] for each component."""
    ends = np.cumsum(space.nvec).tolist()
    return [x[..., end - n : end] for end, n in zip(ends, space.nvec, strict=True)]


def is_stuck(obs: Any, space: Space) -> Any:
    """Whether a mask `legal` [..., A] in obs leaves some entry without an action: [] bool."""
    legal = legal_actions(obs)
    if legal is None or isinstance(space, Box):
        return False
    if isinstance(space, MultiDiscrete):
        return ~functools.reduce(
            operator.and_, (part.any(-1).all() for part in split_choices(legal, space))
        )
    return ~legal.any(-1).all()


def mask_illegal(q: Array, legal: Array) -> Array:
    """Values or logits [..., A] with ILLEGAL where `legal` [..., A] is false."""
    return jnp.where(legal, q, ILLEGAL)


def select(values: Array, index: Array) -> Array:
    """The entries [...] of values [..., A] at index [...] int."""
    if jnp.ndim(values) != jnp.ndim(index) + 1:
        raise ValueError(
            f"values {jnp.shape(values)} must have one axis more than index {jnp.shape(index)}."
        )
    return jnp.take_along_axis(values, jnp.asarray(index)[..., None], axis=-1)[..., 0]


def draw(key: Array, logits: Array) -> Array:
    """Draws choices [...] int32 from the softmax of finite logits [..., A].

    The largest logit is subtracted: if all were as low as ILLEGAL, rounding would always pick one.
    """
    top = logits.max(-1, keepdims=True)
    return jax.random.categorical(key, logits - top).astype(jnp.int32)


def huber(error: Array, delta: float | Array = 1.0) -> Array:
    """Huber loss [...] of errors [...]: e^2 / 2 up to |e| = delta, linear beyond. Huber 1964.

    delta = 1 has the gradient of the clipped error in DQN, Mnih et al. 2015.
    """
    size, bounded = jnp.abs(error), jnp.minimum(delta, 1e38)  # infinity times 0 is NaN
    linear = size > bounded
    quadratic = 0.5 * jnp.where(linear, 0.0, size) ** 2
    return jnp.where(linear, bounded * (size - 0.5 * bounded), quadratic)


def expectile_loss(error: Array, expectile: float | Array) -> Array:
    """|expectile - (e < 0)| e^2 of errors [...], Newey and Powell 1987, doi:10.2307/1911031.

    At 1/2 it is half the squared error, whose minimum is the mean.
    """
    return jnp.abs(expectile - (error < 0)) * error**2


def epsilon_greedy(
    key: Array, q: Array, epsilon: float | Array, legal: Array | None = None
) -> Array:
    """Actions [...] int32 for values q [..., A]: uniform with probability epsilon, else the best.

    epsilon is a scalar or has leading axes of q, such as one value per environment. Both branches
    respect `legal` [..., A] if it is given.
    """
    k_explore, k_action = jax.random.split(key)
    greedy = jnp.argmax(q if legal is None else mask_illegal(q, legal), axis=-1).astype(jnp.int32)
    random = uniform_action(k_action, Discrete(q.shape[-1]), q.shape[:-1], legal)
    explore = jax.random.uniform(k_explore, greedy.shape) < expand_like(epsilon, greedy)
    return jnp.where(explore, random, greedy)


def uniform_action(
    key: Array, space: Space, batch_shape: tuple[int, ...], legal: Array | None = None
) -> Array:
    """Random actions [*batch_shape, *space.shape]: in [-1, 1] for a Box, else int32.

    `legal` [*batch_shape, A] restricts the choices of a Discrete or, concatenated, those of a
    MultiDiscrete. A choice with no legal option is drawn from all. It has no effect on a Box.
    """
    if isinstance(space, Box):
        return jax.random.uniform(key, (*batch_shape, *space.shape), minval=-1.0, maxval=1.0)
    if legal is not None and jnp.shape(legal) != (*batch_shape, *mask_space(space).shape):
        wanted = (*batch_shape, *mask_space(space).shape)
        raise ValueError(f"legal {jnp.shape(legal)} must be {wanted}.")
    match space:
        case Discrete():
            if legal is None:
                return jax.random.randint(key, batch_shape, 0, space.n, jnp.int32)
            return uniform_choice(key, legal)
        case MultiDiscrete():
            if legal is None:
                shape = (*batch_shape, *space.shape)
                return jax.random.randint(key, shape, 0, jnp.array(space.nvec), jnp.int32)
            keys, parts = jax.random.split(key, len(space.nvec)), split_choices(legal, space)
            return jnp.stack([uniform_choice(*x) for x in zip(keys, parts, strict=True)], -1)
    raise ValueError(f"Actions of {space} cannot be drawn: use a Box, Discrete or MultiDiscrete.")


def uniform_choice(key: Array, legal: Array) -> Array:
    """A uniform choice [...] int32 among the legal ones of [..., A], or among all if none is."""
    return draw(key, jnp.where(legal, 0.0, ILLEGAL))


def rescaled(x: Array) -> Array:
    """h(x) = sign(x) (sqrt(|x| + 1) - 1) + 0.001 x. Pohlen et al. 2018, arXiv:1805.11593, eq. 3."""
    return jnp.sign(x) * (jnp.sqrt(jnp.abs(x) + 1) - 1) + RESCALE_SLOPE * x


def unscaled(x: Array) -> Array:
    """The inverse of `rescaled`, in a form that loses no digits near 0."""
    size, slope = jnp.abs(x), RESCALE_SLOPE
    root = jnp.sqrt(1 + 4 * slope * (size + 1 + slope))
    return jnp.sign(x) * ((2 * (size + 1 + slope) / (root + 1)) ** 2 - 1)
