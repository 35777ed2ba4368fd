"""Federated clients shared out among Ray actors."""

import time
from typing import Any

import jax
import numpy as np

from parl.agents.execution.clients import Clients, ClientShard, Part
from parl.agents.learner import Learner, LearnerState
from parl.core.errors import ConfigError, RemoteError
from parl.envs.protocol import JaxEnv
from parl.remote.remote_class import remote_class

FREED_S = 30.0  # in which what a lost actor reserved is free again
RESTARTS = 3  # of shards in a row, without a round in between, before the run is given up


class RemoteShards:
    """Each actor has every n-th client; a lost one is started again, with new episodes.

    What its clients would have sent in that round is lost and counted.
    """

    def __init__(
        self,
        env: JaxEnv,
        learner: Learner,
        clients: Clients,
        workers: int,
        size: tuple[int, int],
        deadline: float | None = None,
    ):
        if workers > clients.number:
            raise ConfigError(
                f"{clients.number} clients cannot be shared out among {workers} actors: use fewer."
            )
        self.make = remote_class(ClientShard)
        self.arguments = env, learner, clients
        self.workers, self.count, self.size = workers, clients.number, size
        self.deadline, self.lost, self.lost_results = deadline, 0, 0
        self.failures = 0  # actors lost in a row, without a result in between
        self.shards = [self.start(index) for index in range(workers)]

    def start(self, index: int) -> Any:
        """An actor with its clients at their start."""
        owned = range(index, self.count, self.workers)
        return self.make(*self.arguments, owned, *self.size)

    def round(
        self, state: LearnerState, chosen: np.ndarray, iterations: np.ndarray, at: int
    ) -> list[Part]:
        """The parts of a round. Raises RemoteError where actors are lost again and again."""
        sent = jax.device_get(state)
        own = {index: chosen % self.workers == index for index in range(self.workers)}
        asked = {
            index: self.shards[index].round.submit(sent, chosen[mine], iterations[mine], at)
            for index, mine in own.items()
            if mine.any()
        }
        parts: list[Part] = []
        for index, future in asked.items():
            try:
                parts += future.get(self.deadline)
            except (RemoteError, TimeoutError) as error:
                self.replace(index, error)
                self.lost_results += int(own[index].sum())
        if parts or not asked:
            self.failures = 0
        return parts

    def replace(self, index: int, error: Exception) -> None:
        """Starts an actor again."""
        self.lost += 1
        self.failures += 1
        if self.failures > RESTARTS * self.workers:
            raise error
        self.shards[index].destroy()
        until = time.monotonic() + FREED_S
        while not self.make.has_room() and time.monotonic() < until:
            time.sleep(0.1)  # Ray has not noticed yet that the old one is gone
        self.shards[index] = self.start(index)

    @property
    def actors(self) -> Any:
        """The environments of all clients [K, B, ...], in the clients' order."""
        parts = [shard.actors for shard in self.shards]

        def joined(*rows: np.ndarray) -> np.ndarray:
            whole = np.empty((self.count, *rows[0].shape[1:]), rows[0].dtype)
            for index, part in enumerate(rows):
                whole[index :: self.workers] = part
            return whole

        return jax.tree.map(joined, *parts)

    def restore(self, actors: Any) -> None:
        """Continues with these environments."""
        for index, shard in enumerate(self.shards):
            shard.actors = jax.tree.map(lambda x, i=index: x[i :: self.workers].copy(), actors)

    def stats(self) -> dict[str, float]:
        """Actors that were lost, and results with them."""
        return {"clients/lost_actors": self.lost, "clients/lost_results": self.lost_results}

    def close(self) -> None:
        """Ends the actors."""
        for shard in self.shards:
            shard.destroy()
