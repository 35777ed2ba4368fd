"""Runs on Ray: secrets, kills, waiting, slow simulators, and what environments say."""

import contextlib
import functools
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

import parl
from fault_cases import case

FIRST_WORD_S = 2.5  # until something is on the screen; Python itself takes part of it
PROMPT_S = 5.0  # from the result to the end
CARTPOLE = ["--env", "CartPole-v1", "--eval-episodes", "1"]


def begin(*flags: str, algorithm: str = "ppo", said: str = "said.txt") -> subprocess.Popen:
    """Starts `parl train` on CartPole, in a home of its own; what it says is in a file."""
    with open(said, "w") as file:
        return subprocess.Popen(
            ["parl", "train", algorithm, *CARTPOLE, *flags],
            stdout=file,
            stderr=file,
            env=at_home(),
        )


def at_home() -> dict[str, str]:
    """The variables of a user without secrets; compiled programs are the real one's."""
    home = Path("home").resolve()
    home.mkdir(exist_ok=True)
    return os.environ | {"HOME": str(home), "XDG_CACHE_HOME": os.path.expanduser("~/.cache")}


def family(process: subprocess.Popen) -> list[Any]:
    """All that a process started, by whatever way."""
    import ray

    assert ray.__version__  # it brings psutil
    import psutil

    return psutil.Process(process.pid).children(recursive=True)


def wait_for(
    text: str, process: subprocess.Popen, seconds: float = 90, file: str = "said.txt"
) -> str:
    """What was said, once `text` is in it."""
    end = time.monotonic() + seconds
    while text not in (said := Path(file).read_text()):
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


def killed(victims: str, mode: str) -> str:
    """Kills all of a run's processes whose name or command line holds one of some words.

    Returns how the run ended.
    """
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
        steps = [int(p.name) for p in Path("run/checkpoints").iterdir() if p.name.isdigit()]
        assert max(steps) > 0, steps
        time.sleep(2)
        assert not [p for p in processes if p.is_running()], processes
        assert set(os.listdir("/dev/shm")) <= shared
        return f"{run.returncode}, {'recovered' if run.returncode == 143 else 'ended'} and saved"
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


SLOW_SIMULATOR = """
import time
import gymnasium
def Sim():
    env = gymnasium.make("CartPole-v1").unwrapped  # its state can be saved
    step = env.step
    env.step = lambda action: (time.sleep(0.02), step(action))[1]
    return env
"""


@case("R-break-off", seconds=400)
def break_off() -> None:
    """Ctrl-C amid a long rollout, here or on actors: the end within 3 s, and no bit changes."""
    Path("sim.py").write_text(SLOW_SIMULATOR)
    sys.path.insert(0, "")  # as for a command
    for actors in ("0", "2"):
        flags = ["--actors", actors, "--mode", "sync", "--steps", "1200", "--length", "300"]
        flags += ["--num-envs", "2", "--minibatches", "1", "--eval-every", "1200", "--out", actors]
        with open("said.txt", "w") as file:
            command = ["parl", "train", "ppo", "--env", "sim:Sim", "--eval-episodes", "1", *flags]
            run = subprocess.Popen(command, stdout=file, stderr=file, env=at_home())
        while (
            not (log := Path(actors, "metrics.jsonl")).exists() or not log.read_text()
        ):  # the second rollout is under way
            assert run.poll() is None, Path("said.txt").read_text()
            time.sleep(0.1)
        time.sleep(4 if actors == "0" else 2)
        begin_of_end = time.monotonic()
        run.send_signal(signal.SIGINT)
        assert run.wait(30) == 130
        took = time.monotonic() - begin_of_end
        said = Path("said.txt").read_text()
        assert "saved at step 600" in said, said
        assert took < 4 + 4 * (actors != "0"), took  # Ray's own end comes on top
        ended = subprocess.run(["parl", "resume", actors], capture_output=True, text=True)
        assert ended.returncode == 0 and "bit for bit" not in ended.stderr, ended.stderr
        found = json.loads(Path(actors, "result.json").read_text())["params_sha256"]
        whole = parl.train("ppo", env="sim:Sim", steps=1200, length=300, num_envs=2, minibatches=1,
                           eval_every=1200, eval_episodes=1, quiet=True, out=actors + "-whole",
                           actors=int(actors), mode="sync")  # fmt: skip
        assert whole.result["params_sha256"] == found, actors


