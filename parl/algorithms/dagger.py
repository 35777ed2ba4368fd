"""DAgger: imitation of a teacher in the states that the learner itself gets into.

Ross et al. 2011, arXiv:1011.0686. Shapes: T time, B environments, O observation, A action.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from parl import ops
from parl.algorithms.bc import BC
from parl.core.algorithm import Algorithm
from parl.core.spec import EnvSpec
from parl.core.types import Array, Metrics, Net, Params, Rollout, Step


class Teacher(NamedTuple):
    """Who says what to do: an algorithm without memory, and its policy."""

    algorithm: Algorithm
    policy: Any


class DAggerState(struct.PyTreeNode):
    """What is learned, and the number of steps, which drives who acts."""

    actor: Net
    env_steps: Array  # [] int32


class DAggerPolicy(struct.PyTreeNode):
    """Parameters for acting, with the share of the teacher's actions."""

    params: Params
    share: Array  # []


class DAgger(BC):
    """BC on the teacher's greedy actions in the observations that were collected."""

    teacher: Any = None  # a Teacher; None where nothing is collected any more
    teacher_steps: int = 5_000  # environment steps over which the teacher's share of actions falls

    def init(self, key: Array, spec: EnvSpec) -> DAggerState:
        return DAggerState(super().init(key, spec).actor, jnp.zeros((), jnp.int32))

    def policy(self, state: DAggerState) -> DAggerPolicy:
        """Algorithm 3.1 with a linear schedule: beta falls from 1 to 0."""
        share = 1.0 - state.env_steps / jnp.maximum(self.teacher_steps, 1)
        return DAggerPolicy(state.actor.params, jnp.maximum(share, 0.0))

    def act(
        self, policy: DAggerPolicy, obs: Any, memory: Any, key: Array, explore: bool
    ) -> tuple[Array, Any, dict[str, Any]]:
        k_own, k_who = jax.random.split(key)
        action, memory, extras = super().act(policy.params, obs, memory, k_own, explore)
        if not explore or self.teacher is None:
            return action, memory, extras
        theirs = self.labels(obs)
        chosen = jax.random.bernoulli(k_who, policy.share, action.shape[:1])
        return jnp.where(ops.expand_like(chosen, action), theirs, action), memory, extras

    def labels(self, obs: Any) -> Array:
        """The teacher's greedy actions [B, A] for obs [B, *O]."""
        algorithm, policy = self.teacher
        memory = algorithm.memory((jax.tree.leaves(obs)[0].shape[0],))
        return algorithm.act(policy, obs, memory, jax.random.key(0), False)[0]

    def items(self, rollout: Rollout) -> Any:
        """Single steps with the teacher's actions."""
        steps: Step = super().items(rollout)
        return steps if self.teacher is None else steps._replace(action=self.labels(steps.obs))

    def observe(self, state: DAggerState, rollout: Rollout) -> DAggerState:
        return state.replace(env_steps=state.env_steps + rollout.steps.first.size)

    def update(self, state: DAggerState, batch: Step, key: Array) -> tuple[DAggerState, Metrics]:
        new, metrics = super().update(state, batch, key)  # pyright: ignore[reportArgumentType]
        return state.replace(actor=new.actor), metrics
