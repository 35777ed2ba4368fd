"""Environments of another interpreter: 'venv:/path/to/python!id', for packages that pin old ones.

The interpreter steps some rows of a vector in lockstep, see interpreter_side.py for what runs
there. Spaces come as JSON, never pickled; observations and actions lie in memory that both map. The
environments are checked and translated here, as those of this process are, and supervised as those
of --env-workers: an interpreter that dies or hangs is started again with fresh episodes.
"""

import contextlib
import functools
import json
import os
import select
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np

from parl.core.errors import ConfigError, EnvError, MissingPackage, ParlError, SpaceError
from parl.envs.adapters import interpreter_side as side
from parl.envs.adapters.gymnasium import GymnasiumVectorEnv
from parl.envs.adapters.gymnasium_json import space_of
from parl.envs.factory import EnvFactory, all_rows, with_rows
from parl.envs.processes import Rows, on_cpu, performed
from parl.envs.pulse import STARTUP, beat
from parl.envs.suites import INTERPRETER
from parl.envs.supervised import CLOSING, Lost, await_answer, ended

MARK = "!"  # between the interpreter and the environment's own id
SHARED = Path("/dev/shm")  # files in memory, where the system has them


def located(place: str) -> tuple[str, str]:
    """(interpreter, the environment's own id) of what stands between an id's prefix and arguments.

    Raises ConfigError for another form, or where there is no such interpreter.
    """
    path, mark, name = place.partition(MARK)
    path = os.path.expanduser(path)
    if not (mark and name and os.path.isabs(path)):
        raise ConfigError(
            f"'{INTERPRETER}{place}' names no environment of another interpreter: write "
            f"'{INTERPRETER}/path/to/python{MARK}id', with the interpreter's whole path."
        )
    if name.count(":") > 1 or name.startswith("pz:"):
        raise ConfigError(
            f"{INTERPRETER}{place}: an interpreter of its own serves environments of Gymnasium, by "
            f"their ids or as module:name, and '{name}' is none."
        )
    if shutil.which(path) is None:
        raise ConfigError(f"{INTERPRETER}{place}: there is no interpreter {path}.")
    return path, name


def from_interpreter(id: str, place: str, arguments: dict[str, Any]) -> EnvFactory:
    """The factory of the environments of `place`, which is 'interpreter!id', made with arguments.

    Raises ConfigError, EnvError, SpaceError or MissingPackage.
    """
    rows = functools.partial(interpreter_rows, *located(place), arguments, id)
    probe = rows(1, 0, 0, 0)
    probe.close()
    return with_rows(
        EnvFactory(probe.spec, functools.partial(all_rows, rows), elsewhere=True), rows
    )


def interpreter_rows(
    python: str,
    name: str,
    arguments: dict[str, Any],
    id: str,
    count: int,
    seed: int,
    first: int,
    start: int,
) -> "InterpreterVectorEnv":
    """`count` environments of one interpreter, from `start` on in the vector of a seed."""
    interpreter = Interpreter(python, id, start, count)
    try:
        return InterpreterVectorEnv(interpreter, name, arguments, count, seed, start)
    except BaseException:
        interpreter.kill()
        raise


class Interpreter:
    """The process of another interpreter, as this one sees it; its environments count on `start`.

    Raises Lost where it ends or hangs, and what went wrong there as EnvError or MissingPackage.
    """

    def __init__(self, python: str, id: str, start: int, count: int):
        self.python, self.id, self.start, self.count = python, id, start, count
        self.deadline: float | None = None
        self.longest = 0.0
        self.name = f"environments {start} to {start + count - 1} in {python}"
        self.file = tempfile.TemporaryFile(dir=SHARED if SHARED.is_dir() else None)  # noqa: SIM115
        os.ftruncate(self.file.fileno(), side.HEADER)
        self.memory = side.Memory(self.file.fileno(), [], 0, side.HEADER)
        self.channel, theirs = socket.socketpair()
        self.lines, self.poll = self.channel.makefile("rb"), select.poll()
        self.poll.register(self.channel, select.POLLIN)
        ends = theirs.fileno(), self.file.fileno()
        assert side.__file__ is not None
        command = [python, "-E", side.__file__, *map(str, ends), str(os.getpid())]
        try:
            with theirs, on_cpu():
                self.process = subprocess.Popen(
                    command, pass_fds=ends, stdin=subprocess.DEVNULL, stdout=2
                )
        except OSError as error:
            raise ConfigError(f"{id}: {python} cannot be started: {error}.") from error

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def exit_code(self) -> int | None:
        return self.process.poll()

    def beats(self) -> int:
        return int(self.memory.beats[0])

    def has_answered(self, seconds: float) -> bool:
        return bool(self.poll.poll(1000 * seconds))

    def ended(self) -> Lost:
        """The error where it is gone."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(CLOSING)
        return ended(self)

    def make(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Makes the environments: their spaces as JSON, and `max_steps`."""
        self.send("make", name, arguments, self.count)
        found = self.answer("make", STARTUP)
        kind = found["action"]["type"]
        if kind in ("Dict", "Tuple"):
            raise SpaceError(
                f"{self.id} has {kind} actions: an interpreter of its own serves one agent with "
                "one Box, Discrete, MultiDiscrete or MultiBinary."
            )
        columns, size = side.columns(found, self.count)
        self.memory = side.Memory(self.file.fileno(), columns, self.count, size)
        return found

    def send(self, call: str, *arguments: Any) -> None:
        """Asks for something."""
        try:
            self.channel.sendall(json.dumps([call, arguments]).encode() + b"\n")
        except OSError as error:
            raise self.ended() from error
        except TypeError as error:
            raise ConfigError(f"{self.id}: {arguments} cannot be written as JSON.") from error

    def answer(self, call: str, more: float = 0.0, step: int = 0) -> dict[str, Any]:
        """What it answers."""
        await_answer(self, more)
        line = self.lines.readline()
        if not line:
            raise self.ended()
        beat()
        found = json.loads(line)
        if "error" in found:
            raise self.failed(call, step, found["error"])
        return found

    def ask(self, call: str, *arguments: Any, step: int = 0) -> dict[str, Any]:
        """What it answers to a request; errors name the step."""
        self.send(call, *arguments)
        return self.answer(call, step=step)

    def failed(self, call: str, step: int, error: dict[str, Any]) -> ParlError:
        """The exception for one that was raised there."""
        kind, text = error["kind"], error["text"]
        if kind == "missing":
            return MissingPackage(
                f"{self.id} needs the module '{text}', which {self.python} lacks; install its "
                f"package there ({self.python} -m pip install ...), or run the command in its "
                "folder."
            )
        if call == "make":
            what = text if kind == "unfit" else f"{kind}{error['place']}: {text}"
            return EnvError(f"{self.id} could not be made: {what}")
        where = f"in {call} of environment {self.start + error['index']} at step {step}"
        if kind == "unfit":
            return EnvError(f"{self.id} returned what does not fit {where}: {text}.")
        return EnvError(f"{self.id} raised {kind} {where}{error['place']}: {text}")

    def close(self) -> None:
        """Has it close its environments and end, for a while."""
        with contextlib.suppress(OSError, ParlError):
            self.send("close")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(CLOSING)
        self.kill()

    def kill(self) -> None:
        """Ends it at once."""
        self.process.kill()
        self.process.wait()
        self.lines.close()
        self.channel.close()
        self.file.close()


