"""A fault-tolerant pool of rollout workers with an exact ledger."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, Self

from parl.agents.execution.collector import CollectorState, Fragment
from parl.core.errors import CheckpointError, ConfigError
from parl.remote.asynchronous import Arrival, Asynchronous
from parl.remote.boundary import to_numpy
from parl.remote.ledger import Books
from parl.remote.process import Inline, OnRay
from parl.remote.supervisor import WAIT_FOR_CPUS_S, Restart, Supervisor, Terms
from parl.remote.synchronous import Synchronous
from parl.remote.tracing import Traced
from parl.remote.worker import MakeWorker, Weights

FIRST_LENGTH = 128  # steps of a fragment where nothing else is said
LOGGED = (
    "workers",
    "deaths",
    "rebuilds",
    "recycled",
    "drained",
    "recovered_exact",
    "recovered_inexact",
    "fragment_seconds",
    "lag_p50",
    "lag_p99",
)  # what a run logs of the pool's stats, beside the ledger


class RolloutPool:
    """Collects fragments with `num_workers` workers of `envs_per_worker` environments.

    `make_worker(index)` makes a worker's collector, inside the worker; all its seeds must follow
    from `index`, which is 0 .. num_workers - 1 and later, for workers that start afresh after a
    fault, a number never used before. Modulo num_workers + spares it is the worker's place, which
    it shares with no other that lives.

    mode "sync": `collect` brings one fragment of every worker, the same numbers as
    backend="inline" whatever happens to processes. mode "async": `stream` brings fragments as they
    come, with the newest policy at their start.

    deadline: seconds without a step of any environment after which a worker counts as hung; "auto"
    is 10 times the longest so far, at least 30; while a worker starts, two minutes more. restart:
    how many failures in a row are survived. spares: processes started in advance. min_workers:
    async mode begins with so many, and ends with fewer left. max_memory: bytes of a worker's
    process beyond which it is replaced. say: is told what is waited for. room: seconds to wait for
    CPUs of a full cluster. traced: fragments whose traces are written. env: variables of the
    workers' processes. leaves: in async mode, which of a rollout's leaves are brought; the rollout
    itself stays where it is, see `Kept`. By default it is brought.
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
        say: Callable[[str], None] = lambda text: None,
        room: float = WAIT_FOR_CPUS_S,
        traced: Traced | None = None,
        env: Mapping[str, str] | None = None,
        leaves: tuple[int, ...] | None = None,
    ):
        if num_workers < 1 or max_in_flight < 1 or not 1 <= min_workers <= num_workers:
            raise ConfigError(
                f"a pool needs at least one worker and one fragment in flight, and min_workers up "
                f"to num_workers; got {num_workers=}, {max_in_flight=}, {min_workers=}."
            )
        self.num_workers = num_workers
        self.auto = fragment_steps == "auto"
        self.length = FIRST_LENGTH if fragment_steps == "auto" else fragment_steps
        queued = mode == "async" and max_in_flight > 1
        self.backend = OnRay(queued, env) if backend == "ray" else Inline()
        self.books = Books()
        self.published: Weights | None = None
        self.parameters: dict[str, Any] | None = None  # of the environments, where changed
        terms = Terms(None if deadline == "auto" else deadline, room, say=say)
        self.supervisor = Supervisor(
            self.backend,
            make_worker,
            envs_per_worker,
            num_workers,
            seed,
            terms,
            spares,
            max_memory,
            traced,
            needed=num_workers if mode == "sync" else min_workers,
        )
        self.sync: Synchronous | None = None
        self.asynchronous: Asynchronous | None = None
        common = self.supervisor, self.books, restart or Restart()
        if mode == "sync":
            self.sync = Synchronous(*common)
        else:
            flow = max_in_flight, max_policy_lag, min_workers
            self.asynchronous = Asynchronous(*common, *flow, leaves)

    def ready(self) -> None:
        """Waits until fragments can be collected: for all workers in sync mode, else min_workers.

        Raises what went wrong in a worker, and RemoteError where the cluster has no room.
        """
        if self.sync:
            self.sync.get_states()
        elif self.asynchronous:
            self.asynchronous.wait_for_least()

    def publish(self, policy: Any, version: int) -> None:
        """Makes a policy the one that the next fragments are collected with: one put, no copies."""
        order = self.published.order + 1 if self.published else 0
        stored = self.backend.store(to_numpy(policy))
        self.announce(Weights(stored, order, version, self.parameters))

    def change(self, parameters: Mapping[str, Any]) -> None:
        """Has all environments go on with these parameters, from the next fragments on."""
        self.parameters = dict(parameters)
        if self.published:
            order = self.published.order + 1
            self.announce(self.published._replace(order=order, parameters=self.parameters))

    def announce(self, weights: Weights) -> None:
        """Has workers that collect already take these for what they collect next."""
        self.published = weights
        if self.asynchronous:
            for slot in self.supervisor.slots:
                if slot.process is not None and len(slot.pending) > 1:  # a fragment that waits
                    slot.process.publish(self.published)

    def collect(self, random: bool = False) -> list[Fragment]:
        """One fragment of every worker, in their order; `random` replaces the actions."""
        return self.synchronous.collect(self.weights, self.length, random)

    def stream(self, random: bool = False) -> Iterator[Arrival]:
        """Fragments as they come, without end. Handing one out counts it as trained."""
        if self.asynchronous is None:
            raise ConfigError("stream() needs a pool with mode='async'.")
        return self.asynchronous.stream(lambda: self.weights, self.tuned_length, random)

    def tuned_length(self) -> int:
        """Steps of the next fragment."""
        if self.auto:
            self.length = self.supervisor.gauge.tuned(self.length)
        return self.length

    @property
    def synchronous(self) -> Synchronous:
        """What collects in sync mode."""
        if self.sync is None:
            raise ConfigError("collect() and states need a pool with mode='sync'.")
        return self.sync

    @property
    def weights(self) -> Weights:
        """What was published last."""
        if self.published is None:
            raise ConfigError("publish a policy before collecting.")
        return self.published

    def get_states(self) -> list[CollectorState]:
        """Where all collectors stand, in the form a checkpoint takes. In sync mode."""
        return self.synchronous.get_states()

    def set_states(self, states: list[CollectorState]) -> None:
        """Continues from there. In sync mode."""
        self.synchronous.set_states(states)

    def stats(self) -> dict[str, Any]:
        """All statistics as plain numbers. Asserts that the ledger adds up."""
        slots = self.supervisor.slots
        report: dict[str, Any] = {
            "ledger": self.books.report(),
            "workers": sum(slot.warm for slot in slots),
            "in_flight": sum(len(slot.collecting) for slot in slots),
            "given_up": {s.index: s.failure._asdict() for s in slots if s.given_up and s.failure},
            "fragment_steps": self.length,
            "version": self.published.version if self.published else None,
            **self.supervisor.gauge.report(),
        }
        if self.sync:
            report |= {"recovered_exact": self.sync.exact, "recovered_inexact": self.sync.inexact}
        if self.asynchronous:
            report["queue_bytes"] = self.asynchronous.queue_bytes
        return report

    def metrics(self) -> dict[str, float]:
        """Metrics for the log: environment steps by use, policy lag, and faults."""
        stats = self.stats()
        report = {name: stats[name] for name in LOGGED if name in stats}
        return stats["ledger"]["steps"] | report | {"given_up": len(stats["given_up"])}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint of the pool holds, as plain values."""
        epochs = [slot.epoch for slot in self.supervisor.slots]
        return {"ledger": self.books.report(), "epochs": epochs, "fragment_steps": self.length}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues the ledger of an earlier session, before the first fragment.

        In async mode all workers go on with fresh seeds; in sync mode call `set_states` after it.
        """
        if len(state["epochs"]) != self.num_workers:
            raise CheckpointError(
                f"the pool's state is of {len(state['epochs'])} workers, this pool has "
                f"{self.num_workers}; resume with as many."
            )
        self.books.load(state["ledger"])
        self.length = int(state["fragment_steps"]) if self.auto else self.length
        for slot, epoch in zip(self.supervisor.slots, state["epochs"], strict=True):
            slot.epoch = int(epoch)
            if self.asynchronous:
                self.asynchronous.renew(slot)

    def asks_to_save(self) -> bool:
        """Whether a machine of the run has since been heard to leave soon."""
        asked, self.supervisor.notice = self.supervisor.notice, False
        return asked

    def heed(self, stopped: Callable[[], bool]) -> None:
        """Has waits raise Halted soon after `stopped` is true."""
        self.supervisor.terms = self.supervisor.terms._replace(stop=stopped)

    def close(self) -> None:
        """Ends all workers."""
        self.supervisor.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
