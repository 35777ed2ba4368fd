"""Gumbel MuZero's tree search, Danihelka et al. 2022, https://openreview.net/forum?id=bERaNdoegnO.

At the root, actions are drawn without replacement from the prior and halved by their values; below,
an action is taken where its visits lag most behind the improved policy. Shapes: B environments, A
actions.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from parl.core.errors import MissingPackage
from parl.core.types import Array


class Node(NamedTuple):
    """What is known of a state before its actions are tried."""

    logits: Array  # [B, A] of the prior policy
    value: Array  # [B] of the player to act
    state: Any  # [B, ...] from which `Model` goes on


class Edge(NamedTuple):
    """What an action gave the player who took it."""

    reward: Array  # [B]
    discount: Array  # [B] of the next value: negative where the other player acts next, 0 at an end


Model = Callable[[Any, Array, Array], tuple[Edge, Node]]  # (state [B, ...], action [B], key)


class Search(NamedTuple):
    """The result of a search."""

    action: Array  # [B] int32
    policy: Array  # [B, A] probabilities, no worse than the prior
    value: Array  # [B] of the root, the mean over what was tried


def gumbel_search(
    model: Model,
    root: Node,
    key: Array,
    *,
    simulations: int,
    legal: Array | None = None,
    considered: int = 16,
    noise: float = 1.0,
    least_range: float | Array = 1e-8,
) -> Search:
    """Searches from `root` with `simulations` calls of `model`.

    `legal` [B, A] restricts the first action; below, the model's logits must be low where actions
    are illegal. At most `considered` actions are tried at the root. The Gumbel noise is scaled by
    `noise`; with 0 the action is deterministic. The completed values of a node's actions are
    scaled by their range, as in the paper, or by `least_range` where they lie closer
    together: else differences without meaning decide. Raises MissingPackage without mctx.
    """
    try:
        import mctx  # only now: few runs search
    except ImportError as error:
        raise MissingPackage("searching needs mctx: pip install mctx") from error

    def recurrent(_: Any, key: Any, action: Any, state: Any) -> tuple[Any, Any]:
        edge, node = model(state, action, key)
        prior = {"prior_logits": node.logits, "value": node.value}
        return mctx.RecurrentFnOutput(**edge._asdict(), **prior), node.state

    prior = {"prior_logits": root.logits, "value": root.value}
    found: Any = mctx.gumbel_muzero_policy(
        (),
        key,
        mctx.RootFnOutput(**prior, embedding=root.state),  # pyright: ignore[reportCallIssue]
        recurrent,  # pyright: ignore[reportArgumentType]
        simulations,
        invalid_actions=None if legal is None else ~legal,
        max_num_considered_actions=considered,
        gumbel_scale=noise,
        qtransform=partial(mctx.qtransform_completed_by_mix_value, epsilon=least_range),  # pyright: ignore[reportArgumentType]
    )
    value = found.search_tree.summary().value
    weights = jax.lax.stop_gradient(found.action_weights)
    return Search(found.action.astype(jnp.int32), weights, value)
