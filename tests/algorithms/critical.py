"""What the tests of SAC's descendants share: an actor and a batch with given numbers."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from handmade import Function, steps

from parl.core.spec import Box, EnvSpec

SPEC = EnvSpec("test", Box((1,)), Box((1,), low=-1.0, high=1.0))
KEY = jax.random.key(0)
BATCH = steps(
    obs=[[1.0], [2.0]],
    action=[[0.5], [-0.5]],
    next_obs=[[2.0], [4.0]],
    reward=[1.0, -1.0],
    discount=[1.0, 0.0],
)


class Certain(struct.PyTreeNode):
    """A distribution whose sample [B, 1] and log-probability [B] are given."""

    action: jax.Array
    log_prob: jax.Array

    def sample_and_log_prob(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self.action, self.log_prob


# action = p obs with log-probability p - 3: next actions 1 and 2, of log-probability -2.5
ACTOR = Function(lambda p, obs: Certain(p * obs, p - 3 + 0 * obs[:, 0]), jnp.float32(0.5))


def critic_loss(algorithm: Any, params: Any, target: Any, key: Any = KEY) -> Any:
    """(loss, metrics) on the batch with these critics and their target."""
    state = algorithm.init(KEY, SPEC).replace(target=target)
    loss, (metrics, _) = algorithm.critic_loss(params, state, BATCH, key, key)
    return loss, metrics
