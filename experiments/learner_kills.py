"""Kills one of two learners at random moments; the run must end with the parameters of a calm one.

python experiments/learner_kills.py --kills 20 --out experiments/results/learner_kills
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


def train(out: Path, kills: int, seed: int) -> dict[str, object]:
    """Trains into a directory; one learner is killed while fewer than `kills` were."""
    command = [sys.executable, "-m", "parl.cli", *RUN.split(), "--out", str(out)]
    process, killed, draw = subprocess.Popen(command), 0, random.Random(seed)
    while process.poll() is None:
        time.sleep(draw.uniform(5.0, 25.0))
        learners = ranks(process.pid)
        if killed < kills and len(learners) == 2:
            draw.choice(learners).kill()
            killed += 1
    result = json.loads((out / "result.json").read_text())
    last = (out / "metrics.jsonl").read_text().splitlines()[-1]
    return {
        "code": process.returncode,
        "kills": killed,
        "restarts": json.loads(last)["learner_restarts"],
        "params_sha256": result["params_sha256"],
        "wall_s": result["wall_s"],
    }


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
    calm = train(given.out / "calm", 0, given.seed)
    killed = train(given.out / "killed", given.kills, given.seed)
    same = calm["params_sha256"] == killed["params_sha256"]
    print(json.dumps({"calm": calm, "killed": killed, "same": same}, indent=1))
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
