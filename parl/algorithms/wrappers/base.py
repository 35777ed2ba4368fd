"""What the algorithms around another algorithm pass on unchanged."""

from typing import Any

from parl.core.algorithm import Algorithm
from parl.core.types import Rollout


class AlgorithmWrapper(Algorithm):
    """Base of algorithms around `inner`: collects, remembers and stores as it does."""

    inner: Algorithm

    @property
    def episodic(self) -> bool:
        return self.inner.episodic

    @property
    def tolerates_lag(self) -> bool:
        return self.inner.tolerates_lag

    @property
    def seeds_in_turn(self) -> bool:
        return self.inner.seeds_in_turn

    def memory(self, batch_shape: tuple[int, ...]) -> Any:
        return self.inner.memory(batch_shape)

    def items(self, rollout: Rollout) -> Any:
        return self.inner.items(rollout)
