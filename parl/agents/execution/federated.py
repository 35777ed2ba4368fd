"""Federated execution: clients learn in environments of their own, and a server averages.

FedAvg, McMahan et al. 2017, arXiv:1602.05629, algorithm 1, on whole learner states: parameters,
statistics and the optimiser's moments. One iteration is a round.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from parl.agents.execution.clients import (
    Clients,
    ClientShard,
    Part,
    averaged,
    ended_of,
    plan,
)
from parl.agents.execution.protocol import (
    Devices,
    Discarded,
    Report,
    Seeds,
    Snapshot,
    init_learner,
    mean_of,
    no_legal_action,
    policy_program,
)
from parl.agents.learner import Learner, LearnerState
from parl.core.checkpoint import Checkpoint
from parl.core.errors import ConfigError, EnvError
from parl.core.programs import as_data
from parl.core.types import Rollout
from parl.envs.protocol import JaxEnv


class Shards(Protocol):
    """Where the clients are computed."""

    def round(
        self, state: LearnerState, chosen: np.ndarray, iterations: np.ndarray, at: int
    ) -> list[Part]:
        """The parts of a round of the chosen clients [n]."""
        ...

    @property
    def actors(self) -> Any:
        """The environments of all clients [K, B, ...], numpy arrays."""
        ...

    def restore(self, actors: Any) -> None:
        """Continues with these environments."""
        ...

    def stats(self) -> dict[str, float]:
        """Numbers that a run logs."""
        ...

    def close(self) -> None: ...


class InlineShards:
    """All clients in this process."""

    def __init__(self, shard: ClientShard):
        self.shard, self.round = shard, shard.round

    @property
    def actors(self) -> Any:
        return self.shard.actors

    def restore(self, actors: Any) -> None:
        self.shard.actors = actors

    def stats(self) -> dict[str, float]:
        return {}

    def close(self) -> None:
        """Nothing to release."""


class Federated:
    """Runs rounds of federated learning with a learner that learns on-policy."""

    def __init__(
        self,
        env: JaxEnv,
        learner: Learner,
        clients: Clients,
        shards: Shards,
        num_envs: int,
        length: int,
    ):
        self.env, self.learner, self.clients, self.shards = env, learner, clients, shards
        self.seeds, self.warmup = Seeds((clients.seed,)), 0
        self.mesh: Mesh | None = None
        self.steps_per_iteration = clients.iterations * num_envs * length
        self.iteration = 0
        self.current = init_learner(learner, env.spec, self.seeds, length, num_envs)
        self.sent = self.dropped = self.stragglers = 0
        self.stopped: Callable[[], bool] = lambda: False

    def advance(self, iterations: int) -> Report:
        """Runs some rounds."""
        parts: list[Part] = []
        for _ in range(iterations):
            parts += self.round()
            if self.stopped():
                break
        names = parts[0].metrics if parts else {}
        sums = {n: sum(part.metrics[n] for part in parts) for n in names}
        counts = {n: sum(part.counted[n] for part in parts) for n in names}
        metrics = {n: mean_of(sums[n], counts[n]) for n in names}
        return Report(metrics, ended_of(parts))

    def round(self) -> list[Part]:
        """One round: some clients learn, then the server's state is their mean."""
        here = plan(self.clients, self.iteration)
        at = self.iteration * self.clients.iterations
        parts = self.shards.round(self.current, here.clients, here.iterations, at)
        self.iteration += 1
        if any(part.no_legal_action for part in parts):
            raise no_legal_action(self.env.spec)
        if any(part.broken for part in parts):
            raise EnvError(
                f"{self.env.spec.id} returned NaN or infinity in round {self.iteration}; "
                "the last checkpoint is intact, mend the environment and resume."
            )
        self.current = averaged(self.current, parts)
        self.sent += len(here.clients)
        self.dropped += here.dropped
        self.stragglers += here.stragglers
        return parts

    @property
    def policy(self) -> Any:
        algorithm = as_data(self.learner).algorithm
        return policy_program(self.seeds, algorithm)(algorithm, self.algorithm_state)

    @property
    def state(self) -> LearnerState:
        return self.current

    @property
    def discarded(self) -> Discarded:
        return Discarded.of(self.current)

    @property
    def devices(self) -> Devices:
        return Devices.of(None)

    def set_state(self, state: LearnerState) -> None:
        self.current = state

    @property
    def algorithm_state(self) -> Any:
        return self.current.algorithm_state

    def keep(self, take: Callable[[Rollout, int], None]) -> None:
        raise ConfigError("clients keep their experience to themselves: leave out --record.")

    def updates_since(self, iteration: int) -> int:
        return (self.iteration - iteration) * self.clients.iterations

    def stats(self) -> dict[str, float]:
        return {
            "clients/sent": self.sent,
            "clients/dropped": self.dropped,
            "clients/stragglers": self.stragglers,
            **self.shards.stats(),
        }

    def snapshot(self, replay: bool = True) -> Snapshot:
        actors = jax.tree.map(np.copy, self.shards.actors)  # later rounds write to them
        tree = {"learner": self.current, "actor": actors}
        books = [self.iteration, self.sent, self.dropped, self.stragglers]
        return Snapshot({"run": tree | {"books": np.array(books)}, "replay": {}}, {}, True)

    def restore(self, checkpoint: Checkpoint) -> None:
        template = {"learner": self.current, "actor": self.shards.actors}
        found = checkpoint.restore("run", template | {"books": np.zeros(4, np.int64)})
        self.current = found["learner"]
        self.shards.restore(found["actor"])
        self.iteration, self.sent, self.dropped, self.stragglers = map(int, found["books"])

    def lend(self) -> None:
        """Pure environments need no lending."""

    def restart(self) -> None:
        """Nothing was lent."""

    def change(self, parameters: Mapping[str, Any]) -> None:
        raise ConfigError(
            "clients keep the parameters of their environments: draw these with --randomize."
        )

    def heed(self, stopped: Callable[[], bool]) -> None:
        self.stopped = stopped

    def close(self) -> None:
        self.shards.close()
