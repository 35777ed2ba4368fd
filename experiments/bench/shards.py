"""Batches per second out of a replay in shards, by how many are drawn in one call.

    python experiments/bench/shards.py                 # uniform draws
    python experiments/bench/shards.py --prioritized   # by priority, which return after every call

Two Ray actors hold 200,000 steps of 43 numbers, those of HalfCheetah. A reader draws batches of 256
from both, as a learner does: the next ones are asked for while it has these. CPU time is of one
batch. `in process` is the same replay in the reader's memory. The last line is a JSON object.
"""

import argparse
import json
import os
import time
from functools import partial
from typing import Any

import jax
import numpy as np
import psutil
import ray

from parl.agents.execution.sharded import ShardedLearner
from parl.agents.learner import OffPolicy
from parl.agents.replay.ring import Replay
from parl.agents.replay.sampling import Prioritized
from parl.agents.replay.shard import Shard
from parl.core.algorithm import Algorithm
from parl.core.memory import keep_freed_memory
from parl.core.types import Rollout, Step
from parl.remote import connect, disconnect
from parl.remote.process import Stored
from parl.remote.shard_host import OnRay
from parl.remote.shards import Shards
from parl.remote.supervisor import Terms

LENGTH, ENVS = 100, 10  # of a rollout
CAPACITY = 200_000
BATCH = 256
CALLS = (1, 8, 32)  # batches in one call


def rollout(seed: int) -> Rollout:
    """Random steps of HalfCheetah's shapes."""
    random = np.random.default_rng(seed)
    draw = lambda *size: random.standard_normal((LENGTH, ENVS, *size), np.float32)
    flags = np.zeros((LENGTH, ENVS), bool)
    return Rollout(
        Step(draw(17), draw(6), draw(), np.ones_like(draw()), draw(17), flags, flags, {}), ()
    )


def learner_of(prioritized: bool, shards: int) -> ShardedLearner:
    """What a shard draws with."""
    replay: Any = Prioritized(Replay(CAPACITY)) if prioritized else Replay(CAPACITY)
    return ShardedLearner.of(OffPolicy(Algorithm(), replay), shards)


def make_shard(learner: ShardedLearner, number: int) -> Shard:
    """A shard, in its process."""
    return Shard(learner, rollout(0), number)


def read(shards: Shards, updates: int, seconds: float) -> int:
    """Draws for so long; returns the number of batches."""
    end, batches = time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        drawn = shards.draw(updates, BATCH)
        assert drawn is not None
        sample, items = drawn
        shards.learned(sample, np.abs(items.reward))
        batches += updates
    return batches


def cpu(pids: list[int]) -> float:
    """CPU seconds of processes so far."""
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)


def measured(shards: Any, updates: int, seconds: float, repeats: int) -> dict[str, float]:
    """Batches per second, the best of some, and CPU milliseconds of a batch."""
    places: list[Any] = ray.get([part.process.started for part in shards.parts])
    pids = [place.pid for place in places]
    shards.asked = None  # those that were asked for are of another size
    for _ in range(4):
        read(shards, updates, 0.5)
    rates, before, own, count = [], cpu(pids), time.process_time(), 0
    for _ in range(repeats):
        begin = time.perf_counter()
        batches = read(shards, updates, seconds)
        rates.append(batches / (time.perf_counter() - begin))
        count += batches
    reader, there = time.process_time() - own, cpu(pids) - before
    return {
        "updates": updates,
        "batches_per_s": round(max(rates), 1),
        "reader_cpu_ms": round(1e3 * reader / count, 3),
        "shards_cpu_ms": round(1e3 * there / count, 3),
    }


def in_process(prioritized: bool, updates: int) -> float:
    """CPU milliseconds of a batch from one replay in this process."""
    shard = make_shard(learner_of(prioritized, 1), 0)
    for seed in range(CAPACITY // (LENGTH * ENVS)):
        shard.add(rollout(seed % 8), 1.0)
    draw = lambda: shard.replay.draw(shard.state, jax.random.key(0), (updates, BATCH))
    draw()
    begin = time.process_time()
    for _ in range(20):
        draw()
    return round(1e3 * (time.process_time() - begin) / 20 / updates, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--prioritized", action="store_true")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--repeats", type=int, default=5)
    told = parser.parse_args()
    os.environ.setdefault("RAY_worker_niceness", "0")
    keep_freed_memory()  # as runs with shards do
    alone = in_process(told.prioritized, CALLS[-1])
    connect(num_cpus=2)
    learner = learner_of(told.prioritized, told.shards)
    steps, capacity = learner.room(rollout(0))
    make = OnRay(partial(make_shard, learner))
    shards = Shards(make, told.shards, learner.replay, steps, capacity, 0, Terms())
    shards.ready()
    kept = [Stored(ray.put(rollout(seed)), 0) for seed in range(8)]
    begin = time.perf_counter()
    for add in range(CAPACITY // steps):
        shards.add(kept[add % len(kept)])
    shards.settle()
    added = CAPACITY / (time.perf_counter() - begin)
    rows = [measured(shards, updates, told.seconds, told.repeats) for updates in CALLS]
    print("updates/call  batches/s  reader CPU ms  shards CPU ms")
    for row in rows:
        print("{:12d}  {:9.0f}  {:13.3f}  {:13.3f}".format(*row.values()))
    print(f"in process: {alone} CPU ms a batch; {added:,.0f} steps/s added")
    found = {"prioritized": told.prioritized, "shards": told.shards, "rows": rows}
    print(json.dumps(found | {"in_process_cpu_ms": alone, "steps_added_per_s": round(added)}))
    shards.close()
    disconnect()


if __name__ == "__main__":
    main()
