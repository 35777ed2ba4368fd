"""A rollout worker: one collector, in whatever process it lives, answering requests.

Nothing but numpy and plain values goes in or out. What goes wrong in the environment comes back as
a `Failure`; only the death of the process is left for the supervisor to notice.
"""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import jax

from parl.agents.execution.collector import Collector, CollectorState, Fragment, Kept
from parl.core.errors import ConfigError, EnvError, Halted
from parl.core.types import Rollout
from parl.remote.boundary import Guarded, check_fragment, contiguous
from parl.remote.chaos import Fault, faulty
from parl.remote.failure import Failure, describe
from parl.remote.tracing import Tracing

MakeWorker = Callable[[int], Collector]


class Weights(NamedTuple):
    """A published policy."""

    handle: Any  # the policy, or what `Worker.fetch` makes one of
    order: int  # of publication: higher is newer
    version: int  # what the publisher calls it
    parameters: dict[str, Any] | None = None  # of the environments, where they were changed


class Build(NamedTuple):
    """Makes the collector, from seeds that follow from `index`, and continues from `state`."""

    index: int  # pyright: ignore[reportIncompatibleMethodOverride]
    state: CollectorState | None = None


class Collect(NamedTuple):
    """One fragment of `length` steps, with the policy in `weights` unless a newer one is there."""

    length: int
    random: bool
    weights: Weights
    capture: bool = False  # send the collector's state along
    fault: Fault | None = None
    trace: bool = False  # send a trace of the work along
    leaves: tuple[int, ...] | None = None  # of the rollout that are needed; None: all of it


class Capture(NamedTuple):
    """Nothing but the collector's state."""


class Close(NamedTuple):
    """The end: environments are closed."""


Request = Build | Collect | Capture | Close


class Reply(NamedTuple):
    """The answer to a request; to a fragment that was broken off its state alone, if it has any."""

    fragment: Fragment | None = None
    failure: Failure | None = None
    state: CollectorState | None = None
    version: int = 0  # of the policy that acted
    seconds: float = 0.0  # of work
    capture_seconds: float = 0.0
    memory: int = 0  # resident bytes of the process
    trace: bytes = b""  # of a fragment that was to be traced: Perfetto's, compressed


class Worker:
    """Holds a collector and the newest policy it has seen."""

    def __init__(self, make_worker: MakeWorker, envs_per_worker: int):
        self.make_worker, self.envs_per_worker = make_worker, envs_per_worker
        self.collector: Collector | None = None
        self.index = -1  # what the collector was made with
        self.policy: Any = None
        self.applied: dict[str, Any] | None = None  # parameters that the collector has been given
        self.halts = False  # whether a fragment was broken off
        self.weights = self.newest = Weights(None, -1, -1)  # in use; published meanwhile
        self.lock = threading.Lock()

    def handle(self, request: Request) -> Reply:
        """Answers one request. Whatever the environment raises becomes a Failure."""
        start = time.perf_counter()
        try:
            if isinstance(request, Build):
                self.build(request)
                reply = Reply()
            elif isinstance(request, Capture):
                reply = Reply(state=self.running.get_state())
            elif isinstance(request, Close):
                self.discard()
                reply = Reply()
            else:
                reply = self.collect(request)
        except Halted:
            reply = self.broken_off()
        except (Exception, SystemExit) as error:
            self.discard()
            reply = Reply(failure=failure_of(error))
        spent = time.perf_counter() - start - reply.capture_seconds
        return reply._replace(seconds=spent, memory=resident_bytes())

    def build(self, request: Build) -> None:
        """Makes a new collector, unless only the state of the old one is to change."""
        if self.collector is None or request.state is None or request.index != self.index:
            self.discard()
            self.index, self.collector = request.index, self.make_worker(request.index)
            guarded: list[Any] = [Guarded(env) for env in self.collector.envs]
            self.collector.envs, self.collector.stopped = guarded, self.is_halted
        if self.collector.num_envs != self.envs_per_worker:
            raise ConfigError(
                f"make_worker made {self.collector.num_envs} environments, the pool was told "
                f"envs_per_worker={self.envs_per_worker}."
            )
        self.applied = None
        if request.state is not None:
            self.collector.set_state(request.state)

    def collect(self, request: Collect) -> Reply:
        """One fragment, checked before it leaves."""
        collector = self.running
        self.pull(request.weights)
        if self.weights.parameters != self.applied:
            collector.change(self.weights.parameters or {})
            self.applied = self.weights.parameters
        tracing = Tracing(request.trace)
        with tracing, faulty(collector.envs[0], request.fault, request.length):
            fragment = collector.collect(self.policy, request.length, request.random)
        check_fragment(fragment, collector, request.length)
        fragment = jax.tree.map(contiguous, fragment)
        if request.leaves is not None:
            leaves = jax.tree.leaves(fragment.rollout)
            needed = [leaves[i] for i in request.leaves]
            fragment = fragment._replace(rollout=Kept(self.keep(fragment.rollout), needed))
        start = time.perf_counter()
        state = collector.get_state() if request.capture else None
        seconds = time.perf_counter() - start
        acted = self.weights.version
        return Reply(
            fragment, state=state, version=acted, capture_seconds=seconds, trace=tracing.result
        )

    def is_halted(self) -> bool:
        """Whether a fragment under way is to be broken off."""
        return False

    def broken_off(self) -> Reply:
        """Where the collector stands in its fragment: of the first one only, those behind wait."""
        first, self.halts = not self.halts, True
        return Reply(state=self.running.get_state()) if first else Reply()

    def publish(self, weights: Weights) -> None:
        """Notes a policy for the fragments to come; called from another thread."""
        with self.lock:
            if weights.order > self.newest.order:
                self.newest = weights

    def pull(self, weights: Weights) -> None:
        """Takes over the newest policy, if it is newer than the one in use."""
        with self.lock:
            weights = max(weights, self.newest, key=lambda each: each.order)
        if weights.order > self.weights.order:
            # once a version, not at every step; on the CPU this need not even copy
            self.policy, self.weights = jax.device_put(self.fetch(weights.handle)), weights

    def fetch(self, handle: Any) -> Any:
        """The policy behind a handle."""
        return handle

    def keep(self, rollout: Rollout) -> Any:
        """How others get a rollout that is not sent."""
        return rollout

    @property
    def running(self) -> Collector:
        """The collector, if there is one."""
        if self.collector is None:
            raise NotBuilt("the environment failed before; this worker waits to be rebuilt")
        return self.collector

    def discard(self) -> None:
        """Closes what is there, whatever state it is in."""
        collector, self.collector = self.collector, None
        if collector is not None:
            with suppress(Exception, SystemExit):  # it failed before, it may fail again
                collector.close()

    @property
    def stepping(self) -> bool:
        """Whether the collector's environments have been stepped."""
        collector = self.collector
        envs: list[Any] = collector.envs if collector is not None else []
        return any(env.stepped for env in envs)


def failure_of(error: BaseException) -> Failure:
    """The Failure for an exception; sys.exit in an environment does not end the worker."""
    if not isinstance(error, SystemExit):
        return describe(error)
    told = EnvError(f"the environment called sys.exit({error.code!r}) when it was made or closed.")
    return describe(told.with_traceback(error.__traceback__))


class NotBuilt(Exception):
    """A fragment was asked for while there is no environment."""


def resident_bytes() -> int:
    """Memory that this process occupies; 0 where that cannot be read."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
