"""Pools collect rollouts for executions on the host and on Ray.

`InlinePool` collects in this process, parl.remote's RolloutPool in Ray actors.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from parl.agents.execution.collector import Collector, CollectorState, Fragment


class Pool(Protocol):
    """Collectors, in the order of their workers."""

    num_workers: int

    def publish(self, policy: Any, version: int) -> None:
        """Sets the policy for the next fragments."""
        ...

    def collect(self, random: bool) -> list[Fragment]:
        """One fragment of every worker."""
        ...

    def get_states(self) -> list[CollectorState]: ...

    def set_states(self, states: list[CollectorState]) -> None: ...

    def change(self, parameters: Mapping[str, Any]) -> None:
        """Has all environments go on with these parameters, from the next fragments on."""
        ...

    def metrics(self) -> dict[str, float]:
        """Metrics of the pool for the log."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """The pool's own state for a checkpoint, as plain values."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...

    def asks_to_save(self) -> bool:
        """Whether something has come up since that a checkpoint should come before."""
        ...

    def heed(self, stopped: Callable[[], bool]) -> None:
        """Has `collect` raise Halted soon after `stopped` is true; states tell where that was."""
        ...

    def close(self) -> None: ...


class InlinePool:
    """Collectors in this process, one after the other."""

    def __init__(self, collectors: list[Collector], length: int):
        self.collectors, self.length, self.policy = collectors, length, None
        self.num_workers = len(collectors)

    def publish(self, policy: Any, version: int) -> None:
        self.policy = policy

    def collect(self, random: bool) -> list[Fragment]:
        return [c.collect(self.policy, self.length, random) for c in self.collectors]

    def get_states(self) -> list[CollectorState]:
        return [collector.get_state() for collector in self.collectors]

    def set_states(self, states: list[CollectorState]) -> None:
        for collector, state in zip(self.collectors, states, strict=True):
            collector.set_state(state)

    def change(self, parameters: Mapping[str, Any]) -> None:
        for collector in self.collectors:
            collector.change(parameters)

    def metrics(self) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to load."""

    def asks_to_save(self) -> bool:
        return False

    def heed(self, stopped: Callable[[], bool]) -> None:
        for collector in self.collectors:
            collector.stopped = stopped

    def close(self) -> None:
        for collector in self.collectors:
            collector.close()
