"""Memory for off-policy actor-critics that learn from single steps, as a wrapper.

Ni et al. 2022, arXiv:2110.05038: actor and critics have recurrent networks of their own. Both learn
from windows of replay, from the memory that acting had and with the same burn-in (Kapturowski et
al. 2019, section 3). Shapes: T time, B batch.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from parl import ops
from parl.algorithms.shared import windows
from parl.algorithms.wrappers.base import AlgorithmWrapper
from parl.core.algorithm import Algorithm
from parl.core.spec import EnvSpec
from parl.core.types import Array, Metrics, Params, Rollout, Step, Window
from parl.models.histories import AtStep, InWindow, WithHistory


class Memories(struct.PyTreeNode):
    """What acting remembers."""

    inner: Any  # the wrapped algorithm's, of its noise
    networks: dict[str, Any]  # [B, ...] of actor and critic


class RememberingPolicy(struct.PyTreeNode):
    """The wrapped algorithm's policy, and the critic, whose memory acting keeps."""

    inner: Any  # the actor's parameters
    critic: Params


class Remembering(AlgorithmWrapper):
    """Gives `inner`, whose actor and critic are `WithHistory`, observations with their history.

    The policy of `inner` is its actor's parameters, and its state has the critic's in `critic`.
    """

    def init(self, key: Array, spec: EnvSpec) -> Any:
        return self.inner.init(key, spec)

    def policy(self, state: Any) -> RememberingPolicy:
        return RememberingPolicy(self.inner.policy(state), state.critic.params)

    @property
    def networks(self) -> dict[str, WithHistory]:
        """The networks by their names."""
        inner: Any = self.inner
        return {network.name: network for network in (inner.actor, inner.critic)}

    def memory(self, batch_shape: tuple[int, ...]) -> Memories:
        networks = {name: net.memory(batch_shape) for name, net in self.networks.items()}
        return Memories(self.inner.memory(batch_shape), networks)

    def act(
        self, policy: RememberingPolicy, obs: Any, memory: Memories, key: Array, explore: bool
    ) -> tuple[Any, Any, dict[str, Any]]:
        seen, networks = AtStep(obs, memory.networks), self.networks
        action, inner, extras = self.inner.act(policy.inner, seen, memory.inner, key, explore)
        after = {
            "actor": networks["actor"].step(policy.inner, seen)[1],
            "critic": networks["critic"].step(policy.critic, seen, action)[1],
        }
        if explore:
            extras = extras | {"memory": memory.networks}
        return action, Memories(inner, after), extras

    def exploring(self, policy: RememberingPolicy, place: Array) -> tuple[Algorithm, Any]:
        inner, own = self.inner.exploring(policy.inner, place)
        return self.replace(inner=inner), policy.replace(inner=own)

    def observe(self, state: Any, rollout: Rollout) -> Any:
        return self.inner.observe(state, rollout)

    def items(self, rollout: Rollout) -> Any:
        fresh = self.memory(rollout.steps.first.shape).networks
        return self.inner.items(windows.with_memory(rollout, fresh))

    def update(self, state: Any, batch: Window, key: Array) -> tuple[Any, Metrics]:
        if not jax.tree.leaves(batch.memory):  # steps that were stored without
            fresh = self.memory((batch.there.shape[0],)).networks
            batch = batch._replace(memory=fresh)
        window = windows.in_time(batch)
        state, metrics = self.inner.update(state, as_steps(window), key)
        error = metrics["td_error"].reshape(window.there.shape)
        return state, metrics | {"td_error": windows.window_error(error, window)}


def as_steps(window: Window) -> Step:
    """A window with time in front as steps [T * B, ...], whose obs carry their history.

    Those that are not there have the weight 0.
    """
    flat = lambda x: jnp.asarray(x).reshape(-1, *x.shape[2:])
    steps, there = window.steps, window.there
    share = jnp.maximum(there.mean(), 1 / there.size)
    weight = ops.masked(jnp.broadcast_to(window.extras.get("weight", 1.0), there.shape), there)
    rest = jax.tree.map(flat, steps._replace(obs=(), next_obs=(), extras={}))
    return rest._replace(
        obs=InWindow(window),
        next_obs=InWindow(window, after=True),
        extras={"weight": flat(weight / share), "there": flat(there)},
    )
