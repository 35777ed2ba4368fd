"""Clusters by hand: only what was started here is ever stopped."""

import json
import os
import socket
import stat
import subprocess
import sys

import psutil
import pytest

import parl
from parl.cli import main
from parl.remote import cluster


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A user without nodes and without a token, but with a way to make one."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path
    for node in cluster.running():
        cluster.end(node)


def free_port(host="127.0.0.1"):
    with socket.socket() as server:
        server.bind((host, 0))
        return server.getsockname()[1]


def sentence(capsys, *words, code=2):
    """The one line that a refused command gets."""
    assert main(["cluster", *words]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    return lines[0].removeprefix("parl: ")


def run(program, home):
    root = os.path.dirname(os.path.dirname(parl.__file__))
    path = os.pathsep.join([root, os.path.dirname(__file__)])
    env = os.environ | {"PYTHONPATH": path}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=env)


def test_open_clusters_are_refused(capsys, monkeypatch, home):
    said = sentence(capsys, "start", "--host", "10.0.0.7")
    assert said == (
        "--host 10.0.0.7 lets whoever reaches this machine run code on it; set "
        "RAY_AUTH_MODE=token, and make a token with `ray get-auth-token --generate`."
    )
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert sentence(capsys, "start", "--host", "10.0.0.7") == said  # there is no token
    (home / "token").write_text("secret")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "token"))
    said = sentence(capsys, "start", "--host", "203.0.113.7")
    assert said == (
        "cannot listen at 203.0.113.7:6379: [Errno 99] Cannot assign requested address; "
        "choose another."
    )
    assert "not 0.0.0.0" in sentence(capsys, "start", "--host", "0.0.0.0")
    monkeypatch.delenv("RAY_AUTH_MODE")
    said = sentence(capsys, "join", "10.0.0.7:6379")
    assert "reachable from the network without authentication" in said


def test_what_cannot_be(capsys, home):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = str(server.getsockname()[1])
        said = sentence(capsys, "start", "--port", port)
        other = str(free_port())
        assert sentence(capsys, "start", "--port", other, "--metrics-port", port) == said
    assert said == (
        f"cannot listen at 127.0.0.1:{port}: [Errno 98] Address already in use; choose another."
    )
    assert "port must be 0-65535" in sentence(capsys, "start", "--port", "70000")
    port = str(free_port())
    said = sentence(capsys, "start", "--port", port, "--metrics-port", port)
    assert said == f"--port and --metrics-port are both {port}; choose another."
    nothing = "no cluster started by `parl cluster` runs here."
    assert sentence(capsys, "status", code=1) == nothing
    assert sentence(capsys, "stop", code=1) == nothing
    assert "which is a node of it already" in sentence(capsys, "join", "127.0.0.1:6379")
    assert sentence(capsys, "join", "head") == "join needs the cluster's host:port, not 'head'."
    assert sentence(capsys, "stop", "--all") == (
        "cluster takes one of start [flags], join HOST:PORT, status or stop, not 'stop --all'."
    )
    assert "unknown flag '--prot'. Did you mean --port?" in sentence(capsys, "start", "--prot", "1")
    cluster.note([])
    cluster.state_file().write_text("{")
    assert f"cannot read {cluster.state_file()} (" in sentence(capsys, "stop")
    cluster.note([])


def test_nobody_answers(capsys, monkeypatch):
    monkeypatch.setattr(cluster, "LOOPBACK", ())  # as if 127.0.0.1 were another machine
    said = sentence(capsys, "join", "127.0.0.1:1", code=1)
    assert said.startswith("no Ray cluster answers at 127.0.0.1:1 ([Errno 111] Connection refused)")


def test_a_process_that_only_has_the_number_is_left_alone(capsys, home):
    other = subprocess.Popen(["sleep", "60"])
    created = psutil.Process(other.pid).create_time()
    cluster.note([cluster.Node(other.pid, created - 100, "127.0.0.1:6379")])
    sentence(capsys, "stop", code=1)
    assert other.poll() is None
    cluster.note([cluster.Node(other.pid, created, "127.0.0.1:6379")])
    assert main(["cluster", "stop"]) == 0
    assert other.poll() is not None
    assert capsys.readouterr().out == "stopped the node of 127.0.0.1:6379\n"


