"""A model of the rollout pool: from one real worker to a thousand that are not there.

    python experiments/scaling.py                    # measures, checks, predicts, draws

A discrete-event model: every worker makes a fragment in `fragment` seconds and may have two asked
for; one supervisor takes them in, in `take` seconds each, after it has looked at all n workers, in
`look` seconds each; then the learner learns for `learn` seconds. All are measured with one
worker that sleeps. The model is checked against 1, 2, 4 and 8 real workers that sleep (goal: within
10 %), then asked about more. What it leaves out: the network, and the size of fragments.
"""

import argparse
import dataclasses
import heapq
import random
import statistics
import sys
import time
from collections import deque
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import jax
import ray
from pool import all_warm, count
from rollouts import Learning, Line, make_sleeper, write

from parl.remote import RolloutPool, connect, disconnect
from parl.remote.asynchronous import WORKERS_PER_EXTRA_FRAGMENT
from parl.remote.supervisor import Slot
from parl.remote.worker import Collect

LENGTH, ENVS, AHEAD = 128, 8, 2
STEPS = LENGTH * ENVS  # of a fragment
WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
CHECKED = (1, 2, 4, 8)


class Costs(NamedTuple):
    """The parameters of the model, in seconds."""

    fragment: float  # a worker's, from one fragment to the next
    take: float  # the supervisor's for every fragment that it takes in
    look: float  # the supervisor's for every worker, whenever it looks what is there
    learn: float  # the learner's for every fragment
    jitter: float  # the standard deviation of `fragment`