@case("R-hang-sigterm", seconds=180)
def hang_sigterm() -> str:
    """SIGTERM while workers hang: the end comes within 10 s, saved."""
    hangs = "hang=0.1,seed=17"  # not in the first fragments
    flags = ["--actors", "2", "--steps", "100000000", "--deadline", "300", "--chaos", hangs]
    run = begin(*flags, "--out", "run")
    try:
        wait_for("compiled", run)
        time.sleep(8)
        run.terminate()
        began = time.monotonic()
        assert run.wait(30) == 143, run.returncode
        assert time.monotonic() - began < 10, time.monotonic() - began
        said = Path("said.txt").read_text()
        assert "saved at step" in said.splitlines()[-1] and "Traceback" not in said, said
        return "143, saved"
    finally:
        run.kill()
        run.wait()


class Simulator(gymnasium.Env):
    """Episodes of 5 steps; what is special runs in actors only where it says so."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,))
    action_space = gymnasium.spaces.Discrete(2)
    length = 5

    def __init__(self, driver: int = 0):
        self.in_actor = os.getpid() != driver
        self.time = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.time = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.time += 1
        return np.zeros(1, np.float32), 1.0, self.time >= self.length, False, {}


def train(kind: type, **settings: Any) -> Any:
    """A short run with environments of a kind, on one actor unless told otherwise."""
    short: dict[str, Any] = {"steps": 128, "num_envs": 2, "length": 32, "minibatches": 1}
    common: dict[str, Any] = {"actors": 1, "eval_episodes": 1, "quiet": True}
    make = functools.partial(kind, os.getpid())
    return parl.train("ppo", env=make, **(short | common | settings)).result


class SlowSimulator(Simulator):
    """A step takes seconds."""

    length = 2

    def step(self, action: Any) -> Any:
        time.sleep(2.5)
        return super().step(action)


@case("7a", seconds=300, slow=True)
def slow_simulator() -> None:
    """A simulator whose fragment takes longer than the deadline trains: its steps are signs."""
    few = {"num_envs": 1, "length": 4, "steps": 8, "deadline": 7.0}
    assert train(SlowSimulator, **few)["env_steps"] == 8


class Watchdog(Simulator):
    """Has a signal handler, which only a main thread may set."""

    def reset(self, **given: Any) -> Any:
        signal.signal(signal.SIGALRM, lambda *_: None)
        return super().reset(**given)


@case("15", seconds=180)
def main_thread() -> None:
    """An environment that handles signals trains here and on actors."""
    assert [train(Watchdog, actors=n)["env_steps"] for n in (0, 2)] == [128, 128]


@case("21", seconds=120)
def unsendable_maker() -> None:
    """A maker that cannot be pickled is one sentence that names what cannot."""
    lock = threading.Lock()

    def make() -> Any:
        with lock:
            return Simulator()

    try:
        parl.train("ppo", env=make, actors=2, steps=64, num_envs=2, length=16, quiet=True)
    except parl.ParlError as error:
        assert "`lock`" in str(error) and "actors=0" in str(error), error
        assert len(str(error).splitlines()) == 1 and len(str(error)) < 400, error
    else:
        raise AssertionError("it trained")


class ClosesNever(Simulator):
    """Its close() does not come back, in actors."""

    def close(self) -> None:
        while self.in_actor:
            time.sleep(60)


@case("R-close-hangs", seconds=120)
def close_hangs() -> None:
    """An environment whose close() sleeps for ever in an actor: the run ends."""
    assert train(ClosesNever, actors=2)["env_steps"] == 128


class Buggy(Simulator):
    """Has a bug in its step."""

    def step(self, action: Any) -> Any:
        if self.in_actor:
            action = {}["missing"]
        return super().step(action)


@case("S10-actor", seconds=120)
def error_on_an_actor() -> None:
    """What an environment on an actor raises comes with file and line."""
    try:
        train(Buggy)
    except parl.ParlError as error:
        first = Buggy.step.__code__.co_firstlineno
        where = f"ray_runs.py:{first + 2}"
        assert "KeyError in step" in str(error) and where in str(error), error
    else:
        raise AssertionError("it trained")


def stamped(*flags: str) -> tuple[list[tuple[float, str]], float]:
    """What `parl train ppo` on CartPole says, with the seconds until then, and those to its end."""
    begin = time.monotonic()
    process = subprocess.Popen(
        ["parl", "train", "ppo", *CARTPOLE, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=at_home(),
        text=True,
    )
    assert process.stdout
    said = [(time.monotonic() - begin, line.rstrip()) for line in process.stdout]
    assert process.wait() == 0, said
    return said, time.monotonic() - begin


@case("S11", seconds=240)
def first_words() -> None:
    """A run on actors speaks at once, says what it starts, and ends soon after its result."""
    said, end = stamped("--actors", "2", "--steps", "20000", "--out", "run")
    print(*said, f"end {end:.1f}", sep="\n")
    assert said[0][0] < FIRST_WORD_S, said[0]
    assert any("starting Ray" in line for _, line in said), said
    assert any("starting 2 rollout actors" in line for _, line in said), said
    assert end - said[-1][0] < PROMPT_S, (said[-1], end)


@contextlib.contextmanager
def cluster(num_cpus: int) -> Iterator[str]:
    """The address of a cluster of this many CPUs, started by hand."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    by_hand("start", "--port", str(port), "--num-cpus", str(num_cpus))
    try:
        yield f"127.0.0.1:{port}"
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):  # it may have ended by itself
            by_hand("stop")


