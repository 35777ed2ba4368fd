"""R2D2: recurrent Q-learning on windows of replay, with burn-in and stored memory.

Kapturowski et al. 2019, "Recurrent Experience Replay in Distributed Reinforcement Learning",
openreview.net/forum?id=r1lyTjAqYX. Shapes: T time, B batch, A actions.
"""

from typing import Any

import jax

from parl import ops
from parl.algorithms.dqn import DQN, DQNState
from parl.algorithms.shared import windows
from parl.algorithms.shared.q_learning import QPolicy, greedy
from parl.core.spec import EnvSpec
from parl.core.types import Array, Metrics, Params, Rollout, Window, static
from parl.models import recurrent


class R2D2(DQN):
    """n-step double Q-learning of rescaled values; batches are Windows [B, T, ...]."""

    horizon: int = static(default=5)  # steps of the returns
    rescale: bool = static(default=True)  # whether the network predicts h(value)

    def init(self, key: Array, spec: EnvSpec) -> DQNState:
        return self.start(recurrent.init(self.q, key, spec.obs))

    def act(
        self, policy: QPolicy, obs: Any, memory: Any, key: Array, explore: bool
    ) -> tuple[Array, Any, dict[str, Any]]:
        if not explore:
            return super().act(policy, obs, memory, key, explore)
        action, after, _ = super().act(policy, obs, memory, key, explore)
        return action, after, {"memory": memory}

    def items(self, rollout: Rollout) -> Any:
        """Single steps with the memory before each."""
        fresh = self.memory(rollout.steps.first.shape)
        return super().items(windows.with_memory(rollout, fresh))

    def loss(
        self, params: Params, target_params: Params, batch: Window, key: Array
    ) -> tuple[Array, Metrics]:
        """Distance from h(n-step return), eq. 1, at the steps that are there."""
        window = windows.in_time(batch)
        q, next_q = windows.outputs(self.q, params, window, batch.memory)  # [T, B, A]
        target_q = windows.outputs(self.q, target_params, window, batch.memory)[1]
        legal = ops.legal_actions(window.steps.next_obs)
        best = greedy(next_q if self.double else target_q, legal)
        target = jax.lax.stop_gradient(self.returns(window, ops.select(target_q, best)))
        values = ops.Huber(ops.select(q, window.steps.action), self.huber_delta)
        loss = windows.mean_loss(values.loss(target), window)
        size = windows.window_error(values.error(target), window)
        return loss, {"loss": loss, "q": self.plain(values.mean).mean(), "td_error": size}

    def returns(self, window: Window, next_value: Array) -> Array:
        """h(n-step returns) [T, B] from next values [T, B] that are rescaled, too."""
        steps, ends = window.steps, windows.ends(window)
        discount, next_value = self.gamma * steps.discount, self.plain(next_value)
        found = ops.n_step(steps.reward, discount, ends, next_value, self.horizon)
        return ops.rescaled(found) if self.rescale else found

    def plain(self, value: Array) -> Array:
        """What the network predicts as a value: h^-1 of it."""
        return ops.unscaled(value) if self.rescale else value
