"""Kills one of two learners at random moments; the run must end with the parameters of a calm one.

    python experiments/learner_kills.py --kills 20 --out learner_kills

Moments are drawn while learners start, learn, evaluate and save. A group that was lost six times
without learning in between ends its run, so at most three kills come between two lines of metrics.
A calm run that is in `--out` already is not repeated.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil

RUN = """train ppo --env CartPole-v1 --num-envs 4 --length 16 --hidden 8 --steps 64000 --quiet
--eval-every 6400 --checkpoint-every 3200 --eval-episodes 1 --actors 2 --learners 2"""
IN_A_ROW = 3  # kills without a line of metrics in between


def train(out: Path, kills: int, seed: int) -> dict[str, object]:
    """Trains into a directory; one learner is killed while fewer than `kills` were."""
    command = [sys.executable, "-m", "parl.cli", *RUN.split(), "--out", str(out)]
    process, killed, draw = subprocess.Popen(command), 0, random.Random(seed)
    seen, row = 0, 0  # lines of metrics at the last kill; kills since the last one
    while process.poll() is None:
        time.sleep(draw.uniform(2.0, 20.0))
        learners, lines = ranks(process.pid), len(records(out))
        row = row if lines == seen else 0
        if killed < kills and row < IN_A_ROW and len(learners) == 2:
            draw.choice(learners).kill()
            killed, row, seen = killed + 1, row + 1, lines
            print(f"kill {killed} after {lines} lines of metrics", flush=True)
    return found(out) | {"code": process.returncode, "kills": killed}


def found(out: Path) -> dict[str, object]:
    """What a run that has ended came to."""
    result = json.loads((out / "result.json").read_text())
    last = json.loads(records(out)[-1])
    names = "params_sha256", "env_steps", "wall_s"
    return {name: result[name] for name in names} | {"restarts": last["learner_restarts"]}


def records(out: Path) -> list[str]:
    """The lines of metrics so far."""
    path = out / "metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def ranks(pid: int) -> list[psutil.Process]:
    """The learners among the descendants of a process."""
    try:
        family = psutil.Process(pid).children(recursive=True)
        return [each for each in family if "::Rank" in "".join(each.cmdline()[:1])]
    except psutil.NoSuchProcess:
        return []


def main() -> int:
    """Trains twice and compares."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("learner_kills"))
    given = parser.parse_args()
    calm = given.out / "calm"
    calm = found(calm) if (calm / "result.json").exists() else train(calm, 0, given.seed)
    killed = train(given.out / "killed", given.kills, given.seed)
    same = calm["params_sha256"] == killed["params_sha256"]
    print(json.dumps({"calm": calm, "killed": killed, "same": same}, indent=1))
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
