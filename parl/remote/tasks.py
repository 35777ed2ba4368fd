"""Independent calls, spread over the nodes of a cluster as Ray's tasks."""

import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import RayError

from parl.core.errors import ClusterLost, RemoteError
from parl.remote.connect import cluster_lost, first_line, is_own, quiet, there, worker_env
from parl.remote.failure import Failure, describe, revive
from parl.remote.process import end_with
from parl.remote.supervisor import LOOK

RETRIES = 5  # of a call whose process died


def call(function: Callable[[], Any], driver: tuple[str, int]) -> Any:
    """What a function returns, or the Failure that it raised; in its own process."""
    threading.Thread(target=end_with, args=driver, daemon=True).start()
    try:
        return function()
    except (Exception, SystemExit) as error:
        return describe(error)


def spread(calls: Sequence[Callable[[], Any]], cpus: float = 1.0) -> Iterator[tuple[int, Any]]:
    """(index, what the call returned) of each call, in the order in which they end.

    As many run at once as the cluster has `cpus` for. A call whose process or node dies is made
    again. Raises what a call raised; the others are then ended.
    """
    driver = socket.gethostname(), os.getpid()
    options = {"num_cpus": cpus, "max_retries": RETRIES, "runtime_env": worker_env()}
    if not is_own():
        options["scheduling_strategy"] = "SPREAD"
    with quiet():
        task: Any = ray.remote(**options)(call)
        tickets = {task.remote(each, driver): i for i, each in enumerate(calls)}
    try:
        while tickets:
            for ticket in there(tickets, LOOK):
                yield tickets.pop(ticket), answer(ticket)
            if lost := cluster_lost():
                raise ClusterLost(f"{lost}.")
    finally:
        for ticket in tickets:
            if not cluster_lost():
                ray.cancel(ticket, force=True)


def answer(ticket: Any) -> Any:
    """What a call returned. Raises what it raised."""
    try:
        found = ray.get(ticket)
    except RayError as error:
        raise RemoteError(f"a call died {RETRIES + 1} times: {first_line(error)}.") from error
    if isinstance(found, Failure):
        raise revive(found, "a trial")
    return found
