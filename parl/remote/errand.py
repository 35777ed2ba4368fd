"""One function in an actor of its own, called while its caller goes on."""

import os
import socket
import threading
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayError

from parl.core.errors import ClusterLost, Halted, RemoteError
from parl.remote.connect import cluster_lost, first_line, is_own, quiet, there, worker_env
from parl.remote.failure import Failure, describe, revive
from parl.remote.process import Shared, end_with
from parl.remote.supervisor import LOOK

DEATHS = 2  # of its process that a call survives


class Runner:
    """Runs in the actor."""

    def __init__(self, make: Shared, driver: tuple[str, int]):
        threading.Thread(target=end_with, args=driver, daemon=True).start()
        self.make, self.function = make, None

    def call(self, *arguments: Any) -> Any:
        """What the function returns, or the Failure that it raised."""
        try:
            if self.function is None:
                maker: Any = ray.get(self.make.reference)
                self.function = maker()
            return self.function(*arguments)
        except (Exception, SystemExit) as error:
            return describe(error)


class Errand:
    """Calls the function that `make()` makes in an actor, one call at a time."""

    def __init__(self, make: Callable[[], Callable[..., Any]], what: str):
        self.make, self.what = Shared(ray.put(make)), what
        self.actor: Any = None
        self.arguments: tuple[Any, ...] = ()
        self.ticket: Any = None

    def begin(self, *arguments: Any) -> None:
        """Calls the function; `result` gives what it returned."""
        self.arguments = arguments
        if self.actor is None:
            options = {"num_cpus": 0 if is_own() else 1, "runtime_env": worker_env()}
            with quiet():
                kind: Any = ray.remote(max_restarts=0, **options)(Runner)
                self.actor = kind.remote(self.make, (socket.gethostname(), os.getpid()))
        self.ticket = self.actor.call.remote(*arguments)

    @property
    def is_done(self) -> bool:
        """Whether `result` need not wait."""
        return bool(there([self.ticket], 0))

    def result(self, stopped: Callable[[], bool] = lambda: False) -> Any:
        """What the last call returned; again in a new actor where the first one died.

        Raises what the function raised, and Halted once `stopped` is true.
        """
        deaths = 0
        while True:
            while not there([self.ticket], LOOK):
                if stopped():
                    raise Halted(f"{self.what} was given up.")
                if lost := cluster_lost():
                    raise ClusterLost(f"{lost}.")
            try:
                found = ray.get(self.ticket)
            except RayError as error:
                self.close()
                deaths += 1
                if deaths > DEATHS:
                    raise RemoteError(f"{self.what} died: {first_line(error)}.") from error
                self.begin(*self.arguments)
                continue
            if isinstance(found, Failure):
                raise revive(found, self.what)
            return found

    def close(self) -> None:
        """Ends the actor."""
        if self.actor is not None and not cluster_lost():  # which Ray would wait for
            ray.kill(self.actor, no_restart=True)
        self.actor = None
