"""Signals and kills at bad moments: what a run does, and that it can go on.

    python experiments/signals.py                # all of them
    python experiments/signals.py usr1 hangup    # these

Prints a Markdown table; the exit code is 1 if one fails.

A case is a function that runs commands of `parl` and raises AssertionError unless all is right. In
the end nothing of its processes may be alive, and nothing new may lie in /dev/shm.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

from fault_cases.ray_runs import KINDS, hang_sigterm, killed
from watch import AGENTS, psutil

MARKER = "PARL_SIGNALS"  # in the environment of all processes of a case
LIMIT_S = 300.0  # for anything, on a busy machine
PROMPT_S = 10.0  # for the end after a signal
TRAIN = (
    "train ppo --env jax:CartPole-v1 --steps 40960 --eval-every 4096 --eval-episodes 2 --hidden 8 "
    "--num-envs 8 --length 64 --minibatches 1 --epochs 1 --quiet --out run"
)
RESUME = "resume run --quiet"
RUN = Path("run")

# what a process does in its place, before `parl` begins
WAIT_AT = "(print('HERE', flush=True), time.sleep(600))"
BUILD_WAITS = f"import parl.runs.executions as e; e.making.set(lambda *_: {WAIT_AT})"
PACE = """import parl.runs.trainer as t; advance = t.Trainer.advance
def slowly(self, n): advance(self, n); time.sleep(0.3)
t.Trainer.advance = slowly"""
SAVE_WAITS = """import parl.core.checkpoint as c; sync, calls = c.sync, []
def slow(file):
    calls.append(file)
    if len(calls) > 3: print('HERE', flush=True); time.sleep(SECONDS)
    sync(file)
c.sync = slow"""
EVALUATION_WAITS = """import parl.runs.trainer as t; complete = t.Trainer.complete
def slow(self):
    if self.episodes_due():
        print('HERE', flush=True)
        while not self.signals.signum: time.sleep(0.1)
    complete(self)
t.Trainer.complete = slow"""
KILL = "os.kill(os.getpid(), signal.SIGKILL)"
DIES_BEFORE_CONFIG = f"import parl.runs.directory as r; r.RunDir.write_config = lambda *_: {KILL}"
DIES_BEFORE_RESULT = f"import parl.runs.directory as r; r.RunDir.write_result = lambda *_: {KILL}"
DIES_BEFORE_LINE = f"import parl.runs.trainer as t; t.Trainer.complete = lambda *_: {KILL}"
DIES_WRITING = f"""import parl.core.checkpoint as c; write, calls = c.write_manifest, []
def dies(*args):
    calls.append(args)
    write(*args) if len(calls) < 4 else {KILL}
c.write_manifest = dies"""


class Command:
    """A command of parl in a process of its own, with some of it replaced before it begins."""

    def __init__(self, words: str, patch: str = ""):
        self.words = words
        code = f"import os, signal, sys, time\n{patch}\nfrom parl.cli import main\nsys.exit(main())"
        self.log = Path(f"log-{uuid.uuid4().hex[:8]}")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, *words.split()],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self) -> str:
        return self.log.read_text()

    def until(self, there: Callable[[], bool]) -> None:
        """Waits for something."""
        end = time.monotonic() + LIMIT_S
        while not there():
            assert self.process.poll() is None, f"'parl {self.words}' ended: {self.said()}"
            assert time.monotonic() < end, f"'parl {self.words}' does not get there: {self.said()}"
            time.sleep(0.01)

    def here(self) -> "Command":
        """Waits until it is where it waits."""
        self.until(lambda: "HERE" in self.said())
        return self

    def trains(self) -> "Command":
        """Waits until a checkpoint beyond the first is there."""
        self.until(lambda: any(step > 0 for step in saved()))
        return self

    def send(self, *signums: int) -> "Command":
        for signum in signums:
            self.process.send_signal(signum)
            time.sleep(0.2)
        return self

    def ends(self, code: int, sentence: str, seconds: float = LIMIT_S) -> None:
        """Waits for the end, which is to have this code and say this in its last line."""
        try:
            found = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"no end within {seconds:.0f} s: {self.said()}") from None
        last = (self.said().strip().splitlines() or [""])[-1]
        assert found == code and sentence in last, f"exit code {found}, '{last}'"
        assert "Traceback" not in self.said(), self.said()


def saved() -> list[int]:
    """Environment steps of the run's checkpoints."""
    names = [p.name for p in (RUN / "checkpoints").glob("*")]
    return sorted(int(name) for name in names if name.isdecimal())


