"""The soak: what a rollout pool survives, with faults injected all the time.

    python experiments/chaos.py --minutes 60 --faults 1000
    python experiments/chaos.py --minutes 2                  # the small version: 33 faults

Phases, each in a process of its own that is watched from outside: `async` (PPO learns CartPole from
two workers that are killed, hang, raise, are slow and return NaN), `sync` (the same numbers as
without faults), `nodes` (a machine leaves and comes back), `driver` (SIGKILL to the learner).
Prints a Markdown table, writes it and JSON to --out, and exits with 1 where a goal is missed.
"""

import argparse
import hashlib
import json
import sys
import time
from collections import deque
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rollouts import Learning, Line, write
from watch import Watched, psutil, watch

from parl.agents.execution.collector import Fragment
from parl.remote import Restart, RolloutPool, chaos, connect, disconnect

SHARES = {"kill": 0.4, "raise_": 0.3, "nan": 0.15, "slow": 0.1, "hang": 0.05}
WORKERS, ENVS, LENGTH = 2, 8, 64
READY = "the pool runs"


class Pace:
    """Spreads a number of faults evenly over a time, whatever the rate of fragments."""

    def __init__(self, faults: int, seconds: float):
        self.faults, self.end = faults, time.monotonic() + seconds
        self.recent: deque[tuple[float, int]] = deque([(time.monotonic(), 0)], maxlen=20)

    def set(self, source: Any, fragments: int) -> None:
        """Adjusts the rates, once a second or so."""
        now = time.monotonic()
        self.recent.append((now, fragments))
        (since, before), left = self.recent[0], max(self.end - now, 1.0)
        rate = max((fragments - before) / max(now - since, 1e-3), 1.0)
        due = max(self.faults - sum(source.injected.values()), 0)
        share = min(due / left / rate, 0.5)
        source.rates = {kind: part * share for kind, part in SHARES.items()}


def soak(settings: argparse.Namespace) -> dict[str, Any]:
    """Learns while everything fails."""
    connect(num_cpus=2)
    learning, deaths, reports, gaps = Learning("CartPole-v1", ENVS, LENGTH), [], 0, []
    pool = RolloutPool(
        learning.make_worker,
        WORKERS,
        ENVS,
        LENGTH,
        mode="async",
        deadline=settings.deadline,
        spares=settings.spares,
        seed=settings.seed,
        restart=Restart(deaths=20, errors=20),
    )
    declare_dead = pool.supervisor.declare_dead
    pool.supervisor.declare_dead = lambda slot, reason: (
        deaths.append(reason) or declare_dead(slot, reason)
    )
    pool.publish(learning.policy, 0)
    stream = pool.stream()
    for arrival in islice(stream, 5):
        learning.learn(arrival.fragment)
    pace, memory = Pace(settings.faults, 60 * settings.minutes), psutil.Process().memory_info().rss
    last = report = time.monotonic()
    with chaos(**{kind: 1e-9 for kind in SHARES}, seed=settings.seed) as source:
        for arrival in stream:
            now = time.monotonic()
            gaps.append(now - last)
            pool.publish(learning.learn(arrival.fragment), learning.updates)
            if now - report > 1:
                ledger = pool.stats()["ledger"]["fragments"]  # asserts that it adds up
                assert ledger["trained"] == learning.updates, (ledger, learning.updates)
                assert all(np.isfinite(x).all() for x in jax.tree.leaves(learning.policy))
                pace.set(source, ledger["produced"] + ledger["lost"])
                report, reports = now, reports + 1
            if now > pace.end:
                break
            last = time.monotonic()
    stats, grown = pool.stats(), psutil.Process().memory_info().rss - memory
    pool.close()
    disconnect()
    hung = sum(reason.startswith("it gave no sign") for reason in deaths)
    return {
        "faults": dict(source.injected),
        "killed": len(deaths) - hung,
        "hung": hung,
        "reports": reports,
        "longest_gap": max(gaps),
        "gaps": sorted(gaps)[-5:],
        "driver_growth_mb": grown / 2**20,
        "stats": stats,
    }


