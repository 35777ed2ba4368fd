import os
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest
import ray

from parl.core.errors import ConfigError, RemoteError
from parl.remote import connect, nodes
from parl.remote.connect import check_private, find, is_own, worker_env
from parl.remote.temporary import temporary


def test_a_local_cluster_is_reachable_from_this_machine_only(cluster):
    assert is_own()
    assert ray.cluster_resources()["CPU"] == 2
    assert connect() == ray.cluster_resources()  # again: harmless
    for node in ray.nodes():
        assert node["NodeManagerAddress"] == "127.0.0.1"


def test_open_clusters_are_refused(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with pytest.raises(ConfigError, match="without authentication; start it"):
        check_private("10.0.0.7:6379")
    check_private("127.0.0.1:6379")
    check_private("localhost:6379")
    check_private("[::1]:6379")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(ConfigError, match="without authentication"):
        check_private("10.0.0.7:6379")
    (tmp_path / "token").write_text("secret")
    check_private("10.0.0.7:6379")


def test_auto_is_the_users_own_cluster_of_this_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:7001")
    assert find() == "127.0.0.1:7001"  # and not the address of this machine on the network
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    nodes.note([nodes.node_of(os.getpid(), f"127.0.0.1:{port}") for port in (7002, 7003)])
    assert find() == "127.0.0.1:7003"
    nodes.note([])

    class Raylet:
        def __init__(self, created, user, *words):
            self.created, self.user, self.words = created, user, words

        name = lambda self: "raylet"
        uids = lambda self: SimpleNamespace(real=self.user)
        cmdline = lambda self: ["raylet", *self.words]
        create_time = lambda self: self.created

    mine, ray_dir = os.getuid(), "--temp_dir=/tmp/ray"
    there = [
        Raylet(1, mine, "--gcs-address=10.0.0.1:1", ray_dir),
        Raylet(2, mine, "--gcs-address=10.0.0.1:2", ray_dir),
        Raylet(3, mine + 1, "--gcs-address=10.0.0.1:3", ray_dir),
        Raylet(4, mine, "--gcs-address=10.0.0.1:4", f"--temp_dir={temporary()}"),
    ]
    monkeypatch.setattr(psutil, "process_iter", lambda: iter(there))
    assert find() == "10.0.0.1:2"
    monkeypatch.setattr(psutil, "process_iter", lambda: iter(there[2:]))
    with pytest.raises(RemoteError, match="no Ray cluster of yours runs on this machine"):
        find()


def test_ray_that_does_not_start_is_one_sentence(monkeypatch):
    def init(*args, **kwargs):
        raise Exception("The current node timed out during startup.\nSee the logs.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(RemoteError) as caught:
        connect()
    assert str(caught.value) == (
        "could not connect to Ray at 'local': The current node timed out during startup."
    )


def test_workers_see_no_accelerator_and_one_thread(cluster):
    env = worker_env()["env_vars"]
    assert (env["JAX_PLATFORMS"], env["CUDA_VISIBLE_DEVICES"]) == ("cpu", "")
    assert (env["OMP_NUM_THREADS"], env["PJRT_NPROC"]) == ("1", "1")
    assert "JAX_PLATFORMS" not in worker_env("gpu", 4)["env_vars"]
    assert worker_env("gpu", 4)["env_vars"]["PJRT_NPROC"] == "4"
    paths = env["PYTHONPATH"].split(os.pathsep)
    assert os.path.realpath(sys.path[-1]) in paths and paths[-1] == "${PYTHONPATH}"
    assert worker_env(more={"OMP_NUM_THREADS": "2"})["env_vars"]["OMP_NUM_THREADS"] == "2"


PROGRAM = """
import signal

from parl.core.errors import ParlError
from parl.remote import connect, disconnect
import psutil  # Ray brings one

def attempt(address, **settings):
    try:
        connect(address, **settings)
    except ParlError as error:
        print(type(error).__name__, error)

def listening():
    processes = psutil.Process().children(recursive=True)
    connections = [c for p in processes for c in p.net_connections() if c.status == "LISTEN"]
    assert len(connections) > 3
    return sorted({c.laddr.ip.removeprefix("::ffff:") for c in connections})

attempt("ray://localhost:10001")
attempt("auto", num_cpus=1)
attempt("nonsense")
attempt("127.0.0.1:1")
handler = lambda *args: None
signal.signal(signal.SIGTERM, handler)
connect(num_cpus=1)
print(signal.getsignal(signal.SIGTERM) is handler, listening())
disconnect()
disconnect()
"""


def test_a_session():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=300
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "ConfigError address 'ray://localhost:10001' names a protocol, and data through Ray's "
        "client is not served; give host:port and run on a machine of the cluster.",
        "ConfigError num_cpus is for address='local'; a running cluster has its own.",
        "ConfigError the address of a cluster is 'local', 'auto' or 'host:port'.",
        "RemoteError no Ray cluster answers at 127.0.0.1:1 ([Errno 111] Connection refused); "
        "start one with `parl cluster start`.",
        "True ['127.0.0.1']",
    ]