POOL = """
import numpy as np
import parl
from makers import toy_maker
from parl.remote import RolloutPool

resources = parl.connect("{address}")
pool = RolloutPool(toy_maker(), 1, 3, 10)
pool.publish(np.float32(0.5), 0)
(fragment,) = pool.collect()
print(resources["CPU"], fragment.rollout.steps.obs.shape)
pool.close()
"""
OCCUPIED = POOL.replace(
    "pool.close()",
    """import urllib.request
from parl.remote.watched import Telling
telling = Telling()
settings = {{"algorithm": "ppo", "env": "Toy-v0", "seed": 0, "num_seeds": 1}}
telling.on_start({{"path": "/runs/toy", "config": settings}})
telling.on_record({{"env_steps": 30}})
scraped = []
for _ in range(2):
    with urllib.request.urlopen("http://127.0.0.1:{metrics}/metrics", timeout=20) as answer:
        text = answer.read().decode()
    scraped.append([line for line in text.splitlines() if line.startswith("parl_env_steps")])
    telling.on_end({{}})
(line,), after = scraped
assert line.startswith('parl_env_steps{{algorithm="ppo",driver="') and after == [], scraped
assert line.endswith('env="Toy-v0",run="toy",seed=""}} 30.0'), line
from parl.cli.cluster_table import show
from parl.remote.occupants import introduce
introduce("ppo on Toy-v0", "/runs/toy")
show()
pool.close()
""",
)


def listening(processes):
    connections = [c for p in processes for c in p.net_connections() if c.status == "LISTEN"]
    return sorted({c.laddr.ip.removeprefix("::ffff:") for c in connections})


@pytest.mark.slow  # the tests of keeping nodes start one, too
def test_a_cluster_of_this_machine(capsys, home):
    port, metrics = str(free_port()), str(free_port())
    address = f"127.0.0.1:{port}"
    words = ["cluster", "start", "--port", port, "--num-cpus", "1", "--metrics-port", metrics]
    assert main(words) == 0
    assert capsys.readouterr().out == (
        f"cluster at {address}; `parl cluster stop` ends it\n"
        f"metrics of its runs at http://127.0.0.1:{metrics}/metrics\n"
    )
    assert stat.S_IMODE(cluster.state_file().stat().st_mode) == 0o600
    assert stat.S_IMODE((home / ".ray" / "auth_token").stat().st_mode) == 0o600
    ((pid, _, noted),) = json.loads(cluster.state_file().read_text())
    assert noted == address

    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    assert listening(family) == ["127.0.0.1"]
    done = run(OCCUPIED.format(address=address, metrics=metrics), home)
    assert done.stderr == ""
    first, *said = done.stdout.splitlines()
    assert first == "1.0 (10, 3, 2)"
    words = [line.split() for line in said]
    assert words[:5] == [
        ["cluster", "at", address],
        ["node", "CPUs", "free"],
        ["127.0.0.1", "1", words[2][2]],  # what is free is known a moment later
        [],
        ["run", "directory", "driver's", "host", "pid", "actors", "CPUs"],
    ]
    assert words[5][:5] == ["ppo", "on", "Toy-v0", "/runs/toy", "127.0.0.1"]
    assert words[5][6:] == ["1", "1"] and len(words) == 6
    # in another process: Ray keeps the token of the first cluster that it meets
    done = run("from parl.cli import main\nmain(['cluster', 'status'])", home)
    assert done.stdout.splitlines()[-1] == "no program uses it"
    said = sentence(capsys, "start", "--port", str(free_port()))
    assert said == (
        f"a node of the cluster at {address} runs here already; `parl cluster stop` ends it."
    )
    assert main(["cluster", "stop"]) == 0
    assert capsys.readouterr().out == f"stopped the node of {address}\n"
    assert not any(process.is_running() for process in family)
    sentence(capsys, "status", code=1)


def network_address():
    """This machine's address on a network, if it is on one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.1", 9))  # sends nothing
        except OSError:
            return None
        return probe.getsockname()[0]


@pytest.mark.slow
def test_nodes_of_a_cluster_on_the_network(capsys, monkeypatch, home):
    host = network_address()
    if host is None or host.startswith("127."):
        pytest.skip("this machine is on no network")
    (home / "token").write_text("a" * 64)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "token"))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    port = str(free_port(host))
    address = f"{host}:{port}"
    assert main(["cluster", "start", "--host", host, "--port", port, "--num-cpus", "1"]) == 0
    assert main(["cluster", "join", address, "--num-cpus", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == f"a node of {address} runs here"
    done = run(POOL.format(address=address), home)
    assert done.stdout == "2.0 (10, 3, 2)\n", done.stderr
    (home / "token").write_text("b" * 64)
    refused = run(POOL.format(address=address), home)
    assert "of another token than the one in" in refused.stderr
    (home / "token").write_text("a" * 64)
    families = [psutil.Process(node.pid) for node in cluster.running()]
    families += [child for node in families for child in node.children(recursive=True)]
    families[1].kill()  # the node that joined: its processes end with it
    assert len(cluster.running()) == 1
    assert main(["cluster", "stop"]) == 0
    _, left = psutil.wait_procs(families, 5)
    assert left == []
