"""A node that is started again, in place of Ray a program of our own."""

import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from test_cluster import free_port, home, sentence  # noqa: F401  the fixture

from parl.core.errors import ConfigError, RemoteError
from parl.remote import guard, keeper, nodes
from parl.remote.temporary import temporary


def test_keeping_to_nobody_is_one_sentence(capsys, monkeypatch, home):  # noqa: F811
    monkeypatch.setattr("parl.remote.cluster.LOOPBACK", ())
    monkeypatch.setattr(keeper, "INTERVAL", 0.02)
    told = []
    nobody = "no Ray cluster answers at 127.0.0.1:1 ([Errno 111] Connection refused)"
    with pytest.raises(RemoteError) as caught:
        keeper.keep("127.0.0.1:1", None, 0.1, told.append)
    assert told == [
        f"{nobody}; tried again for 0.1 seconds, `parl cluster stop` or Ctrl-C ends that"
    ]
    assert str(caught.value) == f"{nobody}, and that for 0.1 seconds."
    assert nodes.running() == []
    assert "patience must not be negative" in sentence(
        capsys, "join", "10.0.0.7:6379", "--keep", "--patience", "-1"
    )
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="which is a node of it already"):
        keeper.keep("127.0.0.1:1", None, 0.1, told.append)


def test_a_node_that_ends_is_started_again(monkeypatch, home):  # noqa: F811
    """Twice it ends, with a process that it leaves behind; then the third one is kept."""
    left, began = [], []

    def launch(options, num_cpus, loopback, around):
        assert options == ["--address=10.0.0.7:6379"] and num_cpus == 3 and not loopback
        assert around[-1] == "10.0.0.7:6379"
        began.append(time.monotonic())
        if len(began) == 3:
            raise KeyboardInterrupt
        program = "import subprocess; print(subprocess.Popen(['sleep', '60']).pid, flush=True)"
        process: Any = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True
        )
        left.append(psutil.Process(int(process.stdout.readline())))
        process.stdout.close()
        return process

    monkeypatch.setattr(keeper, "launch", launch)
    monkeypatch.setattr(keeper, "check_joins", lambda address: None)
    monkeypatch.setattr(keeper, "answers", lambda address: None)
    monkeypatch.setattr(keeper, "PAUSE", 0.05)
    told = []
    with pytest.raises(KeyboardInterrupt):
        keeper.keep("10.0.0.7:6379", 3, 60.0, told.append)
    assert told[0] == "a node of 10.0.0.7:6379 runs here"
    assert told[1].startswith("the node of 10.0.0.7:6379 ended after")
    assert len(told) == 4 and len(left) == 2
    assert not any(process.is_running() for process in left)
    assert began[1] - began[0] >= 0.1 and began[2] - began[1] >= 0.2
    assert nodes.running() == []


def test_files_of_ray_are_this_users_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    place = tmp_path / temporary().split("/")[-2]
    assert temporary() == f"{place}/ray" and place.stat().st_mode & 0o777 == 0o700
    place.chmod(0o755)
    temporary()
    assert place.stat().st_mode & 0o777 == 0o700
    place.rmdir()
    place.symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="is not a directory of yours; set RAY_TMPDIR"):
        temporary()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"cannot go to .*No such file or directory"):
        temporary()


NODE = "import subprocess, sys; print(subprocess.Popen(['sleep', '60']).pid, flush=True); input()"


@pytest.mark.parametrize("how", ["the head is gone", "SIGTERM", "SIGKILL", "it ends"])
def test_a_node_ends_with_its_head(how, monkeypatch):
    """And with whatever ends its guard, whose own code is run by its path."""
    source = Path(guard.__file__).read_text()
    fast = source.replace("INTERVAL = 3.0", "INTERVAL = 0.05").replace(
        "SILENCE = 40.0", "SILENCE = 0.2"
    )
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        process: Any = subprocess.Popen(
            [sys.executable, "-c", fast, address, sys.executable, "-c", NODE],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        left = psutil.Process(int(process.stdout.readline()))
        node: Any = left.parent()
        time.sleep(0.3)
        assert process.poll() is None and node.ppid() == process.pid
        if how == "SIGTERM":
            process.terminate()
        elif how == "SIGKILL":
            process.kill()
        elif how == "it ends":
            process.stdin.write("\n")
            process.stdin.flush()
        else:
            head.close()
        expected = {"the head is gone": 1, "SIGTERM": -15, "SIGKILL": -9, "it ends": 0}[how]
        code = process.wait(20)
    psutil.wait_procs([node], 5)
    assert not keeper.lives(node) and code in (expected, expected % 256)
    assert keeper.lives(left) == (how != "the head is gone")  # else it is Ray that ends it
    nodes.kill([left])
    process.stdin.close()
    process.stdout.close()
