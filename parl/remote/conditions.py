"""What Ray is started and called under: where it listens, what it starts, what it says."""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from ray._private import ray_constants
from ray._private import worker as ray_worker
from ray._private.node import Node

PRESTART = "RAY_prestart_worker_first_driver"  # processes that wait for work


@contextmanager
def loopback(enabled: bool) -> Iterator[None]:
    """Starts Ray's servers on 127.0.0.1, as Ray itself does where it serves no clusters.

    Without this Ray takes the machine's address on the network, whatever it is given.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = before and not enabled
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def bare(enabled: bool) -> Iterator[None]:
    """Starts no processes that a run of its own has no use for, which doubles Ray's start.

    They scale clusters, serve the dashboard, and watch logs.
    """
    names = ("start_monitor", "start_api_server", "start_log_monitor") if enabled else ()
    before = {name: getattr(Node, name) for name in names}
    first = os.environ.get(PRESTART)
    try:
        for name in names:
            setattr(Node, name, lambda *args, **kwargs: None)
        if enabled:
            os.environ.setdefault(PRESTART, "0")  # workers have an environment of their own
        yield
    finally:
        for name, method in before.items():
            setattr(Node, name, method)
        if first is None:
            os.environ.pop(PRESTART, None)


@contextmanager
def without_death_messages() -> Iterator[None]:
    """Keeps Ray from printing a long message on this terminal for every process that dies.

    Whoever waits for that process gets an exception that says why.
    """
    listen = ray_worker.listen_error_messages
    ray_worker.listen_error_messages = lambda *args: None
    try:
        yield
    finally:
        ray_worker.listen_error_messages = listen


@contextmanager
def muted() -> Iterator[None]:
    """Drops what is printed on stderr, also by Ray's code in C++."""
    sys.stderr.flush()
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


@contextmanager
def quiet() -> Iterator[None]:
    """Silences Ray's warnings, and keeps the SIGTERM handler that Ray would replace."""
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM) if main else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if handler is not None:
            signal.signal(signal.SIGTERM, handler)
