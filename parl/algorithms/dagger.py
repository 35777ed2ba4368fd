"""DAgger: imitation of a teacher in the states that the learner itself gets into.

Ross et al. 2011, arXiv:1011.0686. Shapes: T time, B environments, O observation, A action.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from parl import ops
from parl.algorithms.wrappers.base import AlgorithmWrapper
from parl.core.algorithm import Algorithm
from parl.core.spec import EnvSpec
from parl.core.types import Array, Metrics, Rollout, Step

LABEL = "label"  # the extra of a step with the teacher's action


class Teacher(NamedTuple):
    """Who says what to do: an algorithm, and its policy."""

    algorithm: Algorithm
    policy: Any


class DAggerState(struct.PyTreeNode):
    """What is learned, and the number of steps, which drives who acts."""

    inner: Any
    env_steps: Array  # [] int32


class DAggerPolicy(struct.PyTreeNode):
    """The learner's policy, with the share of the teacher's actions."""

    inner: Any
    share: Array  # []


class DAgger(AlgorithmWrapper):
    """`inner`, such as BC, on the teacher's greedy actions in the observations that were collected.

    The teacher sees observations as they are, also where `inner` normalises them. It is a part of
    this object and not of the state, so that a run acts without it.
    """

    teacher: Any = None  # a Teacher; None where nothing is collected any more
    teacher_steps: int = 5_000  # environment steps over which the teacher's share of actions falls
    exploration: float = 0.0  # standard deviation of noise on the learner's actions of a Box

    @property
    def tolerates_lag(self) -> bool:
        return True

    def init(self, key: Array, spec: EnvSpec) -> DAggerState:
        return DAggerState(self.inner.init(key, spec), jnp.zeros((), jnp.int32))

    def policy(self, state: DAggerState) -> DAggerPolicy:
        """Algorithm 3.1 with a linear schedule: beta falls from 1 to 0."""
        share = 1.0 - state.env_steps / jnp.maximum(self.teacher_steps, 1)
        return DAggerPolicy(self.inner.policy(state.inner), jnp.maximum(share, 0.0))

    def memory(self, batch_shape: tuple[int, ...]) -> Any:
        """That of the teacher."""
        return () if self.teacher is None else self.teacher.algorithm.memory(batch_shape)

    def act(
        self, policy: DAggerPolicy, obs: Any, memory: Any, key: Array, explore: bool
    ) -> tuple[Array, Any, dict[str, Any]]:
        """Exploring, the extra `label` is the teacher's greedy action."""
        k_own, k_who, k_noise = jax.random.split(key, 3)
        action = self.inner.act(policy.inner, obs, (), k_own, explore)[0]
        if not explore:
            return action, memory, {}
        action = self.noisy(action, k_noise)
        if self.teacher is None:
            return action, memory, {LABEL: action}
        teacher, theirs = self.teacher, self.teacher.policy
        theirs, memory, _ = teacher.algorithm.act(theirs, obs, memory, k_own, False)
        if jnp.issubdtype(theirs.dtype, jnp.floating):
            theirs = jnp.clip(theirs, -1.0, 1.0)  # actions of networks beyond are at the bound
        chosen = jax.random.bernoulli(k_who, policy.share, action.shape[:1])
        action = jnp.where(ops.expand_like(chosen, action), theirs, action)
        return action, memory, {LABEL: theirs}

    def noisy(self, action: Array, key: Array) -> Array:
        """Actions of a Box with noise; choices as they are."""
        if not jnp.issubdtype(action.dtype, jnp.floating):
            return action
        noise = self.exploration * jax.random.normal(key, action.shape)
        return jnp.clip(action + noise, -1.0, 1.0)

    def items(self, rollout: Rollout) -> Any:
        """Single steps with the teacher's actions."""
        steps = rollout.steps._replace(action=rollout.steps.extras[LABEL], extras={})
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), steps)

    def observe(self, state: DAggerState, rollout: Rollout) -> DAggerState:
        inner = self.inner.observe(state.inner, rollout)
        return DAggerState(inner, state.env_steps + rollout.steps.first.size)

    def update(self, state: DAggerState, batch: Step, key: Array) -> tuple[DAggerState, Metrics]:
        inner, metrics = self.inner.update(state.inner, batch, key)
        return state.replace(inner=inner), metrics
