"""Types shared by every layer. Axes: T time, B environments or batch, N agents, O, A sizes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from flax import struct

from parl.core.sharding import averaged

Array = jax.Array
Params = Any
Metrics = dict[str, jax.Array]


def static(**kwargs: Any) -> Any:
    """A dataclass field that jit treats as part of the program, not as data."""
    return struct.field(pytree_node=False, **kwargs)


class Step(NamedTuple):
    """One environment step. Leaves are [T, B, ...] in a rollout, [B, ...] in a batch.

    `discount` and `last` refer to the whole environment. With several agents, next_obs shows what
    happened to each: an agent that is not alive there has died; one that is alive there but not in
    the next step's obs was cut alone. See parl/ops/agents.py.
    """

    obs: Any  # [..., *O]; multi-agent leaves carry N right after the batch axes
    action: Any  # [..., A] float or [...] int
    reward: Any  # [...], or [..., N] for individual rewards
    discount: Any  # [...] 0 where the episode terminated, 1 elsewhere, also at time limits
    next_obs: Any  # [..., *O] the result of the action, before any automatic reset
    first: Any  # [...] bool, obs is the first of an episode
    last: Any  # [...] bool, the episode ended here, terminated or truncated
    extras: dict[str, Any]  # what act() returned beside the action, e.g. log_prob [...]

    @property
    def cut(self) -> Any:
        """[...] bool, the episode was truncated here: the next step's obs is not next_obs.

        `ops.cut` also covers truncation for one of several agents.
        """
        return self.last & (self.discount > 0)


class Rollout(NamedTuple):
    """The only thing that passes from collecting to learning."""

    steps: Step  # [T, B, ...]
    memory: Any  # [B, ...] recurrent or noise state before the first step


class Window(NamedTuple):
    """Consecutive steps of an environment, one window per entry of a batch; see `Segments`.

    Memory is reset at `first`, as a window may cover several episodes.
    """

    before: Step  # [B, burn_in, ...] steps that only bring memory up to date
    steps: Step  # [B, T, ...] steps to learn from, which follow those
    memory: Any  # [B, ...] what acting remembered before the window's first step; () if not stored
    there: Any  # [B, T] bool, whether the step is stored and follows those before it
    extras: dict[str, Any]  # of whole windows, such as `weight` [B]

    @property
    def one_episode(self) -> Any:
        """[B, T] bool, the steps that are there and of the same episode as steps[:, 0]."""
        opened = self.steps.first.cumsum(-1) - self.steps.first[..., :1]
        return self.there & (opened == 0)


class Net(NamedTuple):
    """Parameters and their optimiser state."""

    params: Params
    opt: optax.OptState


class Strategy(NamedTuple):
    """How a policy is to be played in a game of discrete actions, for exact evaluation.

    With `weights`, each agent draws one of P strategies before the game and keeps to it.
    """

    probs: Any  # [..., N, A] of the actions of each agent; [P, ..., N, A] with `weights`
    weights: Any = None  # [N, P]


def descend(
    optimizer: optax.GradientTransformation, loss: Callable, net: Net, *args: Any
) -> tuple[Net, Metrics]:
    """One optimiser step on `loss(params, *args) -> (scalar, metrics)`."""
    grads, metrics = jax.grad(loss, has_aux=True)(net.params, *args)
    updates, opt = optimizer.update(averaged(grads), net.opt, net.params)
    return Net(optax.apply_updates(net.params, updates), opt), metrics
