"""The Ray session: which cluster this process works on, and what its workers inherit.

Call `connect` before the first JAX computation where you can: Ray starts processes, and a process
that already runs XLA's threads is better not forked.
"""

import atexit
import logging
import os
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # we hide devices ourselves

import ray
from ray._private import worker as ray_worker
from ray.exceptions import RayError, RpcError

import psutil  # isort: skip  Ray brings one and makes it importable

from parl.core.errors import ClusterLost, ConfigError, RemoteError
from parl.core.scratch import scratch
from parl.remote.answers import Watch, answers
from parl.remote.conditions import bare, loopback, quiet, without_death_messages
from parl.remote.files import staged
from parl.remote.nodes import running
from parl.remote.temporary import temporary
from parl.remote.token import check_token, protect_token, token_authentication, use_token

own = False  # whether this process's cluster is its own
watch: Watch | None = None  # of a cluster that others share
exit_code = 0  # of this process, where nothing else ends it
stuck = False  # whether Ray's end did not come to an end
VITAL = ("raylet", "gcs_server")  # without either nothing goes on
END = 3.0  # seconds that Ray has to leave
LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")


def connect(
    address: str = "local",
    num_cpus: int | None = None,
    dashboard: bool = False,
    distributed_files: Sequence[str] = (),
) -> dict[str, Any]:
    """Connects this process to Ray; a second call is harmless. Returns what the cluster has.

    "local" starts a cluster for this process alone, reachable from this machine only; "auto"
    joins the one that runs on this machine, "host:port" one anywhere. A cluster that listens on
    more than loopback is refused unless Ray's token authentication is on (RAY_AUTH_MODE=token).

    `distributed_files` are files, folders and globs below the current directory. Workers and remote
    objects run in a directory that holds copies of these alone, under the same relative paths.
    """
    global own, watch
    if ray.is_initialized():
        if distributed_files:
            raise ConfigError(
                "distributed_files are sent by the first parl.connect of a program; call it before "
                "anything else works on the cluster, or parl.disconnect() first."
            )
        return ray.cluster_resources()
    files = staged(distributed_files) if distributed_files else None
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
        check_answers(address)
        if host in LOOPBACK:
            use_token(address)
        check_token(address)
    protect_token(make=local)
    start: dict[str, Any] = {"runtime_env": {"working_dir": str(files)}} if files else {}
    if local:
        start |= {"num_cpus": num_cpus, "include_dashboard": dashboard, "_temp_dir": temporary()}
    with (
        quiet(),
        loopback(local or host in LOOPBACK),
        without_death_messages(),
        bare(local and not dashboard),
    ):
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **start)
        except Exception as error:  # a node that does not come up in time raises just that
            raise RemoteError(
                f"could not connect to Ray at '{address}': {first_line(error)}"
            ) from error
    try:
        check_private(ray.get_runtime_context().gcs_address)
    except ConfigError:
        ray.shutdown()
        raise
    own, watch = local, None if local else Watch(address)
    if sys.excepthook is ray_worker.custom_excepthook:  # tells the head, and waits where it ended
        sys.excepthook = ray_worker.normal_excepthook
    return ray.cluster_resources()


def adopt(is_own: bool) -> None:
    """Tells this process, an actor, whether its cluster is its driver's own."""
    global own
    own = is_own


def disconnect() -> None:
    """Leaves the cluster; a local one ends, with all its processes.

    That takes a few seconds at most: what has not ended by then is killed.
    """
    global own, stuck, watch
    if ray.is_initialized():
        family = descendants() if own else []
        with quiet():
            ended = threading.Thread(target=ray.shutdown, daemon=True)
            ended.start()
            ended.join(END)
        stuck = ended.is_alive()
        _, left = psutil.wait_procs(family, timeout=0.5)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
    own, watch = False, None


def descendants() -> list[psutil.Process]:
    """All processes of a cluster of our own."""
    family = []
    node: Any = ray_worker._global_node
    for _, child in node.live_processes() if node else ():
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(child.pid)
            family += [process, *process.children(recursive=True)]
    return family


def is_stuck() -> bool:
    """Whether Ray did not let go of this process, which then has to end by os._exit."""
    return stuck


@atexit.register
def leave() -> None:
    """Ends a cluster of our own before Ray's own end, which may wait for what has died."""
    disconnect()
    if stuck:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1 if hasattr(sys, "last_value") else exit_code)


