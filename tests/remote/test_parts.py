"""Small parts of parl.remote that need neither Ray nor a pool."""

from typing import Any

import jax
import numpy as np
import pytest

from parl.core import errors
from parl.core.errors import ConfigError, RemoteError
from parl.remote.boundary import Guarded, to_numpy
from parl.remote.chaos import chaos, draw, parse
from parl.remote.failure import Failure, describe, revive
from parl.remote.gauge import Gauge, smooth
from parl.remote.ledger import Books, Ledger


def test_the_ledger_is_an_identity():
    books = Books()
    for steps in (10, 20, 30, 40):
        books.arrive(steps)
    books.leave("trained", 10)
    books.leave("dropped_stale", 20)
    books.leave("dropped_overflow", 30)
    books.lose(7)
    report = books.report()
    assert report["steps"] == {
        "produced": 100,
        "trained": 10,
        "dropped_stale": 20,
        "dropped_overflow": 30,
        "in_queue": 40,
        "lost": 7,
    }
    assert list(report["fragments"].values()) == [4, 1, 1, 1, 1, 1]
    after = Books()
    after.load(report)
    assert list(after.report()["steps"].values()) == [60, 10, 20, 30, 0, 47]
    with pytest.raises(AssertionError, match="does not add up"):
        Ledger(produced=1).check()


def test_exceptions_cross_as_text():
    def fail():
        return 1 // 0

    try:
        fail()
    except ZeroDivisionError as error:
        failure = describe(error)
    assert failure[:2] == ("ZeroDivisionError", "integer division or modulo by zero")
    revived = revive(failure, "rollout worker 3")
    assert type(revived) is RemoteError
    assert str(revived).startswith("ZeroDivisionError in rollout worker 3: integer division")
    assert "return 1 // 0" in str(revived)
    for name in ("ConfigError", "EnvError", "MissingPackage", "CheckpointError", "SpaceError"):
        revived = revive(Failure(name, "One sentence.", "trace"), "rollout worker 0")
        assert type(revived) is getattr(errors, name)
        assert str(revived) == "One sentence."
    for name in ("nearest", "difflib", "OSError", "ParlErrors"):  # no error of ours
        assert type(revive(Failure(name, "", ""), "a worker")) is RemoteError


def test_only_numbers_leave():
    tree = to_numpy({"a": jax.numpy.ones((2, 3)).T, "n": 3, "x": np.ones((4, 4))[:, ::2]})
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(tree))
    assert all(leaf.flags.c_contiguous for leaf in jax.tree.leaves(tree))
    assert tree["n"].shape == ()  # as in this process, or the two would compute differently
    with pytest.raises(RemoteError, match="policy leaf 'key' is a typed random key"):
        to_numpy({"key": jax.random.key(0)})
    with pytest.raises(RemoteError, match="policy leaf 'f' is object, not numbers"):
        to_numpy({"f": np.array([print])})


def test_the_meter():
    assert smooth(1.0, 2.0) == pytest.approx(1.1)
    assert smooth(1.0, 100.0) == pytest.approx(1.2)  # one hiccup counts as three times the average
    meter = Gauge()
    meter.fragment(0.05, 100)
    assert (meter.fragment_seconds, meter.step_seconds) == (0.05, 0.0005)
    assert meter.tuned(100) == 100
    assert meter.tuned(10) == 256  # 128 ms
    assert meter.tuned(1000) == 256
    meter.lags.extend([0, 1, 1, 1, 5])
    assert meter.report()["lag_p50"] == 1.0


def test_chaos_is_seeded():
    draws = []
    for _ in range(2):
        with chaos(kill=0.1, nan=0.2, seed=3) as faults:
            draws.append([draw() for _ in range(1000)])
    assert draws[0] == draws[1]
    assert 70 < faults.injected["kill"] < 130
    assert 160 < faults.injected["nan"] < 240
    assert sum(faults.injected.values()) == sum(fault is not None for fault in draws[0])
    assert draw() is None
    with pytest.raises(ConfigError), chaos(kill=0.6, nan=0.6):
        pass


def test_chaos_in_words():
    words = "kill=0.01, raise=0.5,seed=3"
    assert parse(words) == {"kill": 0.01, "raise_": 0.5, "seed": 3}
    for text, message in {
        "kil=0.1": "chaos knows no 'kil'. Did you mean kill? Known: kill, hang, raise, slow, nan, "
        "seed.",
        "": "chaos knows no ''. Known: kill, hang, raise, slow, nan, seed.",
        "kill": "chaos needs a number for kill, not '', as in kill=0.01,seed=3.",
        "seed=0.5": "chaos needs a number for seed, not '0.5', as in kill=0.01,seed=3.",
    }.items():
        with pytest.raises(ConfigError) as caught:
            parse(text)
        assert str(caught.value) == message
    for text in ("kill=1.5", "nan=-0.1", "hang=nan", "kill=0.6,nan=0.6"):
        with pytest.raises(ConfigError, match="rates of faults are probabilities of one fragment"):
            parse(text)
    assert draw() is None


def test_guarded_delegates():
    from makers import ToyEnv

    toy: Any = ToyEnv(3, 0)
    env = Guarded(toy)
    assert env.num_envs == 3
    assert env.spec.id == "Toy-v0"
    assert env.reset().shape == (3, 2)
