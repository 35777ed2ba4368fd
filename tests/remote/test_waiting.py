"""What ends a wait for workers, and what they tell meanwhile; without Ray's processes."""

import threading
from functools import partial

import numpy as np
import pytest
from makers import toy_maker

from parl.core.errors import ClusterLost, ConfigError, EnvError, Halted
from parl.remote import RolloutPool, remote_class
from parl.remote.lifeline import Printed
from parl.remote.sendable import unsendable


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
    pool.crew.looked = -1e9
    monkeypatch.setattr(pool.backend, "lost", lambda: "the raylet ended")
    with pytest.raises(ClusterLost, match=r"^the raylet ended\.$"):
        pool.collect()
    states = pool.get_states()
    assert [int(s.arrays["time"]) for s in states] == [10, 10]
    assert all(env.exact for s in states for env in s.envs)
    np.testing.assert_array_equal(states[0].arrays["obs"], before[0].arrays["obs"])


def test_a_wait_that_is_to_end_does(monkeypatch):
    monkeypatch.setattr("parl.remote.supervisor.GRACE", 0.1)
    pool = make_pool()
    pool.collect()
    pool.heed(lambda: True)
    monkeypatch.setattr(pool.backend, "wait", lambda tickets, timeout: [])
    with pytest.raises(Halted):
        pool.collect()
    assert len(pool.get_states()) == 2


def leaving(index):
    raise SystemExit(3)


def test_sys_exit_is_the_environments_error():
    with pytest.raises(EnvError, match=r"called sys\.exit\(3\)"):
        make_pool(leaving).collect()


def test_whole_lines_are_kept():
    printed = Printed()
    for text in ("one\ntw", "o\nthree"):
        printed.add(text)
    assert (printed.text, printed.count) == ("one\ntwo\n", 8)


def test_n_gpu_alone_asks_for_a_gpu():
    assert remote_class(n_gpu=1)(object).device == "gpu"
    assert remote_class(object).device == "cpu"
