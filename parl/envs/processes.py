"""Environments that are slow to step, shared out among processes of this machine; without Ray.

Each process steps some rows of one vector environment in lockstep, so that numbers and saved states
are those of a single process. Numpy arrays and plain values go through a pipe; a thread in each
process tells that its environments go on and ends it with the one that started it. A process that
dies or hangs is started again with fresh episodes; the step that it owes is a truncation.
"""

import atexit
import contextlib
import itertools
import multiprocessing
import multiprocessing.util  # its own exit, which waits for processes, comes after ours
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

import cloudpickle
import numpy as np

from parl.core import errors
from parl.core.errors import CheckpointError, ConfigError, EnvError, ParlError
from parl.core.spec import EnvSpec
from parl.envs import pulse
from parl.envs.info import as_number
from parl.envs.protocol import EnvState, Transition, VectorEnv
from parl.envs.supervised import (
    CLOSING,
    LASTING,
    SIGN,
    Lost,
    Stepper,
    await_answer,
    ended,
    losses,
)

SPAWN = multiprocessing.get_context("spawn")  # a fork would copy threads of JAX in mid-air
OPEN: "weakref.WeakSet[ProcessVectorEnv]" = weakref.WeakSet()

Rows = Callable[[int, int], VectorEnv]  # (rows, place of the first) to their environment


class ProcessVectorEnv:
    """B environments behind the VectorEnv protocol, in as many processes as `workers` says.

    `rows(count, start)` makes those from `start` on, in its process; `deadline` is the seconds
    without a sign of life after which a process counts as hung, see pulse.py for the default. `say`
    is told of each process that is started again, and `start` starts them. Raises EnvError where
    one dies or hangs more than DEATHS times without LASTING steps in between, and whatever is wrong
    with the environments.
    """

    def __init__(
        self,
        rows: Rows,
        spec: EnvSpec,
        num_envs: int,
        workers: int,
        deadline: float | None = None,
        say: Callable[[str], None] = lambda text: None,
        start: Callable[[Rows, slice, str, float | None], Stepper] | None = None,
    ):
        self.spec, self.num_envs = spec, num_envs
        self._rows, self._deadline, self._say = rows, deadline, say
        self._start = start or Worker
        self._steps, self._obs = 0, None  # of this vector; what it returned last
        self._parameters: dict[str, Any] = {}  # as changed so far
        self._fresh: dict[int, Any] = {}  # of workers that were started again: new observations
        bounds = np.linspace(0, num_envs, workers + 1).astype(int).tolist()
        self._parts = [slice(a, b) for a, b in itertools.pairwise(bounds)]
        self._workers: list[Stepper] = []
        OPEN.add(self)
        try:
            for part in self._parts:
                self._workers.append(self._start(rows, part, spec.id, deadline))
            for worker in self._workers:
                worker.answer(pulse.STARTUP)
        except BaseException:
            self.close()
            raise

    @property
    def infos(self) -> Sequence[Any]:
        """The numbers among what each environment told at the last step."""
        told = self._ask("infos", survive=True)
        sizes = [part.stop - part.start for part in self._parts]
        return [x for one, size in zip(told, sizes, strict=True) for x in one or [{}] * size]

    def reset(self) -> Any:
        self._obs = joined(self._ask("reset"))
        self._fresh.clear()
        return self._obs

    def step(self, action: Any) -> Transition:
        action = np.asarray(action)
        self._steps += 1
        answers = self._ask("step", [action[part] for part in self._parts], survive=True)
        for index, obs in self._fresh.items():
            answers[index] = self._cut(index, obs)
        self._fresh.clear()
        columns = list(zip(*answers, strict=True))
        obs, reward, terminated, truncated = (joined(parts) for parts in columns[:4])
        same = all(answer[0] is answer[4] for answer in answers)
        next_obs = obs if same else joined(columns[4])
        self._obs = obs
        return Transition(obs, reward, terminated, truncated, next_obs)

    def _cut(self, index: int, obs: Any) -> Transition:
        """The step of environments that are lost: the episodes are truncated where they were."""
        part = self._parts[index]
        count = part.stop - part.start
        reward = np.zeros((count, *self.spec.agent_shape), np.float32)
        ended, cut = np.zeros(count, bool), np.ones(count, bool)
        return Transition(obs, reward, ended, cut, sliced(self._obs, part))

    def get_state(self) -> EnvState:
        """The same as that of all environments in one process."""
        states: list[EnvState] = self._ask("get_state", survive=True)
        if self._fresh or not all(state.exact for state in states):
            return self._position(self.num_envs, self._steps)
        meta = states[0].meta | {"num_envs": self.num_envs}
        meta["envs"] = [env for state in states for env in state.meta["envs"]]
        arrays: dict[str, Any] = {}
        for part, state in zip(self._parts, states, strict=True):
            for name, array in state.arrays.items():
                place, slash, rest = name.partition("/")
                if place.isdecimal():
                    arrays[f"{int(place) + part.start}{slash}{rest}"] = array
                else:  # a part of the observation
                    arrays[name] = joined([other.arrays[name] for other in states])
        return EnvState(arrays, meta, exact=True)

    def set_state(self, state: EnvState) -> Any:
        meta = state.meta
        if (meta.get("id"), meta.get("num_envs")) != (self.spec.id, self.num_envs):
            raise CheckpointError(
                f"a state of {meta.get('num_envs')} x {meta.get('id')} cannot be continued by "
                f"{self.num_envs} x {self.spec.id}."
            )
        self._obs = joined(self._ask("set_state", [part_of(state, part) for part in self._parts]))
        self._steps = int(meta["steps"])
        self._fresh.clear()
        return self._obs

    def _position(self, num_envs: int, steps: int) -> EnvState:
        """A state from which episodes are new, but the same each time."""
        meta = {"id": self.spec.id, "num_envs": num_envs, "steps": steps}
        return EnvState({}, meta, exact=False)

    def change(self, parameters: Mapping[str, Any]) -> None:
        """Sets parameters of all environments."""
        self._parameters |= parameters
        self._ask("change", [dict(parameters)] * len(self._parts), survive=True)

    def close(self) -> None:
        """Ends all processes."""
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.dismiss()
        for worker in workers:
            worker.end()

    def _ask(
        self, call: str, arguments: Sequence[Any] | None = None, survive: bool = False
    ) -> list[Any]:
        """What every process answers.

        With `survive`, those that are lost are started again and answer None, and so do those that
        owe a step since.
        """
        if not self._workers:
            raise EnvError(f"{self.spec.id} is closed.")
        given = arguments if arguments is not None else [None] * len(self._parts)
        answers: list[Any] = [None] * len(self._parts)
        lost: dict[int, Lost] = {}
        asked = [i for i in range(len(given)) if not (call == "step" and i in self._fresh)]
        try:
            for index in asked:
                with losses(lost, index):
                    self._workers[index].send(call, given[index])
            for index in asked:
                with losses(lost, index):
                    if index not in lost:
                        answers[index] = self._workers[index].answer()
                        self._workers[index].steps += call == "step"
            for index, error in lost.items():
                if not survive:
                    raise error
                self._fresh[index] = self._restart(index, error)
            return answers
        except BaseException:
            self.close()  # answers that are still to come would be taken for others
            raise

    def _restart(self, index: int, error: "Lost") -> Any:
        """Starts a worker again; returns its first observations. Raises the error after DEATHS."""
        part = self._parts[index]
        while True:
            old = self._workers[index]
            deaths = 1 if old.steps >= LASTING else old.deaths + 1
            if deaths > pulse.DEATHS:
                raise error
            self._say(
                f"{error.reason}; their episodes are cut and they start again "
                f"({deaths} of {pulse.DEATHS} times in a row)"
            )
            old.kill()
            new = self._start(self._rows, part, self.spec.id, self._deadline)
            self._workers[index] = new
            new.deaths = deaths
            # the number of deaths: seeds that kill it are not to come again
            state = self._position(part.stop - part.start, self._steps + deaths)
            try:
                new.answer(pulse.STARTUP)
                new.ask("change", self._parameters)
                return new.ask("set_state", state)
            except Lost as again:
                error = again


