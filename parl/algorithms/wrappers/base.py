"""The base of algorithms that wrap another one."""

from typing import Any

from parl.core.algorithm import Algorithm
from parl.core.types import Rollout


class AlgorithmWrapper(Algorithm):
    """Wraps `inner`, with the same collection, memory and replay items."""

    inner: Algorithm

    @property
    def episodic(self) -> bool:
        return self.inner.episodic

    @property
    def by_gradients(self) -> bool:
        return self.inner.by_gradients

    @property
    def tolerates_lag(self) -> bool:
        return self.inner.tolerates_lag

    @property
    def network(self) -> Algorithm | None:
        inner = self.inner.network
        return None if inner is None else self.replace(inner=inner)

    def memory(self, batch_shape: tuple[int, ...]) -> Any:
        return self.inner.memory(batch_shape)

    def items(self, rollout: Rollout) -> Any:
        return self.inner.items(rollout)