def by_hand(*words: str) -> str:
    """What a command of `parl cluster` says."""
    env = at_home() | {"XDG_CACHE_HOME": str(Path("cache").resolve())}
    command = ["parl", "cluster", *words]
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout


@case("S11-two-runs", seconds=400, slow=True)
def two_runs_on_one_cluster() -> None:
    """A second run on a full cluster says that it waits for a CPU, and trains when it gets it.

    `parl cluster status` tells meanwhile which of them holds what.
    """
    with cluster(3) as address:
        flags = ["--actors", "2", "--address", address]
        first = second = begin(*flags, "--steps", "100000000", "--out", "first")
        try:
            wait_for("compiled", first, 150)
            second = begin(*flags, "--steps", "4000", "--out", "second", said="second.txt")
            wait_for("waiting for 1 CPU of the cluster (0 of 3 free)", second, 100, "second.txt")
            told = by_hand("status")
            for run, name, cpus in ((first, "first", 2), (second, "second", 1)):
                held = rf"ppo on CartPole-v1 .*/{name} .* {run.pid} .* {cpus}$"
                assert re.search(held, told, re.MULTILINE), told
            first.terminate()
            assert first.wait(20) == 143
            assert second.wait(150) == 0, Path("second.txt").read_text()
        finally:
            for run in (first, second):
                run.kill()
                run.wait()


@case("R-kill-gcs-shared", seconds=300)
def shared_head_killed() -> None:
    """The head of a cluster that others share is killed: one sentence within 40 s, saved."""
    import ray

    assert ray.__version__  # it brings psutil
    import psutil

    with cluster(3) as address:
        port, flags = address.rpartition(":")[2], ["--actors", "2", "--address", address]
        run = begin(*flags, "--steps", "100000000", "--mode", "sync", "--out", "run")
        try:
            wait_for("compiled", run, 150)
            time.sleep(3)
            (head,) = [
                p
                for p in named(psutil.process_iter(), "gcs_server")
                if f"={port}" in str(p.cmdline())
            ]
            head.kill()
            assert run.wait(40) == 1
            said = Path("said.txt").read_text()
            assert "Traceback" not in said and "has given no answer for" in said, said
            assert "The run is saved at step" in said, said
        finally:
            run.kill()
            run.wait()


class Mapped(Simulator):
    """Reads a file beside it when it is made, and finds nothing else there."""

    def __init__(self, driver: int = 0):
        super().__init__(driver)
        assert Path("maps/one.txt").read_text() == "a map"
        assert Path("other.txt").exists() != self.in_actor


@case("A12", seconds=120)
def distributed_files() -> None:
    """Files named at parl.connect are where environments on actors look for them."""
    Path("maps").mkdir()
    Path("maps/one.txt").write_text("a map")
    Path("other.txt").write_text("stays here")
    parl.connect(distributed_files=["maps/*.txt"])
    assert train(Mapped)["env_steps"] == 128
