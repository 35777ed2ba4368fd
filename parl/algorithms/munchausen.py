"""Munchausen DQN: soft Q-learning whose reward includes the log-probability of the action taken.

Vieillard et al. 2020, arXiv:2007.14430, eq. 2. With `munchausen` 0 it is soft DQN. The policy is
the softmax of the target network's values over the temperature; acting is epsilon-greedy, as in the
paper. With a network of quantiles it is Munchausen-IQN. Shapes: B batch, A actions.
"""

from typing import Any

import jax
import jax.numpy as jnp

from parl import ops
from parl.algorithms.dqn import DQN
from parl.core.types import Array, Params


class Munchausen(DQN):
    """Soft Q-learning; batches are single steps [B, ...]."""

    munchausen: float = 0.9  # weight of the log-probability in the reward
    entropy_temperature: float = 0.03  # weight of the entropy, in units of reward
    log_policy_min: float = -1.0  # least log-probability in the reward, times the temperature

    def target(self, params: Params, target_params: Params, batch: Any, key: Array) -> Array:
        """reward + munchausen * log-probability + gamma * soft value of the next state."""
        k_now, k_next = jax.random.split(key)
        now = self.outputs(target_params, batch.obs, k_now)  # [B, A]
        later = self.outputs(target_params, batch.next_obs, k_next)
        taken = self.scaled(self.softmax(now, batch.obs).log_prob(batch.action))
        bonus = self.munchausen * jnp.clip(taken, self.log_policy_min, 0.0)
        pi = self.softmax(later, batch.next_obs)
        cost = self.scaled(-pi.entropy())
        next_value = ops.as_values(later).mixture(pi.probs)
        return next_value.backup(batch.reward + bonus, self.gamma * batch.discount, cost)

    def softmax(self, values: Any, obs: Any) -> ops.Categorical:
        """The policy over legal actions that belongs to values [B, A]."""
        pi = ops.Categorical(ops.mean_of(values) / self.entropy_temperature)
        legal = ops.legal_actions(obs)
        return pi if legal is None else pi.masked(legal)

    def scaled(self, log_prob: Array) -> Array:
        """Log-probabilities in units of reward."""
        return self.entropy_temperature * log_prob
