"""The proximal term of federated learning, as an optimiser.

FedProx, Li et al. 2020, arXiv:1812.06127, eq. 2: each client minimises its own loss plus
mu / 2 ||w - w_t||^2, where w_t are the parameters that the round began with.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import optax

from parl.core.types import Net


class ProximalState(NamedTuple):
    """The state of the optimiser within, and w_t."""

    inner: Any
    center: Any  # like the parameters


@dataclass(frozen=True)
class Proximal:
    """An optimiser of a rate, with mu (w - w_t) added to its gradients."""

    optimizer: Callable[..., optax.GradientTransformation]
    mu: float

    def __call__(self, *rate: Any, **settings: Any) -> optax.GradientTransformation:
        """The optimiser at a rate."""
        within = self.optimizer(*rate, **settings)

        def init(params: Any) -> ProximalState:
            return ProximalState(within.init(params), jax.tree.map(lambda x: x, params))

        def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, ProximalState]:
            pulled = jax.tree.map(
                lambda g, w, center: g + self.mu * (w - center), updates, params, state.center
            )
            steps, inner = within.update(pulled, state.inner, params)
            return steps, ProximalState(inner, state.center)

        return optax.GradientTransformation(init, update)


def recentered(algorithm_state: Any) -> Any:
    """The state at the start of a round: w_t are the current parameters of each network."""

    def of_net(net: Any) -> Any:
        if not isinstance(net, Net):
            return net
        replace = lambda x: x._replace(center=net.params) if is_proximal(x) else x
        return net._replace(opt=jax.tree.map(replace, net.opt, is_leaf=is_proximal))

    return jax.tree.map(of_net, algorithm_state, is_leaf=lambda x: isinstance(x, Net))


def without_centers(algorithm_state: Any) -> Any:
    """The state of the same algorithm whose optimisers are not `Proximal`."""
    inner = lambda x: x.inner if is_proximal(x) else x
    return jax.tree.map(inner, algorithm_state, is_leaf=is_proximal)


def is_proximal(x: Any) -> bool:
    """Whether x is the state of a `Proximal`."""
    return isinstance(x, ProximalState)