class InterpreterEnv(gymnasium.Env):
    """One environment of an interpreter; a vector of them is stepped at once."""

    def __init__(self, interpreter: Interpreter, index: int, found: dict[str, Any]):
        self.interpreter, self.index = interpreter, index
        self.observation_space = space_of(found["observation"])
        self.action_space = space_of(found["action"])
        self.spec: Any = SimpleNamespace(id=interpreter.id, max_episode_steps=found["max_steps"])

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        info = self.interpreter.ask("reset", self.index, seed)["info"]
        return self.interpreter.memory.read("observation", self.index), info

    def step(self, action: Any) -> Any:
        raise EnvError(f"{self.interpreter.id} is stepped as a vector.")

    def has_wrapper_attr(self, name: str) -> bool:
        return self.interpreter.ask("has", self.index, name)["has"]

    def get_wrapper_attr(self, name: str) -> Any:
        if name == "set_parameters":
            return lambda **given: self.interpreter.ask("change", self.index, given)
        return self.interpreter.ask("has", self.index, name)["number"]

    def set_wrapper_attr(self, name: str, value: Any, *, force: bool = True) -> bool:
        self.interpreter.ask("change", self.index, {name: value})
        return True


class InterpreterVectorEnv(GymnasiumVectorEnv):
    """B environments of an interpreter behind the VectorEnv protocol."""

    def __init__(
        self,
        interpreter: Interpreter,
        name: str,
        arguments: dict[str, Any],
        num_envs: int,
        seed: int,
        start: int,
    ):
        self.interpreter = interpreter
        self.posted = False  # whether a step has begun
        found = interpreter.make(name, arguments)
        rows = iter([InterpreterEnv(interpreter, i, found) for i in range(num_envs)])
        super().__init__(lambda: next(rows), num_envs, seed, interpreter.id, start=start)

    @property
    def infos(self) -> list[Any]:
        return self.interpreter.ask("told")["infos"]

    def post(self, action: Any) -> None:
        """Begins a step, which `step` with the same actions ends."""
        self.interpreter.memory.whole("action")[...] = self._split(
            self._checked(np.asarray(action))
        )
        self.interpreter.send("step")
        self.posted = True

    def _results(self, action: Any) -> list[Any]:
        if not self.posted:
            self.post(action)
        self.posted = False
        masks = dict(self.interpreter.answer("step", step=self._steps).get("masks", ()))
        memory = self.interpreter.memory
        reward, flags = memory.whole("reward").tolist(), memory.whole("flags").tolist()
        mask = lambda i: {"action_mask": masks[i]} if i in masks else {}
        return [
            (memory.read("observation", i), reward[i], *flags[i], mask(i))
            for i in range(self.num_envs)
        ]

    def close(self) -> None:
        self.interpreter.close()


class Beside:
    """An interpreter with some of the environments, as one of a vector's parts."""

    def __init__(self, rows: Rows, part: slice, id: str, deadline: float | None):
        self.steps = self.deaths = 0
        self.make: Callable[[], Any] = functools.partial(rows, part.stop - part.start, part.start)
        self.deadline = deadline
        self.env: InterpreterVectorEnv | None = None
        self.asked: tuple[str, Any] = ("make", None)

    def send(self, call: str, argument: Any) -> None:
        self.asked = call, argument
        if call == "step":
            assert self.env is not None
            self.env.post(argument)

    def answer(self, more: float = 0.0) -> Any:
        if self.env is None:
            env: InterpreterVectorEnv = self.make()
            env.interpreter.deadline = self.deadline
            self.env = env
            return None
        return performed(self.env, *self.asked)

    def ask(self, call: str, argument: Any) -> Any:
        self.send(call, argument)
        return self.answer()

    def dismiss(self) -> None:
        if self.env is not None:
            with contextlib.suppress(OSError, ParlError):
                self.env.interpreter.send("close")

    def kill(self) -> None:
        if self.env is not None:
            self.env.interpreter.kill()

    def end(self) -> None:
        if self.env is not None:
            self.env.close()
