"""Runs that are killed again and again end with the parameters of the run that nothing disturbed.

    python experiments/kills.py --kills 50
    python experiments/kills.py --kills 4 --runs sac-fused sac-host

Half of the kills go to PPO on two Ray actors, half to SAC in one compiled program. Each is SIGKILL
to a `parl train` or `parl resume` at a random moment; `parl resume` then goes on. A run gets some
kills before it may end. Prints a Markdown table, and exits with 1 if any run ends with other
parameters, if it cannot go on, or if a process of it is alive 30 s after the kill.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from watch import AGENTS, psutil

MARKER = "PARL_KILLS"  # in the environment of all processes of a run
KILLS_PER_RUN = 5  # at most
WHILE_STARTING = 0.15  # share of the kills
LIMIT_S = 900.0  # for one session, on a busy machine
TINY = "--hidden 8 --eval-episodes 1 --quiet"
SAC = "--capacity 2000 --batch-size 16 --warmup 200 --length 8 --updates 4"
PPO = "--num-envs 4 --length 32 --minibatches 4 --epochs 2"
RUNS = {
    "ppo-ray": "ppo --env CartPole-v1 --actors 2 --steps 12800 --eval-every 640 " + PPO,
    "ppo-host": "ppo --env CartPole-v1 --steps 20480 --eval-every 1024 " + PPO,
    "sac-fused": "sac --env jax:Pendulum-v1 --steps 60000 --eval-every 2000 " + SAC,
    "sac-host": "sac --env Pendulum-v1 --steps 6000 --eval-every 400 " + SAC,
}


class Failed(Exception):
    """A session ended with an error."""


@dataclass
class Row:
    """What happened to the runs of one kind."""

    starting: int = 0  # kills before training (again) began
    training: int = 0
    writing: int = 0  # of those: while a checkpoint was written
    anew: int = 0  # kills before a run's first checkpoint: it starts anew
    ended: int = 0  # runs
    same: int = 0  # of those: with the parameters of the undisturbed run
    alive: int = 0  # processes 30 s after a kill
    gone_s: float = 0.0  # until the last process was gone, at most

    @property
    def kills(self) -> int:
        return self.starting + self.training


class Session:
    """A `parl train`, or a `parl resume` where there is something to resume."""

    def __init__(self, name: str, out: Path):
        self.out, self.mark = out, uuid.uuid4().hex
        if saved(out):
            words = ["resume", str(out), "--quiet"]
        else:
            shutil.rmtree(out, ignore_errors=True)
            words = ["train", *f"{RUNS[name]} {TINY}".split(), "--out", str(out)]
        self.before = self.log_time()
        self.log = out.with_suffix(".log")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "parl.cli", *words],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {MARKER: self.mark},
            )

    def log_time(self) -> float:
        """When the metrics were last written to: at first where training (again) begins."""
        metrics = self.out / "metrics.jsonl"
        return metrics.stat().st_mtime if metrics.exists() else 0.0

    def is_training(self) -> bool:
        return self.log_time() != self.before and saved(self.out)

    def wait(self, seconds: float, until_training: bool = False) -> bool:
        """Whether it ended within this time, or before training began."""
        end = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < end:
            if until_training and self.is_training():
                return False
            time.sleep(0.005)
        return self.process.poll() is not None

    def result(self) -> dict[str, Any]:
        """What the session that ended has reached."""
        if self.process.returncode:
            raise Failed(f"{self.out.name}: {self.log.read_text().strip()[-2000:]}")
        return json.loads((self.out / "result.json").read_text())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def survivors(self) -> list[psutil.Process]:
        """Living processes of this session, without Ray's agents, which look after themselves."""
        return [p for p in psutil.process_iter() if self.is_own(p)]

    def is_own(self, process: psutil.Process) -> bool:
        try:
            if process.environ().get(MARKER) != self.mark or process.status() == "zombie":
                return False
            return " ".join(process.cmdline()[:2]).strip() not in AGENTS
        except psutil.Error:
            return False


