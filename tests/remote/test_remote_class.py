import os
import queue
import subprocess
import sys
import time
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import parl
from parl.core.errors import ConfigError, RemoteError
from parl.remote import remote_class

pytestmark = pytest.mark.usefixtures("cluster")


@remote_class(n_cpu=0)
class Counter:
    """Counts."""

    unit = "steps"

    def __init__(self, start=0):
        if start < 0:
            raise ValueError("start is negative")
        self.count = start
        self.big: Any = None

    def add(self, n=1):
        self.count += n
        return self.count

    def slowly(self, seconds):
        time.sleep(seconds)
        return "done"

    def fail(self):
        return {}["the missing key"]

    def keep(self, array):
        self.big = array
        return array.sum(), array.flags.writeable, type(array).__name__

    def again(self):
        return self.big.sum()

    def where(self):
        return os.getpid(), os.environ["JAX_PLATFORMS"], os.environ["CUDA_VISIBLE_DEVICES"]

    @property
    def double(self):
        return 2 * self.count


@pytest.fixture(scope="module")
def counter(cluster):
    yield (counter := Counter(3))
    counter.destroy()


def test_methods_and_attributes(counter):
    counter.count = 3
    assert counter.add() == 4
    assert counter.add(n=2) == 6
    assert (counter.count, counter.double, counter.unit) == (6, 12, "steps")
    counter.count = 10
    assert counter.add() == 11
    pid, platform, devices = counter.where()
    assert pid != os.getpid()
    assert (platform, devices) == ("cpu", "")
    assert Counter.__doc__ == "Counts."
    assert Counter.local(1).add() == 2


def test_futures(counter):
    future = counter.slowly.submit(0.5)
    assert future.empty()
    with pytest.raises(queue.Empty):
        future.get_nowait()
    with pytest.raises(TimeoutError, match=r"Counter.slowly\(\) has no result after 0.01 s"):
        future.get(timeout=0.01)
    assert future.get(timeout=60) == "done"
    assert future.get_nowait() == "done"
    assert not future.empty()


def test_a_remote_exception_does_not_kill_the_actor(counter):
    counter.count = 0
    with pytest.raises(RemoteError, match=r"fail\(\) raised KeyError: 'the missing key'") as caught:
        counter.fail()
    assert 'return {}["the missing key"]' in str(caught.value)  # the remote traceback
    with pytest.raises(RemoteError, match="raised AttributeError"):
        _ = counter.nothing
    assert counter.add() == 1
    with pytest.raises(RemoteError, match="raised ValueError: start is negative"):
        Counter(-1)


def test_arrays_arrive_once_and_read_only(counter):
    array = np.ones(1_000_000, np.float32)
    assert counter.keep(array) == (1_000_000, False, "ndarray")
    assert counter.again() == 1_000_000
    assert counter.keep(jnp.arange(4)) == (6, False, "ndarray")
    result = counter.big
    assert isinstance(result, np.ndarray)
    assert result.tolist() == [0, 1, 2, 3]


def test_without_waiting():
    counter = remote_class(wait=False, n_cpu=0)(Counter.local)()
    first, second = counter.add(), counter.add()
    assert (second.get(10), first.get(10)) == (2, 1)
    counter.destroy()
    with pytest.raises(RemoteError, match="the object was destroyed"):
        counter.add()


def test_a_process_that_ends_is_an_error():
    counter = Counter()
    pid = counter.where()[0]
    os.kill(pid, 9)
    with pytest.raises(RemoteError, match=r"Counter.add\(\) was lost, its process is gone"):
        counter.add()


def test_memory_limit():
    counter = remote_class(n_cpu=0, max_memory=1)(Counter.local)
    with pytest.raises(RemoteError, match="more than max_memory=1 MB; the process was ended"):
        counter()


def test_bad_settings():
    with pytest.raises(ConfigError, match="device is 'cpu' or 'gpu', not 'tpu'"):
        remote_class(device="tpu")(Counter.local)  # pyright: ignore
    with pytest.raises(ConfigError, match="use device='gpu'"):
        remote_class(n_gpu=1, device="cpu")(Counter.local)


SCRIPT = """
import parl

def helper(x):
    return 2 * x

@parl.remote_class
class Doubler:
    def double(self, x):
        return helper(x)

parl.connect(num_cpus=1)
print(Doubler().double(21))
"""


@pytest.mark.slow
@pytest.mark.parametrize("place", ["script", "stdin"])
def test_a_class_of_a_program(place, tmp_path):
    (tmp_path / "program.py").write_text(SCRIPT)
    arguments = ["program.py"] if place == "script" else ["-"]
    root = os.path.dirname(os.path.dirname(parl.__file__))
    done = subprocess.run(
        [sys.executable, "-W", "error::FutureWarning", *arguments],
        input=SCRIPT,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=300,
        env=os.environ | {"PYTHONPATH": root},
    )
    assert (done.stdout, done.stderr) == ("42\n", "")
