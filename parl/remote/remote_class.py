"""A class whose instances live in other processes: PARL's `remote_class` on Ray.

    @parl.remote_class
    class Simulator:
        def __init__(self, seed): ...
        def run(self, weights): ...

    simulator = Simulator(0)                   # in a process of its own
    result = simulator.run(weights)            # waits for the result
    future = simulator.run.submit(weights)     # does not; future.get() does
    simulator.steps = 0                        # attributes are read and set over there

Arguments are copied into shared memory once and are read-only on the other side.
"""

import inspect
import os
import queue
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from parl.core.errors import ConfigError, RemoteError
from parl.remote.connect import ensure_connected, quiet, there, worker_env
from parl.remote.failure import Failure, describe, indent
from parl.remote.process import end_with
from parl.remote.worker import resident_bytes

LOOK_AGAIN_S = 30.0  # seconds to wait for a machine with room before looking whether there is any
LOOKS = 5  # at a process that had room when it was asked for: starting takes its time, too


class Answer(NamedTuple):
    """What comes back from a call."""

    value: Any = None
    failure: Failure | None = None
    memory: int = 0  # resident bytes of the process


class Holder:
    """The other side: an object, and calls on it that never raise."""

    def __init__(self, driver: tuple[str, int]):
        threading.Thread(target=end_with, args=driver, daemon=True).start()
        self.object: Any = None

    def make(self, cls: type, args: tuple, kwargs: dict[str, Any]) -> Answer:
        """Makes the object."""
        return self.attempt(lambda: setattr(self, "object", cls(*args, **kwargs)))

    def call(self, name: str, args: tuple, kwargs: dict[str, Any]) -> Answer:
        """Calls a method."""
        return self.attempt(lambda: getattr(self.object, name)(*args, **kwargs))

    def read(self, name: str) -> Answer:
        """Reads an attribute."""
        return self.attempt(lambda: getattr(self.object, name))

    def write(self, name: str, value: Any) -> Answer:
        """Sets an attribute."""
        return self.attempt(lambda: setattr(self.object, name, value))

    def attempt(self, action: Callable[[], Any]) -> Answer:
        """What an action returns, or what it raises."""
        try:
            return Answer(without_jax(action()), memory=resident_bytes())
        except Exception as error:
            return Answer(failure=describe(error), memory=resident_bytes())


class Future:
    """The result of a call that may still be under way."""

    def __init__(self, ticket: Any, owner: "Remote", what: str):
        self.ticket, self.owner, self.what = ticket, owner, what

    def get(self, timeout: float | None = None) -> Any:
        """Waits for the result. Raises RemoteError where the call raised, TimeoutError."""
        try:
            answer: Any = ray.get(self.ticket, timeout=timeout)
        except GetTimeoutError as error:
            raise TimeoutError(f"{self.what} has no result after {timeout} s.") from error
        except RayTaskError as error:
            raise RemoteError(f"{self.what} could not be sent: {error.cause}") from error
        except RayError as error:
            reason = str(error).partition("\n")[0]
            raise RemoteError(f"{self.what} was lost, its process is gone: {reason}") from error
        return unpack(self.owner, self.what, answer)

    def get_nowait(self) -> Any:
        """The result if it is there, else raises queue.Empty."""
        if self.empty():
            raise queue.Empty
        return self.get()

    def empty(self) -> bool:
        """Whether there is no result yet."""
        return not there([self.ticket], 0)


class Method:
    """A method of a remote object: call it and wait for the result or not, or submit it."""

    def __init__(self, owner: "Remote", name: str, wait: bool):
        self.owner, self.name, self.wait = owner, name, wait

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        future = self.submit(*args, **kwargs)
        return future.get() if self.wait else future

    def submit(self, *args: Any, **kwargs: Any) -> Future:
        """Starts the call and gives a future."""
        values = without_jax(args), without_jax(kwargs)
        return self.owner._ask(f"{self.name}()", "call", self.name, *values)