def steps_logged() -> list[int]:
    return [json.loads(line)["env_steps"] for line in (RUN / "metrics.jsonl").open()]


def ends_alike(words: str = RESUME) -> None:
    """The run goes on to the parameters and metrics of one that nothing disturbed."""
    Command(words).ends(0, "run directory run")
    mine = json.loads((RUN / "result.json").read_text())
    logged = steps_logged()
    assert logged == sorted(set(logged)), logged
    whole = Path("..") / "undisturbed"
    if not whole.exists():
        whole.mkdir()
        here = Path.cwd()
        os.chdir(whole)
        Command(TRAIN).ends(0, "run directory run")
        os.chdir(here)
    result = json.loads((whole / "run" / "result.json").read_text())
    for name in ("params_sha256", "env_steps", "updates", "returns"):
        assert mine[name] == result[name], f"another {name}"
    evaluated = lambda path: [
        (line["env_steps"], line["eval/return_mean"])
        for line in map(json.loads, (path / "metrics.jsonl").open())
        if "eval/return_mean" in line
    ]
    assert evaluated(RUN) == evaluated(whole / "run"), "other evaluations"


def built_term() -> str:
    """SIGTERM while the run is being built"""
    Command(TRAIN, BUILD_WAITS).here().send(signal.SIGTERM).ends(
        143, "SIGTERM: ended before training began; nothing is left of it.", PROMPT_S
    )
    assert not RUN.exists()
    return "143, nothing left"


def built_int() -> str:
    """Ctrl-C while the run is being built"""
    Command(TRAIN, BUILD_WAITS).here().send(signal.SIGINT).ends(
        130, "SIGINT: ended before training began; nothing is left of it.", PROMPT_S
    )
    assert not RUN.exists()
    return "130, nothing left"


def built_kill() -> str:
    """kill -9 between the first checkpoint and config.json"""
    Command(TRAIN, DIES_BEFORE_CONFIG).ends(-9, "")
    assert saved() == [0] and not (RUN / "config.json").exists()
    Command(RESUME).ends(2, "start it again with 'parl train'")
    ends_alike(TRAIN)
    return "train starts again"


def resumed_term() -> str:
    """SIGTERM while a resume is being built"""
    Command(TRAIN, PACE).trains().send(signal.SIGTERM).ends(143, "saved at step")
    before = saved()
    Command(RESUME, BUILD_WAITS).here().send(signal.SIGTERM).ends(
        143, "SIGTERM: ended before training went on; the run is as it was.", PROMPT_S
    )
    assert saved() == before
    ends_alike()
    return "143, goes on alike"


def training(signum: int, code: int) -> str:
    """A signal while training: saved, and goes on to the same numbers."""
    name = signal.Signals(signum).name
    Command(TRAIN, PACE).trains().send(signum).ends(code, f"{name}: saved at step", PROMPT_S)
    ends_alike()
    return f"{code}, goes on alike"


def term() -> str:
    """SIGTERM while training"""
    return training(signal.SIGTERM, 143)


def ctrl_c() -> str:
    """Ctrl-C while training"""
    return training(signal.SIGINT, 130)


def hangup() -> str:
    """SIGHUP while training"""
    return training(signal.SIGHUP, 129)


def usr1() -> str:
    """SIGUSR1 while training"""
    session = Command(f"{TRAIN} --checkpoint-every 1000000", PACE)
    session.until(lambda: bool(saved()) and (RUN / "metrics.jsonl").stat().st_size > 0)
    before = saved()
    session.send(signal.SIGUSR1).until(lambda: saved() != before)
    session.ends(0, "run directory run")
    return "0, saved and went on"


def saving_twice() -> str:
    """SIGTERM twice while a checkpoint is written"""
    slow = SAVE_WAITS.replace("SECONDS", "1.5")
    Command(TRAIN, slow).here().send(signal.SIGTERM, signal.SIGTERM).ends(
        143, "SIGTERM: saved at step", 3 * PROMPT_S
    )
    ends_alike()
    return "143, the save is finished"


def saving_for_ever() -> str:
    """Ctrl-C again and again while a checkpoint never gets written"""
    stuck = SAVE_WAITS.replace("SECONDS", "600")
    Command(TRAIN, stuck).here().send(*[signal.SIGINT] * 3).ends(
        130, "SIGINT: ended at once; go on from step 0 with 'parl resume run'", PROMPT_S
    )
    ends_alike()
    return "130, goes on from the one before"


def evaluating() -> str:
    """SIGTERM while an evaluation takes for ever"""
    Command(TRAIN, EVALUATION_WAITS).here().send(signal.SIGTERM).ends(
        143, "SIGTERM: saved at step 4096", PROMPT_S
    )
    assert 4096 not in steps_logged()
    ends_alike()
    return "143, evaluated when it goes on"


