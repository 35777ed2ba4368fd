"""The Ray session: which cluster this process works on, and what its workers inherit.

Call `connect` before the first JAX computation where you can: Ray starts processes, and a process
that already runs XLA's threads is better not forked.
"""

import logging
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # we hide devices ourselves

import ray
from ray._private import ray_constants, services
from ray._private import worker as ray_worker
from ray._raylet import GcsClient  # pyright: ignore[reportAttributeAccessIssue]
from ray.exceptions import RpcError

from parl.core.errors import ConfigError, RemoteError
from parl.core.scratch import scratch
from parl.remote import token

own = False  # whether this process's cluster is its own
LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")


def connect(
    address: str = "local", num_cpus: int | None = None, dashboard: bool = False
) -> dict[str, Any]:
    """Connects this process to Ray; a second call is harmless. Returns what the cluster has.

    "local" starts a cluster for this process alone, reachable from this machine only; "auto"
    joins the one that runs on this machine, "host:port" one anywhere. A cluster that listens on
    more than loopback is refused unless Ray's token authentication is on (RAY_AUTH_MODE=token).
    """
    global own
    if ray.is_initialized():
        return ray.cluster_resources()
    if address == "auto" and num_cpus is None:
        address = find()
    if "://" in address:
        raise ConfigError(
            f"address '{address}' names a protocol, and data through Ray's client is not served; "
            "give host:port and run on a machine of the cluster."
        )
    local = address == "local"
    if not local and num_cpus is not None:
        raise ConfigError("num_cpus is for address='local'; a running cluster has its own.")
    host, _, port = address.rpartition(":")
    if not local:
        if not host or not port.isdigit():
            raise ConfigError("the address of a cluster is 'local', 'auto' or 'host:port'.")
        check_private(address)
        check_answers(host, port)
        if host in LOOPBACK:
            use_token(address)
    token.protect_token(make=local)
    start = {"num_cpus": num_cpus, "include_dashboard": dashboard} if local else {}
    with quiet(), loopback(local or host in LOOPBACK), no_pages():
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **start)
        except Exception as error:  # a node that does not come up in time raises just that
            reason = str(error).partition("\n")[0]
            raise RemoteError(f"could not connect to Ray at '{address}': {reason}") from error
    try:
        check_private(ray.get_runtime_context().gcs_address)
    except ConfigError:
        ray.shutdown()
        raise
    own = local
    return ray.cluster_resources()


def disconnect() -> None:
    """Leaves the cluster; a local one ends, with all its processes."""
    global own
    if ray.is_initialized():
        with quiet():
            ray.shutdown()
    own = False


def ensure_connected() -> None:
    """Connects to a local cluster where nothing else was chosen."""
    if not ray.is_initialized():
        connect()


def is_own() -> bool:
    """Whether the cluster was started by `connect` for this process alone."""
    return own


def find() -> str:
    """host:port of the cluster on this machine, the last one that was started."""
    try:
        with muted(), loopback(True):
            return services.canonicalize_bootstrap_address_or_die("auto")
    except ConnectionError as error:
        raise RemoteError(
            "no Ray cluster runs on this machine; start one with `parl cluster start`."
        ) from error


def check_private(address: str) -> None:
    """Raises ConfigError where strangers on the network could run code on the cluster."""
    host = address.rpartition(":")[0] or address
    if host not in LOOPBACK and not token_authentication():
        raise ConfigError(
            f"the Ray cluster at {address} is reachable from the network without authentication; "
            "start it and this program with RAY_AUTH_MODE=token (see `ray get-auth-token`)."
        )


def check_answers(host: str, port: str) -> None:
    """Raises where nobody listens: Ray itself would try for minutes."""
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError as error:
        raise RemoteError(
            f"no Ray cluster answers at {host}:{port} ({error}); start one with "
            "`parl cluster start`."
        ) from error


def use_token(address: str) -> None:
    """Turns token authentication on for a cluster on this machine that asks for a token.

    Ray itself does so where the address is "auto", but not where it is given. One that asks for
    none would not understand us.
    """
    with suppress(ImportError, RpcError), muted():  # ImportError: before Ray 2.52
        from ray._private.authentication import authentication_token_setup as setup
        from ray.exceptions import AuthenticationError

        try:
            GcsClient(address=address)
        except AuthenticationError:
            setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


def token_authentication() -> bool:
    """Whether Ray checks a token on every call: needs Ray 2.52, the mode and a token."""
    given = bool(os.environ.get("RAY_AUTH_TOKEN")) or token.token_path().exists()
    return token.supported() and os.environ.get("RAY_AUTH_MODE", "").lower() == "token" and given


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
def no_pages() -> Iterator[None]:
    """Keeps Ray from printing a page on this terminal for every process that dies.

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


def worker_env(device: str = "cpu", threads: int = 1) -> dict[str, Any]:
    """The runtime environment of a worker: set before it imports anything.

    Workers find this process's modules by its sys.path, so that a program may run from source and
    its own classes are found. On "cpu" no accelerator is visible to them. Workers that replace
    others find their compiled programs, where all are on this machine.
    """
    path = os.pathsep.join(dict.fromkeys(str(Path(entry).resolve()) for entry in sys.path))
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PJRT_NPROC")
    env = {"PYTHONPATH": path} | {name: str(threads) for name in names}
    if device == "cpu":
        env |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    if is_own() and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        env |= {
            "JAX_COMPILATION_CACHE_DIR": programs(),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
    return {"env_vars": env}


@cache
def programs() -> str:
    """A directory for the compiled programs of this process's workers, as long as it runs."""
    return str(scratch("parl-programs-"))