def saved(out: Path) -> bool:
    """Whether a run has a checkpoint."""
    return any(p.name.isdecimal() for p in (out / "checkpoints").glob("*"))


def undisturbed(name: str, out: Path) -> tuple[str, float, float]:
    """(digest of the parameters, seconds until training began, seconds of training)."""
    begin = time.monotonic()
    session = Session(name, out)
    session.wait(LIMIT_S, until_training=True)
    trained = time.monotonic()
    session.wait(LIMIT_S)
    digest = session.result()["params_sha256"]
    return digest, trained - begin, time.monotonic() - trained


def disturb(session: Session, random: np.random.Generator, times: tuple[float, float]) -> bool:
    """Kills a session at a random moment; False if it ended before that."""
    starting, training = times
    if random.random() < WHILE_STARTING:
        ended = session.wait(starting * random.random())
    else:
        # a quarter: so that runs see several kills before they end
        ended = session.wait(LIMIT_S, until_training=True) or session.wait(
            training / 4 * random.random()
        )
    if not ended:
        session.kill()
    return not ended


def book(row: Row, session: Session) -> None:
    """Counts a kill and looks for what it left behind."""
    begin = time.monotonic()
    row.training += session.is_training()
    row.starting += not session.is_training()
    row.writing += any((session.out / "checkpoints").glob(f".writing-*-{session.process.pid}"))
    row.anew += not saved(session.out)
    while (left := session.survivors()) and time.monotonic() - begin < 30:
        time.sleep(0.2)
    row.alive += len(left)
    row.gone_s = max(row.gone_s, time.monotonic() - begin)
    for process in left:
        process.kill()


def campaign(name: str, kills: int, random: np.random.Generator, out: Path) -> Row:
    """Runs of one kind until `kills` kills have hit them; all of them run to their end."""
    digest, *times = undisturbed(name, out / f"{name}-undisturbed")
    print(f"{name}: starts in {times[0]:.1f} s, trains {times[1]:.1f} s", file=sys.stderr)
    row = Row()
    while row.kills < kills:
        path, hits = out / f"{name}-{row.ended}", 0
        while True:
            session = Session(name, path)
            if (
                hits < KILLS_PER_RUN
                and row.kills < kills
                and disturb(session, random, tuple(times))
            ):
                book(row, session)
                hits += 1
                continue
            session.wait(LIMIT_S)
            break
        row.ended += 1
        row.same += session.result()["params_sha256"] == digest
        print(f"{name}: {row}", file=sys.stderr, flush=True)
        shutil.rmtree(path)
    return row


def table(rows: dict[str, Row]) -> str:
    """Markdown."""
    heads = "run", "kills", "while starting", "while training", "within a write", "first start"
    heads += "runs", "same parameters", "alive after 30 s", "all gone after at most"
    lines = [f"| {' | '.join(heads)} |", "| --- |" + " --: |" * (len(heads) - 1)]
    for name, row in rows.items():
        cells = row.kills, row.starting, row.training, row.writing, row.anew
        cells += row.ended, row.same, row.alive
        lines.append(f"| {name} | {' | '.join(map(str, cells))} | {row.gone_s:.1f} s |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=["ppo-ray", "sac-fused"])
    arguments = parser.parse_args()
    random, rows = np.random.default_rng(arguments.seed), {}
    with tempfile.TemporaryDirectory(prefix="parl-kills-") as out:
        for i, name in enumerate(arguments.runs):
            share = arguments.kills * (i + 1) // len(arguments.runs)
            share -= arguments.kills * i // len(arguments.runs)
            try:
                rows[name] = campaign(name, share, random, Path(out))
            except Failed as error:
                print(f"FAILED {error}", file=sys.stderr)
                return 1
    print(table(rows))
    return int(any(row.same < row.ended or row.alive for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
