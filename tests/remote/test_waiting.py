"""What ends a wait for workers, and what they tell meanwhile; without Ray's processes."""

import io
import socket
import threading
import time
from functools import partial
from importlib import import_module
from itertools import islice
from typing import Any

import numpy as np
import pytest
from makers import ToyCollector, ToyEnv, assert_same, make_policy, toy_maker, worker_maker

from parl.agents.execution.protocol import Seeds
from parl.core.errors import ClusterLost, ConfigError, EnvError, Halted, RemoteError
from parl.envs.pulse import patience
from parl.remote import RolloutPool, chaos, remote_class
from parl.remote.answers import Watch
from parl.remote.lifeline import Printed, Teller
from parl.remote.sendable import unsendable
from parl.runs.executions import make_collector


def make_pool(maker=None):
    pool = RolloutPool(maker or toy_maker(), 2, 3, 10, backend="inline")
    pool.publish(np.float32(0.5), 0)
    return pool


def test_what_cannot_be_sent_is_named():
    lock = threading.Lock()

    def locked():
        with lock:
            return None

    for maker in (locked, partial(partial, locked, 3)):
        error = unsendable(maker, TypeError("130 lines"))
        assert type(error) is ConfigError
        assert str(error) == (
            "the function that makes the environments cannot be sent to the actors, because of "
            "`lock`: cannot pickle '_thread.lock' object; make that inside the function, or train "
            "with actors=0."
        )


def test_a_dead_cluster_ends_the_wait_and_leaves_the_last_states(monkeypatch):
    pool = make_pool()
    pool.collect()
    before = pool.get_states()
    pool.supervisor.looked = -1e9
    monkeypatch.setattr(pool.backend, "lost", lambda: "the raylet ended")
    with pytest.raises(ClusterLost, match=r"^the raylet ended\.$"):
        pool.collect()
    states = pool.get_states()
    assert [int(s.arrays["time"]) for s in states] == [10, 10]
    assert all(env.exact for s in states for env in s.envs)
    np.testing.assert_array_equal(states[0].arrays["obs"], before[0].arrays["obs"])