def writing_kill() -> str:
    """kill -9 while a checkpoint is written"""
    Command(TRAIN, DIES_WRITING).ends(-9, "")
    assert list((RUN / "checkpoints").glob(".writing-*"))
    ends_alike()
    assert not list((RUN / "checkpoints").glob(".*"))
    return "goes on alike"


def saved_kill() -> str:
    """kill -9 between a checkpoint and its evaluation"""
    Command(TRAIN, DIES_BEFORE_LINE).ends(-9, "")
    ends_alike()
    return "evaluated when it goes on"


def result_kill() -> str:
    """kill -9 before the result is written"""
    Command(TRAIN, DIES_BEFORE_RESULT).ends(-9, "")
    assert not (RUN / "result.json").exists()
    ends_alike()
    before = (RUN / "result.json").read_bytes()
    Command("resume run").ends(0, "run directory run")
    assert (RUN / "result.json").read_bytes() == before
    return "finished by resume"


def two_at_once() -> str:
    """Resume and train in the directory of a run that is going on"""
    session = Command(TRAIN, PACE).trains()
    Command(RESUME).ends(2, "is in use: process")
    Command(TRAIN).ends(2, "already holds a run")
    session.ends(0, "run directory run")
    return "2, both refused"


def stopped() -> str:
    """SIGSTOP, and SIGCONT two seconds later"""
    session = Command(TRAIN, PACE).trains().send(signal.SIGSTOP)
    time.sleep(2)
    session.send(signal.SIGCONT).ends(0, "run directory run")
    ends_alike()
    return "0, the same numbers"


def on_ray(name: str, what: str, check: Callable[[], str]) -> Callable[[], str]:
    """A case of a run with two actors."""

    def case() -> str:
        return check()

    case.__name__, case.__doc__ = f"ray_{name}", what
    return case


RAY = [
    *(
        on_ray(name, f"kill -9 to {what} of a run on Ray", partial(killed, KINDS[name], "sync"))
        for name, what in (("raylet", "the raylet"), ("gcs", "the GCS"), ("workers", "all workers"))
    ),
    on_ray("hang", "SIGTERM while workers on Ray hang", hang_sigterm),
]
CASES: list[Callable[[], str]] = [
    *(built_term, built_int, built_kill, resumed_term, term, ctrl_c, hangup, usr1, saving_twice),
    *(saving_for_ever, evaluating, writing_kill, saved_kill, result_kill, two_at_once, stopped),
    *RAY,
]


def survivors(mark: str) -> list[psutil.Process]:
    """Living processes of a case, without Ray's agents, which look after themselves."""

    def is_own(process: psutil.Process) -> bool:
        try:
            if process.environ().get(MARKER) != mark or process.status() == "zombie":
                return False
            return " ".join(process.cmdline()[:2]).strip() not in AGENTS
        except psutil.Error:
            return False

    return [p for p in psutil.process_iter() if p.pid != os.getpid() and is_own(p)]


def run(case: Callable[[], str], folder: Path) -> tuple[bool, str]:
    """(whether all was right, what happened) of a case in a directory of its own."""
    shared = set(os.listdir("/dev/shm"))
    os.environ[MARKER] = mark = uuid.uuid4().hex
    place = folder / case.__name__
    place.mkdir()
    os.chdir(place)
    try:
        said = case()
    except AssertionError as error:
        return False, " ".join(str(error).split())[-300:]
    finally:
        end = time.monotonic() + 30
        while (left := survivors(mark)) and time.monotonic() < end:
            time.sleep(0.2)
        for process in left:
            process.kill()
    if left:
        return False, f"{len(left)} processes alive after 30 s"
    if more := set(os.listdir("/dev/shm")) - shared:
        return False, f"/dev/shm has {', '.join(sorted(more))}"
    return True, said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [case.__name__ for case in CASES]
    parser.add_argument("names", nargs="*", metavar="|".join(names))
    chosen = parser.parse_args().names or names
    if unknown := set(chosen) - set(names):
        parser.error(f"no case is called {', '.join(sorted(unknown))}")
    failed = 0
    print("| what comes when | outcome | as it should |\n| --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory(prefix="parl-signals-") as folder:
        for case in CASES:
            if case.__name__ in chosen:
                right, said = run(case, Path(folder))
                failed += not right
                print(f"| {case.__doc__} | {said} | {'yes' if right else 'NO'} |", flush=True)
        os.chdir("/")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
