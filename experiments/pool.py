"""What the rollout pool costs, beside what its workers alone could do.

    python experiments/pool.py                       # all, some minutes on an idle machine
    python experiments/pool.py --only lag --seconds 5

`dead`: throughput with 1 of n workers dead, as a share of (n - 1) / n. `overhead`: what a fragment
of 20 ms costs beyond its 20 ms, by environment step. `bare`: CartPole in Ray workers beside the
same loop in processes of nothing else, each pinned to a core, with short fragments and with some
of 100 ms. `lag`: versions between acting and learning.
All but `bare` and `lag` sleep in place of an environment, so that cores do not matter.
Prints a Markdown table, writes it and JSON to --out, and exits with 1 where a goal is missed.
"""

import argparse
import multiprocessing
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import ray
from rollouts import Learning, Line, make_sleeper, write

from parl.remote import Restart, RolloutPool, connect, disconnect

NAP, LENGTH, ENVS = 0.02, 128, 8  # 1,024 environment steps in 20 ms
LONG = 4 * LENGTH  # about 100 ms of CartPole


def sleepers(num_workers: int, **settings: Any) -> RolloutPool:
    """An asynchronous pool whose workers sleep."""
    make = partial(make_sleeper, ENVS, NAP)
    pool = RolloutPool(make, num_workers, ENVS, LENGTH, mode="async", **settings)
    pool.publish({}, 0)
    return pool


def count(stream: Iterator[Any], seconds: float) -> tuple[int, float]:
    """(fragments, seconds) of taking what comes for some time."""
    start, taken = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        next(stream)
        taken += 1
    return taken, time.perf_counter() - start


def all_warm(pool: RolloutPool, stream: Iterator[Any]) -> None:
    """Takes fragments until all workers have brought some."""
    while pool.stats()["workers"] < pool.num_workers:
        next(stream)
    list(islice(stream, 10 * pool.num_workers))


def dead(seconds: float) -> list[Line]:
    """Throughput with one worker dead for good."""
    lines = []
    for n in (2, 4):
        with sleepers(n, restart=Restart(deaths=0)) as pool:
            stream = pool.stream()
            all_warm(pool, stream)
            taken, spent = count(stream, seconds)
            os.kill(ray.get(pool.supervisor.slots[0].process.started)[1], signal.SIGKILL)
            while not pool.stats()["given_up"]:
                next(stream)
            left, while_dead = count(stream, seconds)
        share = (left / while_dead) / (taken / spent) / ((n - 1) / n)
        lines.append(Line(f"1 of {n} dead: throughput / ((n - 1) / n)", share, ">= 0.95",
                          share >= 0.95))  # fmt: skip
    return lines


def overhead(seconds: float) -> list[Line]:
    """What a fragment costs beyond its 20 ms."""
    naps = []
    for _ in range(50):
        start = time.perf_counter()
        time.sleep(NAP)
        naps.append(time.perf_counter() - start)
    with sleepers(1) as pool:
        stream = pool.stream()
        all_warm(pool, stream)
        cpu = time.process_time()
        taken, spent = count(stream, seconds)
        cpu = time.process_time() - cpu
    steps = taken * LENGTH * ENVS
    wall = 1e6 * (spent - taken * statistics.median(naps)) / steps
    driver = 1e6 * cpu / steps
    return [
        Line("overhead: wall time of a worker beyond its sleep, us/step", wall, "<= 2", wall <= 2),
        Line("overhead: the driver's CPU time, us/step", driver, "<= 2", driver <= 2),
        Line("overhead: the driver's CPU time, us/fragment", 1e6 * cpu / taken),
    ]


Work = Callable[[], Any]


def collecting(id: str, length: int, algorithm: str, core: int) -> Work:
    """Collects a fragment at each call, as a worker of the pool does."""
    jax.config.update("jax_cpu_enable_async_dispatch", False)  # as in the pool's workers
    learning = Learning(id, ENVS, length, algorithm)
    return partial(learning.make_worker(core).collect, learning.policy, length)


def bare_loop(core: int, make: Callable[[int], Work], seconds: float, result: Any) -> None:
    """Works in a process of its own; sends (pieces of work, seconds)."""
    os.sched_setaffinity(0, {core})
    work = make(core)
    work()
    result.send("ready")
    result.recv()
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        work()
        done += 1
    result.send((done, time.perf_counter() - start))


