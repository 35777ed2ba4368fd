"""What a run on several hosts survives: links that are cut, slow and lossy; a machine that dies.

    python experiments/links.py                       # all phases, about ten minutes
    python experiments/links.py --phases cut-5 head   # some of them

Each phase has hosts of its own (experiments/hosts.py), one with the head and the learner, the
others with a rollout actor each. Phases: `module`, an environment that only the first host has;
`cut-5`, `cut-60` and `cut-dead`, a link cut for so many seconds, and until the health check has
long given up; `slow`, each packet 50 ms on its way and 1 % lost; `head`, the machine with the
head dies. Prints a Markdown table and exits with 1 where a goal is missed.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from hosts import Hosts, possible, wait_for

PORT = 6379
BAD = 0.05, 0.01  # seconds on the way, and the share of packets that is lost
START = 400.0  # seconds that all may take to come up on a machine that is busy
TRAIN = [
    *("--env", "jax:CartPole-v1", "--num-envs", "8", "--length", "32", "--hidden", "16"),
    *("--eval-episodes", "0", "--seed", "0"),
]


class Cluster:
    """A cluster over hosts with a run on it."""

    def __init__(self, hosts: Hosts, out: Path, actors: int | None, steps: int = 2_000_000):
        self.hosts, self.out, self.head = hosts, out, f"{hosts.address(0)}:{PORT}"
        # the head offers no CPU, so that each actor is on a host of its own, behind a link
        words = ["cluster", "start", "--host", hosts.address(0), "--num-cpus", "0"]
        if wait_for(lambda: self.start(0, *words, log="start.log").wait(120) == 0, 200) is None:
            raise RuntimeError(f"no cluster: {hosts.said(0, 'start.log')}")
        for host in range(1, hosts.count):
            self.join(host)
        if actors is None:
            return
        run = ["impala", *TRAIN, "--actors", str(actors), "--address", self.head]
        run += ["--out", str(out), "--steps", str(steps)]
        self.train = self.start(0, "train", *run, log="train.log")

    def start(self, host: int, *words: str, log: str) -> Any:
        """A command of parl on a host."""
        return self.hosts.start(host, sys.executable, "-m", "parl.cli", *words, log=log)

    def parl(self, host: int, *words: str) -> str:
        """What a command of parl on a host prints."""
        return self.hosts.run(host, sys.executable, "-m", "parl.cli", *words)

    def join(self, host: int) -> None:
        """Makes a host a node that is kept."""
        words = ["cluster", "join", self.head, "--num-cpus", "1", "--keep"]
        self.start(host, *words, log="join.log")
        wait_for(lambda: "runs here" in self.hosts.said(host, "join.log"), 120)

    def records(self) -> list[dict[str, Any]]:
        """The lines of metrics so far."""
        path = self.out / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def workers(self) -> float:
        """The actors that bring fragments, by the last line."""
        lines = self.records()
        return lines[-1]["pool/workers"] if lines else 0

    def trains(self, seconds: float = 10.0) -> bool:
        """Whether the run gets on."""
        before = len(self.records())
        return wait_for(lambda: len(self.records()) > before, seconds) is not None

    def finish(self) -> dict[str, Any]:
        """Has the run save and end; what came of it."""
        self.train.terminate()
        code, lines = self.train.wait(60), self.records()
        last = lines[-1]
        held = sum(
            last[f"pool/{name}"] for name in ("dropped_stale", "dropped_overflow", "in_queue")
        )
        return {
            "exit": code,
            "exact": last["pool/produced"] == last["pool/trained"] + held
            and last["pool/trained"] >= last["env_steps"] > 0,
            "deaths": last["pool/deaths"],
            "lost": last["pool/lost"],
            "lag_p50": last["pool/lag_p50"],
            "lag_p99": last["pool/lag_p99"],
            "steps": last["env_steps"],
        }


def cut(hosts: Hosts, out: Path, seconds: float) -> dict[str, Any]:
    """A link is cut for `seconds`, and healed."""
    cluster = Cluster(hosts, out, hosts.count - 1, 2_000_000 + 20_000 * round(seconds))
    up = wait_for(lambda: cluster.workers() == hosts.count - 1, START)
    assert up is not None, hosts.said(0, "train.log")
    hosts.cut(1)
    end = time.monotonic() + seconds
    wait_for(lambda: time.monotonic() > end, seconds + 1)
    went_on = hosts.count < 3 or cluster.trains()
    hosts.heal(1)
    healed, began = time.monotonic(), len(cluster.records())
    all_back = lambda: len(cluster.records()) > began and cluster.workers() == hosts.count - 1
    nodes = lambda: hosts.said(1, "join.log").count("runs here")
    wait_for(lambda: nodes() > 1 or all_back(), 300)  # of which the node's start takes so long
    node = time.monotonic() - healed
    wait_for(all_back, 300)  # a busy machine starts slowly
    back, load = time.monotonic() - healed, os.getloadavg()[0]
    time.sleep(5)
    done = cluster.finish()
    good = done["exit"] == 143 and done["exact"] and went_on and back <= 30
    times = {"node_s": round(node, 1), "back_s": round(back, 1), "load": round(load, 1)}
    return done | times | {"good": good}


def slow(hosts: Hosts, out: Path) -> dict[str, Any]:
    """All links are slow and lose packets."""
    cluster = Cluster(hosts, out, hosts.count - 1)
    up = wait_for(lambda: cluster.workers() == hosts.count - 1, START)
    assert up is not None, hosts.said(0, "train.log")
    time.sleep(30)
    done = cluster.finish()
    return done | {"good": done["exit"] == 143 and done["exact"] and done["deaths"] == 0}


def head(hosts: Hosts, out: Path) -> dict[str, Any]:
    """The machine with the head and the learner dies; the run goes on elsewhere."""
    cluster = Cluster(hosts, out, hosts.count - 1)
    up = wait_for(lambda: cluster.workers() == hosts.count - 1, START)
    assert up is not None, hosts.said(0, "train.log")
    time.sleep(5)
    hosts.die(0)
    others = range(1, hosts.count)
    keepers = hosts.count - 1  # what stays: it waits for the head to come back
    left = lambda: sum(len(hosts.pids(host)) for host in others)
    gone = wait_for(lambda: left() <= keepers, 120)
    steps = 20_000 + cluster.records()[-1]["env_steps"]
    cluster.parl(1, "resume", str(out), "--address", "local", "--steps", str(steps))
    reached = json.loads((out / "result.json").read_text())["env_steps"]
    good = gone is not None and gone <= 60 and reached >= steps
    return {"gone_s": gone and round(gone, 1), "steps": reached, "good": good}


MODULE = """
import os

