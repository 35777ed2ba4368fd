"""Two users of one machine, root and nobody, and two runs of one cluster: they stay apart."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from test_cluster import free_port

import parl

NOBODY = 65_534
AS = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
ROOT = Path(parl.__file__).parents[1]
PATH = os.pathsep.join([str(ROOT), sysconfig.get_path("purelib")])
ATTEMPT = """
import time

from parl.core.errors import ParlError
from parl.remote import connect, disconnect
from parl.remote.temporary import temporary
try:
    from parl.remote.connect import find
    print("found", find())
except ParlError as error:
    print(error)
start = time.monotonic()
try:
    print(connect("{address}")["CPU"], temporary())
    disconnect()
except ParlError as error:
    assert time.monotonic() - start < 30  # on a busy machine; Ray alone takes a minute
    print(type(error).__name__, str(error).partition(" than")[0])
"""


# and starts itself, which nobody may not where root's homes are on the way to it
IMPORTS = (
    "import subprocess, sys, ray, jax, parl.core.errors; "
    "subprocess.run([sys.executable, '-c', ''], check=True)"
)


def nobodys_python() -> str:
    """A Python with which nobody can import what is tested; empty where there is none."""
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        return ""
    system = f"/usr/bin/python3.{sys.version_info.minor}"
    env = os.environ | {"PYTHONPATH": PATH}
    for python in (sys.executable, system):
        command = [*AS, python, "-c", IMPORTS]
        if subprocess.run(command, cwd="/", env=env, capture_output=True).returncode == 0:
            return python
    return ""


@dataclass(frozen=True)
class User:
    """Runs Python programs of one user, with a home of its own."""

    run: Callable[..., subprocess.CompletedProcess[str]]
    home: Path

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run(*words)


@contextmanager
def user(python: list[str], uid: int):
    """A user of this machine."""
    home = tempfile.mkdtemp(prefix="parl-user-")
    os.chown(home, uid, uid)
    kept = {name: x for name, x in os.environ.items() if not name.startswith(("RAY_", "XDG_"))}
    env = kept | {"HOME": home, "PYTHONPATH": PATH, "JAX_PLATFORMS": "cpu"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*python, *words], env=env, cwd=home, capture_output=True, text=True, timeout=200
        )

    try:
        yield User(run, Path(home))
    finally:
        run("-m", "parl.cli", "cluster", "stop")
        shutil.rmtree(home, ignore_errors=True)


def start(run, port: int) -> str:
    """A cluster of this machine; its address."""
    for _ in range(3):  # on a busy machine Ray gives up after 30 s
        done = run("-m", "parl.cli", "cluster", "start", "--port", str(port), "--num-cpus", "1")
        if done.returncode == 0:
            break
    assert done.returncode == 0, done.stderr
    return f"127.0.0.1:{port}"


@pytest.mark.slow
def test_two_users_do_not_see_each_other():
    if not (python := nobodys_python()):
        pytest.skip("needs root, setpriv, and packages that nobody may read")
    with user([sys.executable], 0) as mine, user([*AS, python], NOBODY) as other:
        address = start(mine, free_port())
        done = other("-c", ATTEMPT.format(address=address))
        assert done.stdout.splitlines() == [
            "no Ray cluster of yours runs on this machine; start one with `parl cluster start`.",
            f"RemoteError the Ray cluster at {address} is another user's, or of another token",
        ], done.stderr
        theirs = start(other, free_port())
        done = other("-c", ATTEMPT.format(address=theirs))
        assert done.stdout.splitlines() == [
            f"found {theirs}", f"1.0 /tmp/parl-ray-{NOBODY}/ray"
        ], done.stderr  # fmt: skip
        done = mine("-c", ATTEMPT.format(address=address))
        assert done.stdout.splitlines() == [f"found {address}", "1.0 /tmp/parl-ray-0/ray"]
        tokens = [(one.home / ".ray" / "auth_token").read_text() for one in (mine, other)]
        assert tokens[0] != tokens[1]
        for place in (mine.home / ".ray" / "auth_token", Path("/tmp/parl-ray-0/ray")):
            assert subprocess.run([*AS, "ls", str(place)], capture_output=True).returncode != 0
        done = other("-m", "parl.cli", "cluster", "stop")
        assert done.stdout == f"stopped the node of {theirs}\n"
        assert mine("-m", "parl.cli", "cluster", "status").returncode == 0


TRAIN = [
    *("-m", "parl.cli", "train", "ppo", "--env", "jax:CartPole-v1", "--actors", "1", "--quiet"),
    *("--num-envs", "2", "--length", "8", "--hidden", "4", "--epochs", "1", "--minibatches", "1"),
    *("--steps", "320", "--eval-episodes", "0"),
]
SHA = "import json; print(json.load(open('{run}/result.json'))['params_sha256'])"


@pytest.mark.slow
def test_two_runs_of_one_cluster_are_those_that_they_are_alone():
    with user([sys.executable], os.getuid()) as mine:
        port = free_port()
        words = ["cluster", "start", "--port", str(port), "--num-cpus", "2"]
        assert mine("-m", "parl.cli", *words).returncode == 0
        where = ["--address", f"127.0.0.1:{port}"]
        env = os.environ | {"HOME": str(mine.home), "PYTHONPATH": str(ROOT)}
        started = [
            subprocess.Popen(
                [sys.executable, *TRAIN, *where, "--seed", str(seed), "--out", f"run{seed}"],
                env=env, cwd=mine.home, stdout=subprocess.DEVNULL,
            )
            for seed in (1, 2)
        ]  # fmt: skip
        assert [process.wait(200) for process in started] == [0, 0]
        for seed in (1, 2):
            alone = [*TRAIN[: TRAIN.index("--actors")], *TRAIN[TRAIN.index("--actors") + 2 :]]
            alone += ["--execution", "host", "--seed", str(seed), "--out", f"alone{seed}"]
            assert mine(*alone).returncode == 0
        sha = lambda name: mine("-c", SHA.format(run=name)).stdout
        assert [sha("run1"), sha("run2")] == [sha("alone1"), sha("alone2")] and sha("run1")
