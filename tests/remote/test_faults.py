"""Faults in workers of this process: the books and the decisions, without Ray."""

from itertools import islice

import numpy as np
import pytest
from makers import assert_same, build_bad, toy_maker

from parl.core.errors import CheckpointError, ConfigError, EnvError, RemoteError
from parl.remote import Restart, RolloutPool, chaos

LENGTH, ENVS = 10, 3
POLICY = np.float32(0.5)


def make_pool(maker=None, num_workers=2, **settings):
    pool = RolloutPool(
        maker or toy_maker(), num_workers, ENVS, LENGTH, backend="inline", **settings
    )
    pool.publish(POLICY, 0)
    return pool


def take(pool, count):
    return list(islice(pool.stream(), count))


def collect(pool, count):
    return [pool.collect() for _ in range(count)]


def test_deaths_leave_no_trace_in_sync_mode():
    calm = collect(make_pool(), 12)
    pool = make_pool()
    with chaos(kill=0.2, seed=8) as faults:
        assert_same(collect(pool, 12), calm)
    stats = pool.stats()
    deaths = faults.injected["kill"]
    assert deaths == stats["deaths"] == stats["recovered_exact"]
    assert deaths == 6
    ledger = stats["ledger"]["fragments"]
    assert (ledger["produced"], ledger["trained"], ledger["lost"]) == (24, 24, deaths)
    assert stats["ledger"]["steps"]["lost"] == deaths * LENGTH * ENVS


def test_deaths_leave_no_trace_where_states_are_sent_rarely(monkeypatch):
    monkeypatch.setattr("parl.remote.synchronous.CAPTURE_SHARE", 1e-9)
    calm = collect(make_pool(), 12)
    pool = make_pool()
    with chaos(kill=0.2, seed=8):
        assert_same(collect(pool, 12), calm)
    assert pool.stats()["recovered_exact"] == 6
    assert len(pool.supervisor.slots[0].replayed) == 11  # fragments to play again after a death
    assert int(pool.get_states()[0].arrays["time"]) == 12 * LENGTH
    assert pool.supervisor.slots[0].replayed == []


def test_a_fifth_death_in_a_row_starts_afresh_and_the_sixth_ends():
    pool = make_pool(num_workers=1)
    with chaos(kill=1.0), pytest.raises(RemoteError) as caught:
        pool.collect()
    assert str(caught.value) == (
        "rollout worker 0 died 6 times in a row without bringing a fragment: it was killed."
    )
    stats = pool.stats()
    assert (stats["recovered_exact"], stats["recovered_inexact"]) == (4, 1)
    assert pool.state_dict()["epochs"] == [1]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("raise", "Toy-v0 raised ZeroDivisionError in step: the simulator divided by zero"),
        (
            "nan",
            "Toy-v0 returned a NaN observation in environment 0, 5 steps into a fragment of 10; "
            "its simulation has diverged or its code has a bug.",
        ),
        ("shape", "Toy-v0 gave observations of shape (3, 1) where its space has (3, 2)."),
    ],
)
def test_errors_of_environments_are_raised_in_sync_mode(fault, message):
    with pytest.raises(EnvError) as caught:
        make_pool(toy_maker(fault=fault)).collect()
    assert str(caught.value) == message
    assert "In rollout worker 0:" in caught.value.__notes__[0]


def test_sync_mode_can_rebuild_environments():
    pool = make_pool(toy_maker(fault="raise", at=25), restart=Restart(errors=1))
    collect(pool, 6)
    stats = pool.stats()
    assert (stats["rebuilds"], stats["ledger"]["fragments"]["lost"]) == (4, 4)


def test_an_error_of_parl_keeps_its_class_and_sentence():
    with pytest.raises(EnvError) as caught:
        make_pool(build_bad).collect()
    assert str(caught.value) == "unknown environment 'Cartpole'."
    assert "build_bad" in caught.value.__notes__[0]


def test_async_books_are_exact_under_chaos():
    pool = make_pool(mode="async", max_policy_lag=0, seed=5)
    arrived = 0
    with chaos(kill=0.05, raise_=0.05, nan=0.05, seed=2) as faults:
        for arrival in islice(pool.stream(), 200):
            arrived += 1
            assert np.isfinite(arrival.fragment.rollout.steps.reward).all()
            assert arrival.fragment.rollout.steps.obs.shape == (LENGTH, ENVS, 2)
            if arrived % 4 == 0:
                pool.publish(POLICY, arrived)
    stats = pool.stats()
    ledger = stats["ledger"]["fragments"]
    assert ledger["trained"] == arrived == 200
    assert ledger["dropped_stale"] > 50  # two in flight per worker are stale once all are published
    assert ledger["produced"] == 200 + ledger["dropped_stale"] + ledger["in_queue"]
    injected = sum(faults.injected.values())
    assert injected > 50
    assert injected / 2 <= ledger["lost"] <= 2 * injected
    assert stats["deaths"] <= faults.injected["kill"]  # some were behind another fault
    assert stats["lag_p99"] == 0
    for name, count in stats["ledger"]["steps"].items():
        assert count == ledger[name] * LENGTH * ENVS