@atexit.register
def close_all() -> None:
    """Ends the processes of whatever was not closed."""
    for env in list(OPEN):
        env.close()


def joined(parts: Sequence[Any]) -> Any:
    """Arrays, or dicts of them, of some rows each as one of all."""
    if isinstance(parts[0], Mapping):
        return {name: joined([part[name] for part in parts]) for name in parts[0]}
    return np.concatenate(parts)


def sliced(tree: Any, part: slice) -> Any:
    """Some rows of an array, or of each in a dict."""
    if isinstance(tree, Mapping):
        return {name: sliced(array, part) for name, array in tree.items()}
    return tree[part]


def part_of(state: EnvState, part: slice) -> EnvState:
    """The state of some environments in one of all."""
    meta = state.meta | {"num_envs": part.stop - part.start}
    if not state.exact:
        return EnvState({}, meta, exact=False)
    arrays: dict[str, Any] = {}
    for name, array in state.arrays.items():
        place, slash, rest = name.partition("/")
        if not place.isdecimal():
            arrays[name] = array[part]
        elif part.start <= int(place) < part.stop:
            arrays[f"{int(place) - part.start}{slash}{rest}"] = array
    return EnvState(arrays, meta | {"envs": meta["envs"][part]}, exact=True)


class Worker:
    """A process of this interpreter with some of the environments."""

    def __init__(self, rows: Rows, part: slice, id: str, deadline: float | None):
        self.id, self.deadline, self.longest = id, deadline, 0.0
        self.steps = self.deaths = 0
        self.name = f"environments {part.start} to {part.stop - 1}"
        self.signs: Any = SPAWN.RawValue("Q")
        self.pipe, theirs = SPAWN.Pipe()
        place = part.stop - part.start, part.start
        self.process = SPAWN.Process(
            target=serve,
            args=(by_value(rows, id), *place, theirs, self.signs, os.getpid()),
            name=self.name,
        )
        with on_cpu(), script_unseen():
            self.process.start()
        theirs.close()

    @property
    def pid(self) -> int | None:
        return self.process.pid

    @property
    def exit_code(self) -> int | None:
        return self.process.exitcode

    def has_answered(self, seconds: float) -> bool:
        return self.pipe.poll(seconds)

    def beats(self) -> int:
        return self.signs.value

    def send(self, call: str, argument: Any) -> None:
        try:
            self.pipe.send((call, argument))
        except OSError as error:
            raise self.ended() from error

    def answer(self, more: float = 0.0) -> Any:
        try:
            await_answer(self, more)
            failure, answer = self.pipe.recv()
        except (EOFError, OSError) as error:
            raise self.ended() from error
        if failure is not None:
            raise revived(failure)
        return answer

    def ask(self, call: str, argument: Any) -> Any:
        self.send(call, argument)
        return self.answer()

    def ended(self) -> Lost:
        """The error of a process that is gone."""
        self.process.join(CLOSING)
        return ended(self)

    def dismiss(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.pipe.send(("close", None))

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()

    def end(self) -> None:
        process = self.process
        if process.pid is not None and not wait([process.sentinel], CLOSING):
            process.kill()
        if process.pid is not None:
            process.join()
        self.pipe.close()


def by_value(rows: Rows, id: str) -> bytes:
    """The maker of environments, with functions and classes of the user's script in it.

    Raises ConfigError where it holds what cannot be sent.
    """
    try:
        return cloudpickle.dumps(rows)
    except Exception as error:  # whatever pickling says
        said = str(error).splitlines() or [type(error).__name__]
        raise ConfigError(
            f"{id} cannot be sent to environment workers: {said[0]}; make what cannot be in "
            "__init__ or in the function, give its name, module:attribute, or use env_workers=0."
        ) from error


@contextlib.contextmanager
def script_unseen() -> Iterator[None]:
    """Processes that are started within this do not run the user's script from its top again."""
    script = vars(sys.modules["__main__"])
    kept = {name: script[name] for name in ("__spec__", "__file__") if name in script}
    script.update(dict.fromkeys(kept))
    try:
        yield
    finally:
        script.update(kept)


@contextlib.contextmanager
def on_cpu() -> Iterator[None]:
    """What is started within this leaves accelerators alone."""
    ours = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


# --- in the process ------------------------------------------------------------------------------


def serve(made: bytes, count: int, start: int, pipe: Connection, beats: Any, parent: int) -> None:
    """Answers until the pipe is closed or the parent is gone. Signals are the parent's business.

    `made` is what `by_value` gives.
    """
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(name, signal.SIG_IGN)
    threading.Thread(target=tell, args=(beats, parent), daemon=True).start()
    env: Any = None
    with contextlib.suppress(EOFError, OSError):
        call, argument = "make", None
        while call != "close":
            try:
                if call == "make":
                    env, answer = cloudpickle.loads(made)(count, start), None
                else:
                    answer = performed(env, call, argument)
                pipe.send((None, answer))
            except (Exception, SystemExit) as error:
                pipe.send((failure_of(error), None))
            call, argument = pipe.recv()
    if env is not None:
        with contextlib.suppress(Exception, SystemExit):
            env.close()


def performed(env: Any, call: str, argument: Any) -> Any:
    """What the environments answer."""
    match call:
        case "step":
            return tuple(env.step(argument))
        case "infos":
            return [numbers_in(info) for info in env.infos]
        case "set_state" | "change":
            return getattr(env, call)(argument)
    return getattr(env, call)()


def tell(beats: Any, parent: int) -> None:
    """Signs of life, and the end with the parent."""
    while os.getppid() == parent:
        beats.value = pulse.beats
        time.sleep(SIGN)
    os._exit(1)


def numbers_in(info: Any) -> dict[Any, Any]:
    """The numbers of an info, and those of the infos in it."""
    found = {}
    for name, value in info.items() if isinstance(info, Mapping) else ():
        if isinstance(value, Mapping):
            found[name] = numbers_in(value)
        elif (number := as_number(value)) is not None:
            found[name] = number
    return found


def failure_of(error: BaseException) -> tuple[str, str]:
    """What goes through the pipe of an exception: its class' name and its sentence."""
    known = isinstance(error, ParlError) and hasattr(errors, type(error).__name__)
    return (type(error).__name__ if known else "EnvError"), str(error) or type(error).__name__


def revived(failure: tuple[str, str]) -> ParlError:
    """The exception for one of another process."""
    kind, sentence = failure
    return getattr(errors, kind)(sentence)