def simulate(costs: Costs, workers: int, fragments: int = 20_000) -> float:
    """Fragments per second of the modelled pool, over the second half of a run."""
    batch = (
        workers // WORKERS_PER_EXTRA_FRAGMENT + 1
    )  # fragments handed out at most between two looks
    draw = random.Random(0)
    duration = lambda: max(draw.gauss(costs.fragment, costs.jitter), 0.1 * costs.fragment)
    finishing = [(costs.fragment * (1 + i / workers), i) for i in range(workers)]
    heapq.heapify(finishing)  # (when, which worker): fragments under way
    asked = [AHEAD - 1] * workers  # fragments asked for and not begun
    free_since = [-1.0] * workers  # when a worker that waits for a request fell idle; else -1
    waiting: list[int] = []  # workers of the fragments that lie ready
    now, taken, middle = 0.0, 0, 0.0
    while taken < fragments:
        if not waiting and finishing[0][0] > now:
            now = finishing[0][0]  # it sleeps until something is there
        now += costs.look * workers
        while finishing and finishing[0][0] <= now:
            when, worker = heapq.heappop(finishing)
            waiting.append(worker)
            now += costs.take
            if asked[worker]:
                asked[worker] -= 1
                heapq.heappush(finishing, (when + duration(), worker))
            else:
                free_since[worker] = when
        for worker in waiting[:batch]:
            now += costs.learn
            if free_since[worker] >= 0:
                free_since[worker] = -1.0
                heapq.heappush(finishing, (now + duration(), worker))
            else:
                asked[worker] += 1
            taken += 1
            middle = now if taken == fragments // 2 else middle
        del waiting[:batch]
    return (taken - fragments // 2) / (now - middle)


def sleepers(workers: int, nap: float) -> RolloutPool:
    """An asynchronous pool whose workers sleep, at work."""
    make = partial(make_sleeper, ENVS, nap)
    pool = RolloutPool(make, workers, ENVS, LENGTH, mode="async", max_in_flight=AHEAD)
    pool.publish({}, 0)
    return pool


def measure(nap: float, seconds: float) -> Costs:
    """The model's parameters, from one worker."""
    wait, asleep = ray.wait, 0.0

    def watched(*args: Any, **kwargs: Any) -> Any:
        """ray.wait, with an eye on the time spent waiting for something to happen."""
        nonlocal asleep
        start = time.perf_counter()
        answer = wait(*args, **kwargs)
        asleep += (time.perf_counter() - start) * bool(kwargs["timeout"])
        return answer

    with sleepers(1, nap) as pool:
        stream = pool.stream()
        all_warm(pool, stream)
        ray.wait, asleep = watched, 0.0
        taken, spent = count(stream, seconds)
        ray.wait = wait
        ends = [time.perf_counter() for _ in islice(stream, int(seconds / nap))]
    gaps = [b - a for a, b in pairwise(ends)]
    look = look_cost()
    take = (spent - asleep) / taken - look
    return Costs(spent / taken, take, look, learn_cost(), statistics.pstdev(gaps))


def look_cost(workers: int = 500) -> float:
    """Seconds for every worker of one look at all, while none has anything to say.

    The workers are one, asleep for an hour, in as many slots, with a request of each.
    """
    with sleepers(1, 3600.0) as pool:
        supervisor, loop = pool.supervisor, pool.asynchronous
        assert loop is not None
        (slot,) = supervisor.slots
        ray.get(slot.process.started)  # type: ignore[union-attr]
        request = Collect(LENGTH, False, pool.weights)
        slots = [dataclasses.replace(slot, index=i, pending=deque()) for i in range(workers)]
        for each in slots:
            for _ in range(AHEAD):
                supervisor.submit(each, request)

        def look(slots: list[Slot]) -> float:
            supervisor.slots, start = slots, time.perf_counter()
            for each in slots:
                loop.top_up(each, 0, pool.weights, LENGTH, False)
            supervisor.events(0.0)
            loop.check_workers()
            return time.perf_counter() - start

        all, one = (statistics.median(look(some) for _ in range(9)) for some in (slots, slots[:1]))
        supervisor.slots = [slot]
    return (all - one) / (workers - 1)


def learn_cost(rounds: int = 50) -> float:
    """Seconds to learn from a fragment of CartPole."""
    learning = Learning("CartPole-v1", ENVS, LENGTH)
    fragment, start = learning.make_worker(0).collect(learning.policy, LENGTH), 0.0
    for i in range(-3, rounds):
        start = time.perf_counter() if i == 0 else start
        learning.learn(fragment)
        jax.block_until_ready(learning.policy)
    return (time.perf_counter() - start) / rounds


def check(costs: Costs, nap: float, seconds: float) -> list[Line]:
    """The model beside real workers; nobody learns."""
    lines = []
    for n in CHECKED:
        with sleepers(n, nap) as pool:
            stream = pool.stream()
            all_warm(pool, stream)
            taken, spent = count(stream, seconds)
        real, modelled = taken / spent, simulate(costs._replace(learn=0.0), n)
        lines.append(Line(f"{n} workers: real, fragments/s", real))
        lines.append(Line(f"{n} workers: model : real", modelled / real, "0.9 to 1.1",
                          0.9 <= modelled / real <= 1.1))  # fmt: skip
    return lines


def predict(costs: Costs) -> tuple[dict[str, list[float]], list[Line]]:
    """Environment steps per second for numbers of workers, and where the supervisor is full."""
    curves, lines = {}, []
    for name, learn in (("pool alone", 0.0), ("pool and PPO", costs.learn)):
        for nap in (costs.fragment, 0.2):
            # a longer fragment has more steps: the environment is the same
            longer = nap / costs.fragment
            durations = {"fragment": nap, "jitter": costs.jitter * longer}
            asked, steps = costs._replace(learn=learn * longer, **durations), STEPS * longer
            label = f"{name}, fragments of {1000 * nap:.0f} ms"
            rates = [simulate(asked, n) for n in WORKERS]
            curves[label] = [rate * steps for rate in rates]
            shares = [rate * nap / n for rate, n in zip(rates, WORKERS, strict=True)]
            full = next((n for n, x in zip(WORKERS, shares, strict=True) if x < 0.9), None)
            lines.append(Line(f"model: {label}: first with workers idle > 10 %", full or "none"))
            best = max(curves[label])
            lines.append(Line(f"model: {label}: most steps/s", best))
    return curves, lines


def draw(curves: dict[str, list[float]], costs: Costs, lines: list[Line], out: Path) -> None:
    """The prediction, and the real workers as points."""
    from matplotlib.figure import Figure

    figure = Figure((7, 4.5), layout="constrained")
    axes = figure.subplots()
    for label, rates in curves.items():
        axes.loglog(WORKERS, rates, label=f"model: {label}")
    real = [line.value * STEPS for line in lines if "real, fragments" in line.name]
    axes.loglog(CHECKED, real, "ko", label="measured: real workers that sleep")
    axes.set(xlabel="rollout workers", ylabel="environment steps per second")
    axes.set_title("Throughput of a rollout pool: a model, not a measurement", fontsize=11)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    figure.savefig(out, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nap", type=float, default=0.05, help="seconds of sleep in a fragment")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "scaling")
    settings = parser.parse_args()
    connect(num_cpus=2)
    costs = measure(settings.nap, settings.seconds)
    lines = [Line(f"one worker: {name}, ms", 1000 * x) for name, x in costs._asdict().items()]
    lines += check(costs, settings.nap, settings.seconds)
    disconnect()
    curves, predicted = predict(costs)
    found = {"workers": WORKERS, "steps_per_second": curves}
    fine = write([*lines, *predicted], settings, **found)
    draw(curves, costs, lines, settings.out.with_suffix(".png"))
    sys.exit(not fine)


if __name__ == "__main__":
    main()