def test_what_a_run_logs():
    pool = make_pool(mode="async")
    take(pool, 5)
    metrics = pool.metrics()
    assert metrics["trained"] == 5 * LENGTH * ENVS
    assert metrics["produced"] == metrics["trained"] + metrics["in_queue"]
    assert (metrics["lag_p50"], metrics["deaths"], metrics["given_up"]) == (0.0, 0, 0)
    assert all(isinstance(value, int | float) for value in metrics.values())
    pool.books.steps.produced += 1
    with pytest.raises(AssertionError, match="does not add up"):
        pool.metrics()
    sync = make_pool()
    sync.collect()
    assert sync.metrics()["recovered_exact"] == 0
    assert "lag_p50" not in sync.metrics()


def test_overflow_is_dropped_by_bytes(monkeypatch):
    pool = make_pool(mode="async", max_in_flight=4)
    size = take(pool, 1)[0].fragment
    bytes = sum(leaf.nbytes for leaf in (*size.rollout.steps[:7], *size.ended))
    monkeypatch.setattr("parl.remote.asynchronous.QUEUE_BYTES", 2 * bytes + 200)
    take(pool, 20)
    ledger = pool.stats()["ledger"]["fragments"]
    assert ledger["trained"] == 21
    assert ledger["dropped_overflow"] > 0
    assert pool.stats()["queue_bytes"] <= 2 * bytes + 200


def test_replacements_live_other_lives():
    pool = make_pool(num_workers=1, mode="async", max_in_flight=1, seed=7)
    first = take(pool, 1)[0]
    with chaos(kill=1.0), pytest.raises(RemoteError):
        take(pool, 1)
    assert pool.stats()["given_up"][0]["message"] == "rollout worker 0 died: it was killed"
    other = make_pool(num_workers=1, mode="async", max_in_flight=1, seed=7)
    other.load_state_dict(pool.state_dict())
    second = take(other, 1)[0]
    assert not np.array_equal(first.fragment.rollout.steps.obs, second.fragment.rollout.steps.obs)
    ledger = other.stats()["ledger"]["fragments"]
    assert (ledger["trained"], ledger["lost"]) == (2, 6)


def test_an_environment_that_always_raises_is_given_up_with_its_traceback():
    pool = make_pool(toy_maker(fault="raise", broken_worker=1), mode="async")
    assert {arrival.worker for arrival in take(pool, 20)[-10:]} == {0}
    given_up = pool.stats()["given_up"]
    assert list(given_up) == [1]
    assert "the simulator divided by zero" in given_up[1]["traceback"]
    assert given_up[1]["kind"] == "EnvError"
    pool = make_pool(toy_maker(fault="raise", broken_worker=1), mode="async", min_workers=2)
    with pytest.raises(EnvError, match="raised ZeroDivisionError in step"):
        take(pool, 20)


def test_auto_length_is_tuned_to_the_work():
    pool = RolloutPool(toy_maker(), 1, ENVS, "auto", mode="async", backend="inline")
    pool.publish(POLICY, 0)
    with chaos():
        for _ in islice(pool.stream(), 3):
            pool.supervisor.gauge.step_seconds = 1e-5
        assert pool.tuned_length() == 4096
        pool.supervisor.gauge.step_seconds = 1e-2
        assert pool.tuned_length() == 8
        pool.supervisor.gauge.step_seconds = 7e-3
        assert pool.tuned_length() == 8  # 56 ms is well


def test_states_and_books_continue():
    pool = make_pool()
    collect(pool, 2)
    states, saved = pool.get_states(), pool.state_dict()
    rest = collect(pool, 3)
    other = make_pool()
    other.load_state_dict(saved)
    other.set_states(states)
    assert_same(collect(other, 3), rest)
    assert other.stats()["ledger"] == pool.stats()["ledger"]
    with pytest.raises(CheckpointError, match="of 2 workers, this pool has 1; resume with as many"):
        make_pool(num_workers=1).load_state_dict(saved)


def test_a_worker_that_grows_is_replaced_without_trace():
    calm = collect(make_pool(), 3)
    pool = make_pool(max_memory=1_000_000)
    assert_same(collect(pool, 3), calm)
    assert pool.stats()["recycled"] == 2 * 2
    pool = make_pool(mode="async", max_memory=1_000_000)
    take(pool, 10)
    stats = pool.stats()
    assert stats["recycled"] >= 4
    assert stats["ledger"]["fragments"]["lost"] == 0


def test_bad_settings():
    with pytest.raises(ConfigError, match="min_workers up to num_workers"):
        make_pool(min_workers=3)
    with pytest.raises(ConfigError, match=r"stream\(\) needs a pool with mode='async'"):
        make_pool().stream()
    with pytest.raises(ConfigError, match="need a pool with mode='sync'"):
        make_pool(mode="async").collect()
    with pytest.raises(ConfigError, match="publish a policy"):
        RolloutPool(toy_maker(), 1, ENVS, backend="inline").collect()
    with pytest.raises(ConfigError, match="make_worker made 3 environments"):
        pool = RolloutPool(toy_maker(), 1, 4, backend="inline")
        pool.publish(POLICY, 0)
        pool.collect()
    with pytest.raises(ConfigError, match="probabilities"), chaos(kill=2.0):
        pass
