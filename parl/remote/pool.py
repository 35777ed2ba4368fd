"""A pool of rollout workers that no fault stops and that keeps exact books."""

from typing import Any, Literal, Self

from parl.agents.host import CollectorState, Fragment
from parl.core.errors import ConfigError
from parl.remote.boundary import to_numpy
from parl.remote.ledger import Books
from parl.remote.process import Inline, OnRay
from parl.remote.supervisor import Restart, Supervisor
from parl.remote.synchronous import Synchronous
from parl.remote.worker import MakeWorker, Weights

FIRST_LENGTH = 128  # steps of a fragment where nothing else is said


class RolloutPool:
    """Collects fragments with `num_workers` workers of `envs_per_worker` environments.

    `make_worker(index)` makes a worker's collector, inside the worker; all its seeds must follow
    from `index`, which is 0 .. num_workers - 1 and later, for workers that start afresh after a
    fault, a number never used before.

    mode "sync": `collect` brings one fragment of every worker, the same numbers as
    backend="inline" whatever happens to processes. mode "async": `stream` brings fragments as they
    come, with the newest policy at their start.

    deadline: seconds for a fragment after which a worker counts as hung; "auto" is 10 times the
    moving average, at least 30. restart: how many failures in a row are survived. spares: processes
    started in advance. min_workers: with fewer left, async mode ends. max_memory: bytes of a
    worker's process beyond which it is replaced.
    """

    def __init__(
        self,
        make_worker: MakeWorker,
        num_workers: int,
        envs_per_worker: int = 1,
        fragment_steps: int | Literal["auto"] = "auto",
        mode: Literal["sync", "async"] = "sync",
        backend: Literal["ray", "inline"] = "ray",
        max_in_flight: int = 2,
        max_policy_lag: int | None = None,
        deadline: float | Literal["auto"] = "auto",
        min_workers: int = 1,
        spares: int = 0,
        restart: Restart | None = None,
        max_memory: int | None = None,
        seed: int = 0,
    ):
        if num_workers < 1 or max_in_flight < 1 or not 1 <= min_workers <= num_workers:
            raise ConfigError(
                f"a pool needs at least one worker and one fragment in flight, and min_workers up "
                f"to num_workers; got {num_workers=}, {max_in_flight=}, {min_workers=}."
            )
        self.num_workers, self.mode = num_workers, mode
        self.length = FIRST_LENGTH if fragment_steps == "auto" else fragment_steps
        self.backend = OnRay() if backend == "ray" else Inline()
        self.books = Books()
        self.published: Weights | None = None
        self.crew = Supervisor(
            self.backend,
            make_worker,
            envs_per_worker,
            num_workers,
            seed,
            None if deadline == "auto" else deadline,
            spares,
            max_memory,
        )
        self.sync = Synchronous(self.crew, self.books, restart or Restart())

    def publish(self, policy: Any, version: int) -> None:
        """Makes a policy the one that the next fragments are collected with: one put, no copies."""
        order = self.published.order + 1 if self.published else 0
        self.published = Weights(self.backend.store(to_numpy(policy)), order, version)

    def collect(self, random: bool = False) -> list[Fragment]:
        """One fragment of every worker, in their order; `random` replaces the actions."""
        return self.sync.collect(self.weights, self.length, random)

    @property
    def weights(self) -> Weights:
        """What was published last."""
        if self.published is None:
            raise ConfigError("publish a policy before collecting.")
        return self.published

    def get_states(self) -> list[CollectorState]:
        """Where all collectors stand, in the form a checkpoint takes."""
        return self.sync.get_states()

    def set_states(self, states: list[CollectorState]) -> None:
        """Continues from there."""
        self.sync.set_states(states)

    def close(self) -> None:
        """Ends all workers."""
        self.crew.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
