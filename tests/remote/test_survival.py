"""Faults in real processes: what dies is replaced, and nothing is left behind."""

import os
import signal
import subprocess
import sys
import time
from itertools import islice
from typing import Any

import numpy as np
import pytest
import ray
from makers import assert_same, build_bad, toy_maker

import parl
from parl.core.errors import EnvError
from parl.remote import RolloutPool, chaos

pytestmark = pytest.mark.usefixtures("cluster")
POLICY = np.float32(0.5)


@pytest.fixture
def make_pool(monkeypatch):
    monkeypatch.setattr("parl.remote.supervisor.STARTUP", 30.0)
    pools = []

    def make(backend: Any = "ray", maker=None, num_workers=2, **settings):
        pool = RolloutPool(maker or toy_maker(), num_workers, 3, 10, backend=backend, **settings)
        pools.append(pool)
        pool.publish(POLICY, 0)
        return pool

    yield make
    for pool in pools:
        pool.close()


def pid(pool, index):
    return ray.get(pool.supervisor.slots[index].process.started)[1]


def collect(pool, count):
    return [pool.collect() for _ in range(count)]


def gone(pid, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
def test_killed_and_hung_workers_leave_no_trace_in_sync_mode(make_pool):
    calm = collect(make_pool("inline"), 5)
    pool = make_pool(deadline=4.0)  # a busy machine answers within it
    first = collect(pool, 1)
    os.kill(pid(pool, 1), signal.SIGKILL)
    second = collect(pool, 1)
    os.kill(pid(pool, 0), signal.SIGSTOP)  # cannot answer anything, not even Ray
    stopped = pid(pool, 0)
    third = collect(pool, 1)
    with chaos(kill=0.3, seed=3) as faults:
        rest = collect(pool, 2)
    assert_same([*first, *second, *third, *rest], calm)
    assert gone(stopped, 30)
    stats = pool.stats()
    assert stats["deaths"] == stats["recovered_exact"] == 2 + faults.injected["kill"]
    assert stats["ledger"]["fragments"]["trained"] == 10
    assert stats["ledger"]["fragments"]["lost"] == 2 + faults.injected["kill"]


def test_errors_of_workers_arrive_as_they_are(make_pool):
    pools = (
        make_pool(maker=build_bad, num_workers=1),
        make_pool(maker=toy_maker(fault="raise"), num_workers=1),
    )
    with pytest.raises(EnvError) as caught:
        pools[0].collect()
    assert str(caught.value) == "unknown environment 'Cartpole'."
    with pytest.raises(EnvError) as caught:
        pools[1].collect()
    assert str(caught.value) == (
        "Toy-v0 raised ZeroDivisionError in step: the simulator divided by zero"
    )


def test_chaos_in_async_mode(make_pool):
    start = time.monotonic()
    pool = make_pool(mode="async", deadline=1.0, spares=1, seed=3)
    before = set(os.listdir("/dev/shm"))
    rates = {"kill": 0.02, "hang": 0.005, "raise_": 0.02, "slow": 0.005, "nan": 0.02}
    arrived, last, gap, end = 0, None, 0.0, start + 240
    started = 0.0  # what this machine takes to start the workers
    meter = pool.supervisor.gauge
    with chaos(**rates, seed=4) as faults:
        for arrival in pool.stream():
            now = time.monotonic()
            started = started or now - start
            gap = max(gap, now - (last or now))
            arrived += 1
            assert np.isfinite(arrival.fragment.rollout.steps.obs).all()
            pool.publish(POLICY, arrived)
            last = time.monotonic()
            if (meter.deaths > 2 and meter.rebuilds > 2 and arrived > 200) or now > end:
                break
    stats = pool.stats()
    ledger = stats["ledger"]["fragments"]
    assert ledger["trained"] == arrived
    assert sum(faults.injected.values()) > 0
    # on a busy machine the deadline of a second also ends workers that were not meant to hang
    assert ledger["lost"] <= 2 * (stats["deaths"] + stats["rebuilds"])
    assert stats["deaths"] >= 2
    assert stats["rebuilds"] >= 2
    assert stats["given_up"] == {}
    assert gap < 10 + 3 * started  # all workers were down, and a spare stepped in
    assert stats["lag_p50"] <= 1
    assert set(os.listdir("/dev/shm")) <= before


@pytest.mark.slow
def test_spares_step_in(make_pool):
    start = time.monotonic()
    pool = make_pool(num_workers=1, mode="async", spares=1)
    stream = pool.stream()
    list(islice(stream, 3))
    started = time.monotonic() - start
    spare = ray.get(pool.supervisor.spares[0].started)[1]
    os.kill(pid(pool, 0), signal.SIGKILL)
    epoch = pool.supervisor.slots[0].epoch
    while pool.supervisor.slots[0].epoch == epoch or not pool.supervisor.slots[0].warm:
        next(stream)
    assert pid(pool, 0) == spare
    assert len(pool.supervisor.spares) == 1
    assert pool.stats()["recovery_seconds_p95"] < 5 + started


DRIVER = """
import numpy as np
import ray
from makers import toy_maker
from parl.remote import RolloutPool, chaos, connect

connect(num_cpus=2)
pool = RolloutPool(toy_maker(), 2, 3, 10)
pool.publish(np.float32(0.5), 0)
pool.collect()
print(*[ray.get(slot.process.started)[1] for slot in pool.supervisor.slots], flush=True)
with chaos(hang=1.0):
    pool.collect()
"""


@pytest.mark.slow
def test_no_worker_outlives_a_killed_driver():
    root = os.path.dirname(os.path.dirname(parl.__file__))
    path = os.pathsep.join([root, os.path.dirname(__file__)])
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert driver.stdout is not None
    pids = [int(word) for word in driver.stdout.readline().split()]
    assert len(pids) == 2
    driver.kill()
    driver.wait()
    driver.stdout.close()
    assert all(gone(pid, 30) for pid in pids)