def cluster_lost() -> str:
    """What of the cluster has ended so that nothing can go on; empty where nothing has."""
    node: Any = ray_worker._global_node
    if watch is not None and (seconds := watch.silent()):
        return f"the Ray cluster at {watch.address} has given no answer for {seconds:.0f} s"
    if not own or node is None:
        return ""
    for kind, process in node.dead_processes():
        if kind in VITAL:
            how = process.returncode
            how = f"signal {-how}" if how < 0 else f"exit code {how}"
            return f"Ray's process {kind} ended ({how}), and with it the cluster of this run"
    return ""


def cluster_lost_now() -> str:
    """As `cluster_lost`, after a wait for the head of a shared cluster to answer."""
    if watch is not None:
        watch.wait()
    return cluster_lost()


def there(tickets: Iterable[Any], timeout: float, number: int = 1) -> list[Any]:
    """The tickets that are answered, looked for until `number` are or `timeout` seconds are over.

    Raises ClusterLost where Ray's process on this machine has ended.
    """
    try:
        return ray.wait(list(tickets), num_returns=number, timeout=timeout)[0]
    except OSError as error:  # of the socket to it
        raise ClusterLost(f"{cluster_lost() or 'Ray has ended on this machine'}.") from error


def free_cpus() -> tuple[float, float]:
    """CPUs of the cluster: (free, all)."""
    with suppress(RayError, RpcError):
        return ray.available_resources().get("CPU", 0.0), ray.cluster_resources().get("CPU", 0.0)
    return 0.0, 0.0


def own_node() -> str:
    """The node that this process is on."""
    return ray.get_runtime_context().get_node_id()


def first_line(error: BaseException) -> str:
    """The first line of one of Ray's errors."""
    return str(error).partition("\n")[0]


def ensure_connected() -> None:
    """Connects to a local cluster where nothing else was chosen."""
    if not ray.is_initialized():
        connect()


def is_own() -> bool:
    """Whether the cluster was started by `connect` for this process alone."""
    return own


def find() -> str:
    """host:port of the cluster that RAY_ADDRESS names, else of this user's on this machine.

    That is one of `parl cluster`, else one of `ray start`; the last one that was started. Clusters
    of other users and those that runs start for themselves are not looked at.
    """
    if given := os.environ.get("RAY_ADDRESS"):
        return given
    if nodes := running():
        return nodes[-1].address
    if address := started_by_hand():
        return address
    raise RemoteError("no Ray cluster of yours runs on this machine; start one with "
                      "`parl cluster start`.")  # fmt: skip


def started_by_hand() -> str:
    """The address that the newest of this user's raylets was told, of those of `ray start`."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.name() != "raylet" or process.uids().real != os.getuid():
                continue
            parts = [word.partition("=") for word in process.cmdline()]
            words = {name: value for name, _, value in parts}
            if "--gcs-address" in words and words.get("--temp_dir") != temporary():
                found.append((process.create_time(), words["--gcs-address"]))
    return max(found, default=(0.0, ""))[1]


def check_private(address: str) -> None:
    """Raises ConfigError where strangers on the network could run code on the cluster."""
    host = address.rpartition(":")[0] or address
    if host not in LOOPBACK and not token_authentication():
        raise ConfigError(
            f"the Ray cluster at {address} is reachable from the network without authentication; "
            "start it and this program with RAY_AUTH_MODE=token (see `ray get-auth-token`)."
        )


def check_answers(address: str) -> None:
    """Raises where nobody listens: Ray itself would try for minutes."""
    if error := answers(address, timeout=5):
        raise RemoteError(
            f"no Ray cluster answers at {address} ({error}); start one with `parl cluster start`."
        ) from error


def worker_env(
    device: str = "cpu", threads: int = 1, more: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The runtime environment of a worker: set before it imports anything.

    Workers find this process's modules by its sys.path, so that a program may run from source and
    its own classes are found. On "cpu" no accelerator is visible to them. Workers that replace
    others find their compiled programs, where all are on this machine. A node's own PYTHONPATH
    comes after it, and `more` variables take the place of these.
    """
    path = os.pathsep.join(dict.fromkeys(str(Path(entry).resolve()) for entry in sys.path))
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PJRT_NPROC")
    env = {"PYTHONPATH": f"{path}{os.pathsep}${{PYTHONPATH}}"} | {
        name: str(threads) for name in names
    }
    if device == "cpu":
        env |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    if is_own() and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        env |= {
            "JAX_COMPILATION_CACHE_DIR": programs(),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
    return {"env_vars": env | dict(more or {})}


@cache
def programs() -> str:
    """A directory for the compiled programs of this process's workers, as long as it runs."""
    return str(scratch("parl-programs-"))