def test_a_shared_cluster_that_falls_silent_counts_as_lost_after_a_while(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        watch, now = Watch(address), [0.0]
        monkeypatch.setattr("time.monotonic", lambda: now[0])
        assert watch.silent() == 0
    for now[0], silence in ((1, 0), (100, 0), (110, 0), (116, 16)):  # at 1 it is too soon to look
        assert watch.silent() == silence
    connect = import_module("parl.remote.connect")  # the function has its name in the package
    monkeypatch.setattr(connect, "watch", watch)
    lost = f"the Ray cluster at {address} has given no answer for 16 s"
    assert connect.cluster_lost() == lost
    connect.cluster_lost_now()  # it has been silent for long: nothing is waited for
    monkeypatch.setattr("parl.remote.answers.answers", lambda address: None)
    now[0] = 120
    assert connect.cluster_lost_now() == ""
    assert watch.silent() == 0 and connect.cluster_lost() == "", "it is back"


def test_a_wait_that_is_to_end_does(monkeypatch):
    monkeypatch.setattr("parl.remote.supervisor.GRACE", 0.1)
    pool = make_pool()
    pool.collect()
    pool.heed(lambda: True)
    monkeypatch.setattr(pool.backend, "wait", lambda tickets, timeout: [])
    with pytest.raises(Halted):
        pool.collect()
    assert len(pool.get_states()) == 2


def test_fragments_that_are_broken_off_go_on_bit_for_bit():
    """One worker is amid its fragment and one behind it; their states bring both."""
    pools = [RolloutPool(worker_maker("jax:CartPole-v1"), 2, 3, 6, backend="inline") for _ in "ab"]
    for pool in pools:
        pool.publish(make_policy("jax:CartPole-v1"), 0)
        pool.collect()
    whole, broken = pools
    expected = [whole.collect() for _ in range(2)]
    steps = iter(range(9))
    process: Any = broken.supervisor.slots[1].process
    process.worker.collector.stopped = lambda: next(steps) >= 4
    with pytest.raises(Halted):
        broken.collect()
    states = broken.get_states()
    assert all(env.exact for state in states for env in state.envs)
    assert [state.arrays["begun/steps/0"].shape[0] for state in states] == [6, 4]
    whole.set_states(states)
    for fragments in expected:
        assert_same(whole.collect(), fragments)


def test_a_full_cluster_is_waited_for_and_then_one_sentence(monkeypatch):
    said = []
    pool = RolloutPool(toy_maker(), 2, 3, 10, backend="inline", room=50.0, say=said.append)
    monkeypatch.setattr(pool.backend, "scheduled", True)
    monkeypatch.setattr(pool.backend, "room", lambda: (0.0, 3.0))
    monkeypatch.setattr(pool.backend, "wait", lambda tickets, timeout: [])
    supervisor = pool.supervisor
    for waited in (40, 60):
        supervisor.looked = supervisor.listened = -1e9
        for slot in supervisor.slots:
            slot.since = time.monotonic() - waited
        if waited == 40:
            supervisor.events(0.0)
    assert said == ["waiting for 2 CPUs of the cluster (0 of 3 free)"]
    with pytest.raises(RemoteError) as caught:
        pool.ready()
    assert str(caught.value) == (
        "no room for 2 of 2 rollout workers: each needs a CPU of the cluster, and 0 of its 3 are "
        "free after 60 s; use fewer actors, or wait for other runs to end (see `parl cluster "
        "status`)."
    )


def leaving(index):
    raise SystemExit(3)


def test_sys_exit_is_the_environments_error():
    with pytest.raises(EnvError, match=r"called sys\.exit\(3\)"):
        make_pool(leaving).collect()


def test_a_hang_does_not_lengthen_its_own_deadline(monkeypatch):
    """Steps of up to 4 s leave 40 s for the next one, however long that takes already."""
    monkeypatch.setattr("sys.stdout", io.StringIO())
    monkeypatch.setattr("sys.stderr", io.StringIO())
    monkeypatch.setattr("threading.Thread.start", lambda self: None)
    teller, now = Teller(b"", lambda: True), [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    teller.busy = True
    for now[0] in range(500):  # two steps, of 1 and 4 s, and one that hangs
        monkeypatch.setattr("parl.envs.pulse.beats", (now[0] >= 1) + (now[0] >= 5))
        teller.look()
    assert patience(None, teller.longest) == 40
    now[0] = 500
    monkeypatch.setattr("parl.envs.pulse.beats", 3)
    teller.look()
    assert teller.longest == 495, "it came back"
    teller.busy = False
    for now[0] in (501, 2_000):
        teller.look()
    teller.busy = True
    for now[0], beats in ((2_001, 3), (2_002, 4)):
        monkeypatch.setattr("parl.envs.pulse.beats", beats)
        teller.look()
    assert teller.longest == 495, "idle times do not count"


def test_whole_lines_are_kept():
    printed = Printed()
    for text in ("one\ntw", "o\nthree"):
        printed.add(text)
    assert (printed.text, printed.count) == ("one\ntwo\n", 8)


def test_n_gpu_alone_asks_for_a_gpu():
    assert remote_class(n_gpu=1)(object).device == "gpu"
    assert remote_class(object).device == "cpu"


def test_every_environment_keeps_an_index_of_its_own(monkeypatch):
    """For ports and files: whatever dies, living workers share none, and slots keep theirs."""
    living = []

    def vector(num_envs, seed, first):
        living.append(Numbered(first, num_envs, seed))
        return living[-1]

    class Numbered(ToyEnv):
        def __init__(self, first, num_envs, seed):
            super().__init__(num_envs, seed)
            self.first = first

        def close(self):
            living.remove(self)

    monkeypatch.setattr(
        "parl.runs.executions.Collector", lambda envs, *_, **__: ToyCollector(envs[0])
    )
    algorithm: Any = None  # which this collector does without
    make = partial(make_collector, vector, algorithm, Seeds((0,)), 3, (), 3)
    pool = RolloutPool(make, 3, 3, 10, mode="async", backend="inline", seed=5)
    pool.publish(np.float32(0.5), 0)
    before = {slot.index: set() for slot in pool.supervisor.slots}
    with chaos(kill=0.2, raise_=0.2, seed=1) as faults:
        for _ in islice(pool.stream(), 40):
            assert len({env.first for env in living}) == len(living)
            for slot in pool.supervisor.slots:
                process: Any = slot.process
                if process.worker.collector:  # it has not just failed
                    (env,) = process.worker.collector.envs
                    before[slot.index].add(env.first)
    assert before == {0: {0}, 1: {3}, 2: {6}}
    assert faults.injected["kill"] > 3 < faults.injected["raise_"]


def test_workers_in_reserve_have_places_of_their_own():
    pool = RolloutPool(toy_maker(), 2, 3, 10, mode="async", backend="inline", spares=2)
    supervisor: Any = pool.supervisor
    for _ in range(5):
        places = [spare.worker.index % 4 for spare in supervisor.spares]
        assert sorted(places) == [2, 3]
        supervisor.stop(supervisor.slots[0])
        supervisor.renew(supervisor.slots[0])
        supervisor.assign(supervisor.slots[0])
        assert supervisor.slots[0].process.worker.index % 4 == 0