def digest(pool: RolloutPool, learning: Learning, count: int) -> str:
    """A hash over all numbers of some fragments."""
    seen = hashlib.sha256()
    pool.publish(learning.policy, 0)
    for _ in range(count):
        for fragment in pool.collect():
            assert isinstance(fragment, Fragment)
            for leaf in jax.tree.leaves(fragment):
                seen.update(np.ascontiguousarray(leaf).tobytes())
    return seen.hexdigest()


def same(settings: argparse.Namespace) -> dict[str, Any]:
    """Synchronous fragments with faults, and the same without."""
    connect(num_cpus=2)
    learning, count = Learning("CartPole-v1", ENVS, LENGTH), int(30 * settings.minutes)
    shape = learning.make_worker, WORKERS, ENVS, LENGTH
    calm = digest(RolloutPool(*shape, backend="inline"), learning, count)
    with RolloutPool(*shape, deadline=settings.deadline, spares=settings.spares) as pool:
        with chaos(kill=0.05, hang=0.005, slow=0.01, seed=settings.seed) as source:
            equal = digest(pool, learning, count) == calm
        stats = pool.stats()
    disconnect()
    return {"equal": equal, "faults": dict(source.injected), "stats": stats, "rounds": count}


def nodes(settings: argparse.Namespace) -> dict[str, Any]:
    """A machine with one of two workers leaves and comes back, several times."""
    from ray.cluster_utils import Cluster

    from parl.remote.connect import loopback, quiet

    learning = Learning("CartPole-v1", ENVS, LENGTH)
    with quiet(), loopback(True):
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        machines = [cluster.add_node(num_cpus=1) for _ in range(WORKERS)]
    connect(cluster.address)
    pool = RolloutPool(
        learning.make_worker, WORKERS, ENVS, LENGTH, mode="async", deadline=settings.deadline
    )
    pool.publish(learning.policy, 0)
    stream = pool.stream()

    def until(workers: int) -> float:
        start = time.monotonic()
        for _ in stream:
            if pool.stats()["workers"] == workers:
                return time.monotonic() - start
        raise AssertionError

    until(WORKERS)
    rounds, away, back = max(int(settings.minutes / 6), 1), [], []
    for _ in range(rounds):
        with quiet(), loopback(True):
            cluster.remove_node(machines.pop(), allow_graceful=False)
        away.append(until(WORKERS - 1))
        before = pool.stats()["ledger"]["fragments"]["trained"]
        list(islice(stream, 50))
        assert pool.stats()["ledger"]["fragments"]["trained"] == before + 50
        with quiet(), loopback(True):
            machines.append(cluster.add_node(num_cpus=1))
        back.append(until(WORKERS))
    stats = pool.stats()
    pool.close()
    disconnect()
    cluster.shutdown()
    return {"rounds": rounds, "noticed_s": away, "back_s": back, "stats": stats}


def driver(settings: argparse.Namespace) -> dict[str, Any]:
    """A pool that works, one worker of it hung, until this process is killed."""
    connect(num_cpus=2)
    learning = Learning("CartPole-v1", ENVS, LENGTH)
    pool = RolloutPool(learning.make_worker, WORKERS, ENVS, LENGTH, mode="async", spares=1)
    pool.publish(learning.policy, 0)
    stream = pool.stream()
    list(islice(stream, 20))
    with chaos(hang=1.0):
        next(stream)
    print(READY, flush=True)
    for _ in stream:
        pass
    raise AssertionError