from parl.envs.classic.cartpole import CartPole

class Own(CartPole):
    def __init__(self):
        super().__init__()
        if "LAB" in os.environ:
            print("made with", os.environ["LAB"], "in", os.getcwd())
"""


def module(hosts: Hosts, out: Path) -> dict[str, Any]:
    """An environment's module is on the first machine only, and goes along to the other."""
    lab = hosts.place / "lab"
    lab.mkdir()
    (lab / "lab.py").write_text(MODULE)
    hosts.hidden = lab
    cluster = Cluster(hosts, out, None)
    run = ["ppo", *TRAIN, "--env", "lab:Own", "--actors", "1", "--address", cluster.head]
    run += ["--steps", "2560", "--quiet"]
    without = cluster.start(0, "train", *run, "--out", str(out), log="without.log").wait(300)
    said = hosts.said(0, "without.log")
    words = ["--worker-files", "lab.py", "--worker-env", "LAB=here", "--out", f"{out}-2"]
    cluster.parl(0, "train", *run, *words)
    lines = hosts.said(0, "log")
    good = without != 0 and "lab" in said and "[worker 0] made with here in " in lines
    return {"without": without, "good": good and str(lab) not in lines}


PHASES = {
    "module": (2, module),
    "cut-5": (3, lambda hosts, out: cut(hosts, out, 5)),
    "cut-60": (3, lambda hosts, out: cut(hosts, out, 60)),
    "cut-dead": (3, lambda hosts, out: cut(hosts, out, 120)),
    "slow": (2, slow),
    "head": (2, head),
}


def play(name: str) -> dict[str, Any]:
    """What came of one phase."""
    count, phase = PHASES[name]
    bad = BAD if name == "slow" else ()
    with Hosts(count, *bad) as hosts, tempfile.TemporaryDirectory() as out:
        try:
            return phase(hosts, Path(out) / "run")
        except Exception:
            for log in sorted(hosts.place.glob("*/*log")):
                print(f"--- {log}", log.read_text()[-2000:], sep="\n", file=sys.stderr)
            raise


def main() -> int:
    """Plays the phases and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=list(PHASES))
    phases = parser.parse_args().phases
    if why := possible():
        print(f"no hosts can be made here: {why}.", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # hosts go with their contexts
    found = {name: play(name) for name in phases}
    columns = dict.fromkeys(key for done in found.values() for key in done)
    print(f"| phase | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|", sep="\n")
    for name, done in found.items():
        print(f"| {name} | {' | '.join(str(done.get(key, '')) for key in columns)} |")
    return int(not all(done["good"] for done in found.values()))


if __name__ == "__main__":
    sys.exit(main())