class Remote:
    """An object in another process, as it looks from here. Made by calling a RemoteClass."""

    _remote: "RemoteClass"
    _actor: Any

    def __init__(self, remote: "RemoteClass", args: tuple, kwargs: dict[str, Any]):
        self.__dict__["_remote"] = remote
        had_room = remote.has_room()
        with quiet():
            actor = ray.remote(**remote.options())(Holder)
            self.__dict__["_actor"] = actor.remote((socket.gethostname(), os.getpid()))
        values = without_jax(args), without_jax(kwargs)
        made = self._ask("__init__()", "make", remote.local, *values)
        remote.wait_for_room(made, LOOKS if had_room else 1)
        made.get()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if inspect.isroutine(getattr(self._remote.local, name, None)):
            return Method(self, name, self._remote.wait)
        return self._ask(name, "read", name).get()

    def __setattr__(self, name: str, value: Any) -> None:
        self._ask(name, "write", name, without_jax(value)).get()

    def _ask(self, what: str, verb: str, *args: Any) -> Future:
        if self._actor is None:
            raise RemoteError(f"{self._remote.name}.{what}: the object was destroyed.")
        return Future(getattr(self._actor, verb).remote(*args), self, f"{self._remote.name}.{what}")

    def destroy(self) -> None:
        """Ends the process of the object."""
        actor, self.__dict__["_actor"] = self._actor, None
        if actor is not None:
            ray.kill(actor, no_restart=True)


class RemoteClass:
    """A class to be called for remote objects. `local` is the class itself."""

    def __init__(
        self,
        local: type,
        wait: bool,
        n_cpu: float,
        n_gpu: float,
        max_memory: float | None,
        device: str,
    ):
        if device not in ("cpu", "gpu"):
            raise ConfigError(f"device is 'cpu' or 'gpu', not {device!r}.")
        if n_gpu and device == "cpu":
            raise ConfigError("n_gpu reserves GPUs, which device='cpu' hides; use device='gpu'.")
        self.local, self.wait, self.device = local, wait, device
        self.n_cpu, self.n_gpu, self.max_memory = n_cpu, n_gpu, max_memory
        self.name, self.__doc__ = local.__name__, local.__doc__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        ensure_connected()
        return Remote(self, args, kwargs)

    def options(self) -> dict[str, Any]:
        """Ray's options for the process of one object."""
        return {
            "num_cpus": self.n_cpu,
            "num_gpus": self.n_gpu,
            "max_restarts": 0,
            "max_task_retries": 0,
            "runtime_env": worker_env(self.device, max(int(self.n_cpu), 1)),
        }

    def has_room(self) -> bool:
        """Whether the cluster has what one object reserves."""
        free = ray.available_resources()
        return free.get("CPU", 0) >= self.n_cpu and free.get("GPU", 0) >= self.n_gpu

    def wait_for_room(self, made: Future, looks: int) -> None:
        """Raises RemoteError where all of the cluster is taken, after so many looks."""
        for _ in range(looks):
            if there([made.ticket], LOOK_AGAIN_S):
                return
        free = ray.available_resources()
        if not self.has_room():
            made.owner.destroy()
            raise RemoteError(
                f"no room for another {self.name}: it needs n_cpu={self.n_cpu}, "
                f"n_gpu={self.n_gpu}, and {free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} "
                "GPUs of the cluster are free; destroy() others or connect with more."
            )


def remote_class(
    cls: type | None = None,
    *,
    wait: bool = True,
    n_cpu: float = 1,
    n_gpu: float = 0,
    max_memory: float | None = None,
    device: Literal["cpu", "gpu"] | None = None,
) -> Any:
    """Decorates a class so that its instances live in processes of their own.

    With wait=False methods return futures. n_cpu and n_gpu are reserved for each instance;
    max_memory in MB ends one that uses more. device="cpu" hides all accelerators from it; by
    default it is "gpu" where n_gpu is given.
    """
    place = device or ("gpu" if n_gpu else "cpu")
    decorate = lambda local: RemoteClass(local, wait, n_cpu, n_gpu, max_memory, place)
    return decorate if cls is None else decorate(cls)


def unpack(owner: Remote, what: str, answer: Answer) -> Any:
    """The value of an answer, or the exception that it tells of."""
    limit = owner._remote.max_memory
    if limit is not None and answer.memory > limit * 1e6:
        owner.destroy()
        raise RemoteError(
            f"{what} left its process with {answer.memory / 1e6:.0f} MB, more than "
            f"max_memory={limit:g} MB; the process was ended."
        )
    if answer.failure is not None:
        kind, message, traceback = answer.failure
        raise RemoteError(f"{what} raised {kind}: {message}\n{indent(traceback)}")
    return answer.value


def without_jax(value: Any) -> Any:
    """The value with jax arrays as numpy, in nested tuples, lists and dicts."""
    if isinstance(value, dict):
        return {key: without_jax(part) for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(without_jax, value))
    if type(value) in (tuple, list):
        return type(value)(map(without_jax, value))
    jax = sys.modules.get("jax")
    return np.asarray(value) if jax is not None and isinstance(value, jax.Array) else value