def soak_lines(seen: Watched, settings: argparse.Namespace) -> list[Line]:
    """The report of the phase `async`."""
    found = seen.result
    stats, ledger = found["stats"], found["stats"]["ledger"]["fragments"]
    faults, kills = settings.faults, settings.faults // 5
    drawn, patience = sum(found["faults"].values()), settings.deadline + 5
    return [
        Line("async: faults drawn", drawn, f">= {faults}", drawn >= faults),
        *(Line(f"async: of them {kind}", count) for kind, count in sorted(found["faults"].items())),
        Line("async: workers that died of SIGKILL", found["killed"], f">= {kills}",
             found["killed"] >= kills),
        Line("async: workers that hung and were replaced", found["hung"]),
        Line("async: environments rebuilt in place", stats["rebuilds"]),
        Line("async: workers given up", len(stats["given_up"]), "0", not stats["given_up"]),
        Line("async: fragments learned from", ledger["trained"]),
        Line("async: fragments lost", ledger["lost"], f"<= {2 * drawn}",
             ledger["lost"] <= 2 * drawn),
        Line("async: reports with an exact ledger and finite parameters", found["reports"]),
        Line("async: longest wait for a fragment, s", found["longest_gap"],
             f"<= {patience:.0f} (deadline + 5)", found["longest_gap"] <= patience),
        Line("async: death to the first new fragment, p50, s", stats["recovery_seconds_p50"]),
        Line("async: death to the first new fragment, p95, s", stats["recovery_seconds_p95"],
             "<= 5", stats["recovery_seconds_p95"] <= 5),
        Line("async: policy lag p50, p99", f"{stats['lag_p50']:.0f}, {stats['lag_p99']:.0f}"),
        Line("async: growth of the learner's memory, MB", found["driver_growth_mb"]),
    ]  # fmt: skip


def same_lines(seen: Watched, settings: argparse.Namespace) -> list[Line]:
    """The report of the phase `sync`."""
    found = seen.result
    return [
        Line("sync: rounds", found["rounds"]),
        Line("sync: deaths", found["stats"]["deaths"]),
        Line("sync: deaths too many in a row, after which seeds are fresh",
             found["stats"]["recovered_inexact"]),
        Line("sync: numbers equal to those without faults", found["equal"], "True", found["equal"]),
    ]  # fmt: skip


def node_lines(seen: Watched, settings: argparse.Namespace) -> list[Line]:
    """The report of the phase `nodes`."""
    found = seen.result
    given_up = len(found["stats"]["given_up"])
    return [
        Line("nodes: times a machine left and came back", found["rounds"]),
        Line("nodes: until its worker counted as lost, s", max(found["noticed_s"])),
        Line("nodes: from its return to all workers at work, s", max(found["back_s"])),
        Line("nodes: workers given up", given_up, "0", given_up == 0),
    ]


PHASES = {
    "async": (soak, soak_lines),
    "sync": (same, same_lines),
    "nodes": (nodes, node_lines),
    "driver": (driver, lambda seen, settings: []),
}


def remains(name: str, seen: Watched) -> list[Line]:
    """What every phase is asked for."""
    alive, files = len(seen.left), len(seen.shared)
    for process in seen.left:
        print(f"{name}: left behind: {process}", file=sys.stderr)
    return [
        Line(f"{name}: crashes", int(seen.crashed), "0", not seen.crashed),
        Line(f"{name}: processes alive 30 s after its end, of {seen.processes}", alive, "0",
             alive == 0),
        Line(f"{name}: of Ray's agents alive then", seen.agents),
        Line(f"{name}: until all were gone, s", seen.gone_s),
        Line(f"{name}: files left in /dev/shm", files, "0", files == 0),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=2.0, help="of the phase async")
    parser.add_argument("--faults", type=int, help="to draw in it; 1000 in 60 minutes")
    parser.add_argument("--deadline", type=float, default=5.0, help="seconds for a fragment")
    parser.add_argument("--spares", type=int, default=2, help="processes started in advance")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=PHASES, default=list(PHASES))
    parser.add_argument("--out", type=Path, help="for OUT.md and OUT.json")
    parser.add_argument("--phase", choices=PHASES, help=argparse.SUPPRESS)
    settings = parser.parse_args()
    settings.faults = settings.faults or int(1000 * settings.minutes / 60)
    if settings.phase:
        print(json.dumps(PHASES[settings.phase][0](settings)))
        return
    lines, start = [], time.monotonic()
    for name in settings.only:
        command = [sys.executable, __file__, *sys.argv[1:], "--phase", name]
        seen = watch(command, READY if name == "driver" else None)
        if seen.result:
            lines += PHASES[name][1](seen, settings)
        lines += remains(name, seen)
        print(f"{name}: done after {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    sys.exit(not write(lines, settings))


if __name__ == "__main__":
    main()