def bare_rate(cores: list[int], make: Callable[[int], Work], seconds: float) -> float:
    """Pieces of work per second of bare pinned processes, one a core; each makes its own."""
    context = multiprocessing.get_context("spawn")
    limits = {"JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1", "PJRT_NPROC": "1"}
    before = {name: os.environ.get(name) for name in limits}
    os.environ.update(limits)
    processes, ends = [], []
    for core in cores:
        ours, theirs = context.Pipe()
        processes.append(context.Process(target=bare_loop, args=(core, make, seconds, theirs)))
        processes[-1].start()
        ends.append(ours)
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})
    for end in ends:
        assert end.recv() == "ready"
    for end in ends:
        end.send("go")
    rate = sum(done / spent for done, spent in (end.recv() for end in ends))
    for process in processes:
        process.join()
    return rate


def pooled_rate(learning: Learning, length: int, num_workers: int, seconds: float) -> float:
    """Fragments per second of Ray workers, with a driver that only takes them."""
    shape = learning.make_worker, num_workers, ENVS, length
    with RolloutPool(*shape, mode="async") as pool:
        pool.publish(learning.policy, 0)
        stream = pool.stream()
        all_warm(pool, stream)
        taken, spent = count(stream, seconds)
    return taken / spent


def bare(seconds: float) -> list[Line]:
    """CartPole in Ray workers and in bare processes, in turn."""
    return [line for length in (LENGTH, LONG) for line in bare_at(length, seconds)]


def bare_at(length: int, seconds: float) -> list[Line]:
    """The same with fragments of `length` steps of each environment."""
    cores = sorted(os.sched_getaffinity(0))
    learning, ratios, rates = Learning("CartPole-v1", ENVS, length), [], []
    for _ in range(3):
        pooled = pooled_rate(learning, length, len(cores), seconds)
        other = bare_rate(cores, partial(collecting, "CartPole-v1", length, "ppo"), seconds)
        ratios.append(pooled / other)
        rates.append((pooled * length * ENVS, other * length * ENVS))
    ratio = statistics.median(ratios)
    ours, theirs = (statistics.median(column) for column in zip(*rates, strict=True))
    spread, name = f"{ratio:.2f} ({min(ratios):.2f}-{max(ratios):.2f})", f"{length} x {ENVS} steps"
    return [
        Line(f"CartPole, {len(cores)} Ray workers, fragments of {name}, steps/s", ours),
        Line("the same loop in bare pinned processes, steps/s", theirs),
        Line(f"Ray : bare, fragments of {name}", spread, ">= 0.9", ratio >= 0.9),
    ]


def lag(seconds: float) -> list[Line]:
    """Versions between acting and learning, with a learner that learns from every fragment."""
    learning, lines = Learning("CartPole-v1", ENVS, LENGTH), []
    for ahead in (1, 2):
        shape = learning.make_worker, 2, ENVS, LENGTH
        with RolloutPool(*shape, mode="async", max_in_flight=ahead) as pool:
            pool.publish(learning.policy, learning.updates)
            stream = pool.stream()
            all_warm(pool, stream)
            pool.supervisor.gauge.lags.clear()
            start, learned = time.perf_counter(), learning.updates
            for arrival in stream:
                pool.publish(learning.learn(arrival.fragment), learning.updates)
                if time.perf_counter() - start > seconds:
                    break
            stats, spent = pool.stats(), time.perf_counter() - start
        p50, p99 = stats["lag_p50"], stats["lag_p99"]
        name = f"2 workers, {ahead} in flight"
        lines += [
            Line(f"{name}: policy lag p50", p50, "<= 1", p50 <= 1),
            Line(f"{name}: policy lag p99", p99, "<= 2", p99 <= 2),
            Line(f"{name}: updates/s", (learning.updates - learned) / spent),
        ]
    return lines


PARTS = {"dead": dead, "overhead": overhead, "bare": bare, "lag": lag}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, help="for OUT.md and OUT.json")
    settings = parser.parse_args()
    connect(num_cpus=2)
    lines = []
    for name in settings.only:
        lines += PARTS[name](settings.seconds)
        print(f"{name}: done", file=sys.stderr, flush=True)
    disconnect()
    sys.exit(not write(lines, settings))


if __name__ == "__main__":
    main()
