"""Updates on a data set, then the same learner goes on in an environment.

Both phases have iterations of the same number of steps: updates first, environment steps then.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from parl.agents.execution.offline import Offline, check_same_data
from parl.agents.execution.protocol import Devices, Discarded, Execution, Report, Snapshot
from parl.agents.learner import LearnerState
from parl.core.checkpoint import Checkpoint
from parl.core.types import Rollout
from parl.envs.protocol import VectorEnv

ONLINE = "online"  # the entry of a checkpoint's metadata that says which phase it is of


class ThenOnline:
    """`offline` for so many iterations, then `online`, whose state holds the same data set."""

    def __init__(self, offline: Offline, online: Execution, iterations: int):
        self.offline, self.online, self.switch = offline, online, iterations
        self.seeds, self.steps_per_iteration = online.seeds, online.steps_per_iteration
        self.warmup, self.mesh = 0, online.mesh
        self.is_online, self.iteration = False, 0
        self.learner = offline.learner
        if not iterations:
            self.go_online()

    def go_online(self) -> None:
        """Hands what was learned over to the environments' execution."""
        learned = self.offline.state
        replay = self.online.state.replay
        self.online.set_state(dataclasses.replace(learned, replay=replay))
        self.is_online, self.learner = True, self.online.learner

    @property
    def current(self) -> Execution:
        """The execution of the phase."""
        return self.online if self.is_online else self.offline

    def advance(self, iterations: int) -> Report:
        """Runs some iterations, at most up to the end of the phase."""
        if not self.is_online:
            iterations = min(iterations, self.switch - self.iteration)
        report = self.current.advance(iterations)
        made = self.online.iteration
        self.iteration = self.switch + made if self.is_online else self.offline.iteration
        if not self.is_online and self.iteration == self.switch:
            self.go_online()
        return report

    @property
    def policy(self) -> Any:
        return self.current.policy

    @property
    def state(self) -> LearnerState:
        return self.current.state

    def set_state(self, state: LearnerState) -> None:
        self.current.set_state(state)

    @property
    def algorithm_state(self) -> Any:
        return self.current.algorithm_state

    @property
    def discarded(self) -> Discarded:
        return self.current.discarded

    @property
    def devices(self) -> Devices:
        return self.current.devices

    def updates_since(self, iteration: int) -> int:
        before = max(0, min(self.iteration, self.switch) - iteration)
        made = before * self.offline.own.updates
        return made + (
            self.online.updates_since(max(iteration - self.switch, 0)) if self.is_online else 0
        )

    def keep(self, take: Callable[[Rollout, int], None]) -> None:
        before = self.switch * self.steps_per_iteration
        self.online.keep(lambda rollout, steps: take(rollout, before + steps))

    def stats(self) -> dict[str, float]:
        return self.current.stats()

    def snapshot(self, replay: bool = True) -> Snapshot:
        shot = self.current.snapshot(replay)
        meta = {"data": self.offline.sha256, ONLINE: self.is_online}
        return shot._replace(meta=shot.meta | meta)

    def restore(self, checkpoint: Checkpoint) -> None:
        check_same_data(checkpoint, self.offline.sha256)
        if checkpoint.meta.get(ONLINE):
            if not self.is_online:
                self.go_online()
            self.online.restore(checkpoint)
            self.iteration = self.switch + self.online.iteration
            return
        self.offline.restore(checkpoint)
        self.iteration = self.offline.iteration

    def lend(self) -> Sequence[VectorEnv] | None:
        return self.online.lend()

    def restart(self) -> None:
        self.online.restart()

    def change(self, parameters: Mapping[str, Any]) -> None:
        self.online.change(parameters)

    def heed(self, stopped: Callable[[], bool]) -> None:
        self.online.heed(stopped)

    def close(self) -> None:
        self.online.close()
