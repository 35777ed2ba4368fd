"""Runs on Ray: secrets, kills, waiting, slow simulators, and what environments say."""

import functools
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from fault_cases import case

CARTPOLE = ["--env", "CartPole-v1", "--eval-episodes", "1"]


def begin(*flags: str, algorithm: str = "ppo") -> subprocess.Popen:
    """Starts `parl train` on CartPole, in a home of its own; what it says is in said.txt."""
    home = Path("home").resolve()
    home.mkdir(exist_ok=True)
    with open("said.txt", "w") as said:
        return subprocess.Popen(
            ["parl", "train", algorithm, *CARTPOLE, *flags],
            stdout=said,
            stderr=said,
            env=os.environ | {"HOME": str(home), "XDG_CACHE_HOME": os.path.expanduser("~/.cache")},
        )


def family(process: subprocess.Popen) -> list[Any]:
    """All that a process started, by whatever way."""
    import ray

    assert ray.__version__  # it brings psutil
    import psutil

    return psutil.Process(process.pid).children(recursive=True)


def wait_for(text: str, process: subprocess.Popen, seconds: float = 90) -> str:
    """What was said, once `text` is in it."""
    end = time.monotonic() + seconds
    while text not in (said := Path("said.txt").read_text()):
        assert process.poll() is None and time.monotonic() < end, said
        time.sleep(0.1)
    return said


def named(processes: list[Any], word: str) -> list[Any]:
    """Those whose command line holds a word."""
    found = []
    for process in processes:
        try:
            if word in " ".join(process.cmdline()):
                found.append(process)
        except Exception:  # it has ended
            continue
    return found


STRANGER = """
import sys
from ray._raylet import GcsClient
try:
    print(open(sys.argv[2]).read())
except PermissionError:
    print("cannot read")
try:
    print("joined", GcsClient(address=sys.argv[1]).internal_kv_keys(b"", None, timeout=10))
except Exception as error:
    print("refused", type(error).__name__)
"""


@case("R-token", seconds=180)
def token() -> None:
    """Another user of the machine can neither read Ray's token nor join a run's cluster."""
    os.umask(0)
    run = begin("--actors", "2", "--steps", "100000000", "--out", "run")
    try:
        wait_for("compiled", run)
        secret = Path("home/.ray/auth_token").resolve()
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
        assert stat.S_IMODE(secret.parent.stat().st_mode) == 0o700
        processes = family(run)
        listeners = {
            connection.laddr.ip.removeprefix("::ffff:")
            for process in processes
            for connection in process.net_connections()
            if connection.status == "LISTEN"
        }
        assert listeners <= {"127.0.0.1", "::1"}, listeners
        if os.getuid() == 0:
            (raylet,) = [p for p in processes if p.name() == "raylet"]
            (address,) = [w for w in raylet.cmdline() if w.startswith("--gcs-address=")]
            stranger = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
            for mode in ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 64}, {}):
                told = subprocess.run(
                    [*stranger, sys.executable, "-c", STRANGER, address[14:], str(secret)],
                    env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"} | mode,
                    capture_output=True,
                    text=True,
                    timeout=80,
                    cwd="/",
                ).stdout.splitlines()
                assert told[0] == "cannot read" and told[1].startswith("refused"), told
    finally:
        run.terminate()
        run.wait(20)


def killed(victims: str, mode: str) -> None:
    """Kills all of a run's processes whose name or command line holds one of some words."""
    shared = set(os.listdir("/dev/shm"))
    algorithm = "ppo" if mode == "sync" else "impala"
    flags = ["--actors", "2", "--steps", "100000000", "--checkpoint-every", "50000000"]
    run = begin(*flags, "--mode", mode, "--out", "run", algorithm=algorithm)
    try:
        wait_for("compiled", run)
        time.sleep(3)
        processes = family(run)
        targets = [p for word in victims.split() for p in named(processes, word)]
        assert targets, [p.cmdline() for p in processes]
        for process in targets:
            process.kill()
        time.sleep(15)
        if run.poll() is None:  # recovered: it trains on, and ends when told to
            run.terminate()
            run.wait(10)
            assert run.returncode == 143, run.returncode
        else:
            assert run.returncode == 1, run.returncode
        said = Path("said.txt").read_text()
        assert "Traceback" not in said, said
        assert "saved at step" in said.splitlines()[-1], said
        print(said.splitlines()[-1])
        steps = [int(p.name) for p in Path("run/checkpoints").iterdir() if p.name.isdigit()]
        assert max(steps) > 0, steps
        time.sleep(2)
        assert not [p for p in processes if p.is_running()], processes
        assert set(os.listdir("/dev/shm")) <= shared
    finally:
        run.kill()
        run.wait()


KINDS = {
    "raylet": "/raylet",
    "gcs": "gcs_server",
    "workers": "ray::",
    "everything": "/raylet gcs_server ray::",
    "agents": "DashboardAgent RuntimeEnvAgent dashboard/agent.py runtime_env/agent",
}

for kind, words in KINDS.items():
    for way in ("sync", "async"):
        check = functools.partial(killed, words, way)
        check.__doc__ = (
            f"SIGKILL to {kind} of a {way} run: recovered, or ended in a sentence, saved."
        )
        case(f"R-kill-{kind}-{way}", seconds=180, slow=True)(check)
