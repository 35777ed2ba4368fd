"""The protocol of an update rule."""

from typing import Any

import jax
from flax import struct

from parl.core.spec import EnvSpec
from parl.core.types import Array, Metrics, Rollout, Strategy


class Algorithm(struct.PyTreeNode):
    """An update rule as an immutable value: hyperparameters are leaves, models are static.

    Every method is pure and takes the state or the policy as its first argument. `State` is any
    pytree; `policy(state)` is the part of it that acting needs, the only thing sent to actors.
    """

    def init(self, key: Array, spec: EnvSpec) -> Any:
        """The state before the first update."""
        raise NotImplementedError  # abstract

    def policy(self, state: Any) -> Any:
        """What `act` needs: parameters and exploration rates, no critics, no optimiser."""
        raise NotImplementedError  # abstract

    def act(
        self, policy: Any, obs: Any, memory: Any, key: Array, explore: bool
    ) -> tuple[Any, Any, dict[str, Any]]:
        """Actions for obs [B, *O], the next memory, and extras to be recorded in the step.

        `explore` is a Python bool: True samples, False is the greedy action.
        """
        raise NotImplementedError  # abstract

    def exploring(self, policy: Any, place: Array) -> "tuple[Algorithm, Any]":
        """(the algorithm, its policy) as environments explore with it that do so unlike each other.

        `place` [B] is where each stands among all environments of a run, from 0 to 1. Default: all
        explore alike.
        """
        return self, policy

    def strategy(self, policy: Any, obs: Any, memory: Any) -> tuple[Strategy, Any]:
        """(how the policy is to be played by several agents of discrete actions, the next memory).

        Default: the greedy actions.
        """
        action, memory, _ = self.act(policy, obs, memory, jax.random.key(0), explore=False)
        return Strategy(jax.nn.one_hot(action, obs["legal"].shape[-1])), memory

    def update(self, state: Any, batch: Any, key: Array) -> tuple[Any, Metrics]:
        """One gradient step on a batch of items, or a whole on-policy update on a Rollout."""
        raise NotImplementedError  # abstract

    def memory(self, batch_shape: tuple[int, ...]) -> Any:
        """Initial memory of `act`, with leading axes `batch_shape`."""
        return ()

    @property
    def episodic(self) -> bool:
        """Whether every rollout starts new episodes instead of continuing the current ones."""
        return False

    @property
    def tolerates_lag(self) -> bool:
        """Whether it can learn from rollouts that were collected with an older policy."""
        return False

    @property
    def network(self) -> "Algorithm | None":
        """Acts with the same policy, without the search by which `act` improves on it.

        None where `act` does not search.
        """
        return None

    @property
    def by_gradients(self) -> bool:
        """Whether it follows gradients alone, so that those of a batch's parts may be averaged."""
        return True

    def observe(self, state: Any, rollout: Rollout) -> Any:
        """Folds fresh experience into counters and statistics, once per rollout."""
        return state

    def items(self, rollout: Rollout) -> Any:
        """What replay stores, one item per leading index. Default: single steps [T*B, ...]."""
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rollout.steps)
