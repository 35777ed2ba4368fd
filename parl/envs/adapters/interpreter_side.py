"""Steps environments in an interpreter that has NumPy and Gymnasium, and neither PARL nor JAX.

Run there as a script: FILE SOCKET MEMORY PARENT, the descriptors of a socket and of a file, and the
id of the process that asks. Requests and answers are lines of JSON on the socket; observations,
actions, rewards and flags lie in the memory. `describe` and `columns` are what both sides share.
Python 3.8 is enough, and Gym 0.26 in place of Gymnasium.
"""
# ruff: noqa: UP006, UP035

import importlib
import json
import mmap
import os
import signal
import socket
import sys
import threading
import time
import traceback
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

HEADER = 64  # bytes in front of the columns: a count of environments made, reset and stepped
SIGN = 0.25  # seconds between two looks at whether the parent is there

if __name__ == "__main__":
    sys.path[0] = ""  # the folder of this file has modules of Gymnasium's name
    sys.path.append(sys.path.pop(0))
try:
    import numpy as np

    try:
        import gymnasium
    except ImportError:
        if __name__ != "__main__":
            raise
        import gym as gymnasium  # type: ignore[no-redef]
except ImportError as error:
    if __name__ != "__main__":
        raise
    told = {"error": {"kind": "missing", "text": str(error.name)}}
    socket.socket(fileno=int(sys.argv[1])).sendall(json.dumps(told).encode() + b"\n")
    sys.exit(0)


class Unfit(ValueError):
    """What an environment returned does not fit its space or its interface."""


class Column(NamedTuple):
    """Numbers of all environments in the memory: [B, *shape] of a dtype, at an offset in bytes."""

    part: str  # observation, action, reward, or flags
    path: Tuple[Any, ...]  # keys from the whole observation or action inwards
    shape: Tuple[int, ...]
    dtype: str
    offset: int


def describe(space: Any, numbers: Callable[[Any], Any]) -> Dict[str, Any]:
    """A space as JSON, with what `numbers` makes of arrays of bounds.

    Raises Unfit for one without a fixed shape.
    """
    names = {kind.__name__ for kind in type(space).__mro__}
    kind = {"type": type(space).__name__}
    if "Box" in names:
        low = np.where(space.bounded_below, space.low.astype(object), -np.inf)
        high = np.where(space.bounded_above, space.high.astype(object), np.inf)
        bounds = {"low": numbers(low), "high": numbers(high)}
        return {**kind, **bounds, "shape": list(space.shape), "dtype": str(space.dtype)}
    if "Discrete" in names:
        return {**kind, "n": int(space.n), "start": int(getattr(space, "start", 0))}
    if "MultiDiscrete" in names:
        start = np.broadcast_to(getattr(space, "start", 0), space.shape).tolist()
        dtype = str(space.dtype)
        return {**kind, "nvec": space.nvec.tolist(), "start": start, "dtype": dtype}
    if "MultiBinary" in names:
        return {**kind, "n": space.n if isinstance(space.n, int) else list(space.shape)}
    if "Dict" in names:
        return {**kind, "parts": [[k, describe(x, numbers)] for k, x in space.spaces.items()]}
    if "Tuple" in names:
        return {**kind, "parts": [describe(part, numbers) for part in space.spaces]}
    raise Unfit(f"{type(space).__name__} spaces have no fixed shape and are not supported.")


def plain_numbers(array: Any) -> Any:
    """One number if all are equal, else nested lists."""
    flat = array.ravel()
    return flat[:1].tolist()[0] if flat.size and (flat == flat[0]).all() else array.tolist()


def leaves(space: Dict[str, Any], path: Tuple[Any, ...] = ()) -> List[Tuple[Any, Any, str]]:
    """(path, shape, dtype) of each array in a described space."""
    kind = space["type"]
    if kind == "Dict":
        return [leaf for key, part in space["parts"] for leaf in leaves(part, (*path, key))]
    if kind == "Tuple":
        return [x for key, part in enumerate(space["parts"]) for x in leaves(part, (*path, key))]
    if kind == "Box":
        return [(path, tuple(space["shape"]), space["dtype"])]
    if kind == "Discrete":
        return [(path, (), "int64")]
    if kind == "MultiDiscrete":
        return [(path, np.shape(space["nvec"]), space["dtype"])]
    return [(path, tuple(np.atleast_1d(space["n"]).tolist()), "int8")]


def columns(spaces: Dict[str, Any], num_envs: int) -> Tuple[List[Column], int]:
    """What lies where in the memory, and its size in bytes."""
    wanted = [(part, *leaf) for part in ("observation", "action") for leaf in leaves(spaces[part])]
    wanted += [("reward", (), (), "float64"), ("flags", (), (2,), "bool")]
    found, offset = [], HEADER
    for part, path, shape, dtype in wanted:
        found.append(Column(part, path, shape, dtype, offset))
        size = num_envs * int(np.prod(shape)) * np.dtype(dtype).itemsize
        offset += -(-size // HEADER) * HEADER
    return found, offset


class Memory:
    """The shared memory as arrays [B, *shape]."""

    def __init__(self, file: int, found: List[Column], num_envs: int, size: int):
        whole = mmap.mmap(file, size)
        self.beats = memoryview(whole)[:8].cast("Q")  # [1], those made, reset and stepped so far
        self.parts: Dict[str, List[Tuple[Any, Any]]] = {}
        for part, path, shape, dtype, offset in found:
            count = num_envs * int(np.prod(shape))
            array = np.frombuffer(whole, dtype, count, offset).reshape((num_envs, *shape))
            self.parts.setdefault(part, []).append((path, array))

    def whole(self, part: str) -> Any:
        """The only array of a part."""
        return self.parts[part][0][1]

    def read(self, part: str, index: int) -> Any:
        """The value of one environment: an array, a number, or nested dicts of them by their keys.

        Arrays are views of the memory.
        """
        made: Any = {}
        for path, array in self.parts[part]:
            if not path:
                return array[index]
            place = made
            for key in path[:-1]:
                place = place.setdefault(key, {})
            place[path[-1]] = array[index]
        return made

    def write(self, part: str, index: int, value: Any) -> None:
        """Stores the value of one environment. Raises Unfit for what does not fit its space."""
        for path, array in self.parts[part]:
            x = value
            for key in path:
                try:
                    x = x[key]
                except (KeyError, IndexError, TypeError):
                    raise Unfit(f"the {part} lacks the entry '{key}'") from None
            x = np.asarray(x)
            if x.dtype.kind not in "biuf":
                raise Unfit(f"the {part} is {value!r:.60}, not numbers")
            if x.shape != array.shape[1:]:
                due = array.shape[1:]
                raise Unfit(f"the {part} has the shape {x.shape} instead of {due}")
            if x.dtype != array.dtype and array.dtype.kind != "f":
                wrong = x.astype(array.dtype) != x
                if wrong.any():
                    odd = x[wrong].flat[0]
                    raise Unfit(f"the {part} holds {odd}, which is no {array.dtype}")
            array[index] = x


class Host:
    """Answers requests: each of its public methods is one."""

    def __init__(self, file: int):
        self.file, self.memory = file, Memory(file, [], 0, HEADER)
        self.envs: List[Any] = []
        self.infos: List[Any] = []  # of the last step
        self.index = 0  # of the environment at work

    def make(self, id: str, arguments: Dict[str, Any], num_envs: int) -> Dict[str, Any]:
        """Makes the environments; their spaces, and their time limit in steps."""
        for _ in range(num_envs):
            self.envs.append(made(id, arguments))
            self.memory.beats[0] += 1
        self.infos = [{}] * num_envs
        env = self.envs[0]
        found = {
            "observation": describe(env.observation_space, plain_numbers),
            "action": describe(env.action_space, plain_numbers),
        }
        if found["action"]["type"] in ("Dict", "Tuple"):
            return found  # which is refused
        layout, size = columns(found, num_envs)
        os.ftruncate(self.file, size)
        self.memory = Memory(self.file, layout, num_envs, size)
        limit = env.spec.max_episode_steps if env.spec else None
        return dict(found, max_steps=limit)

    def reset(self, index: int, seed: Any) -> Dict[str, Any]:
        """Starts an episode of one environment; its info."""
        self.index = index
        answer = self.envs[index].reset(seed=seed)
        self.memory.beats[0] += 1
        if not isinstance(answer, tuple) or len(answer) != 2 or not isinstance(answer[1], dict):
            raise Unfit("reset has to return two values: the observation and a dict of info")
        self.memory.write("observation", index, answer[0])
        return {"info": plain(answer[1])}

    def step(self) -> Dict[str, Any]:
        """One step of all with the actions in the memory; their masks, where they tell some."""
        memory, masks = self.memory, []
        actions = memory.whole("action").copy()
        actions = actions.tolist() if actions.ndim == 1 and actions.dtype.kind == "i" else actions
        rewards, flags = [], []
        for index, env in enumerate(self.envs):
            self.index = index
            answer = env.step(actions[index])
            memory.beats[0] += 1
            if not isinstance(answer, (tuple, list)) or len(answer) != 5:
                raise Unfit(
                    "step has to return five values: observation, reward, terminated, truncated "
                    "and info"
                )
            value, reward, terminated, truncated, info = answer
            memory.write("observation", index, value)
            rewards.append(reward)
            flags.append((terminated, truncated))
            self.infos[index] = info
            if isinstance(info, dict) and "action_mask" in info:
                masks.append([index, np.ravel(info["action_mask"]).tolist()])
        self.write_all("reward", rewards)
        self.write_all("flags", flags)
        return {"masks": masks} if masks else {}

    def write_all(self, part: str, values: List[Any]) -> None:
        """Stores a reward, or flags, of each environment. Raises Unfit."""
        array = self.memory.whole(part)
        try:
            given = np.array(values)
        except ValueError:  # of several shapes
            given = np.array(None)
        if given.shape == array.shape and np.can_cast(given.dtype, array.dtype, "safe"):
            array[...] = given
            return
        for index, value in enumerate(values):
            self.index = index
            one = np.asarray(value)
            fits = one.dtype.kind in "biuf" and one.size == array[0].size
            one = one.reshape(array.shape[1:]) if fits else value
            self.memory.write(part, index, one)

    def told(self) -> Dict[str, Any]:
        """The numbers in what each environment told at the last step."""
        return {"infos": [plain(info) for info in self.infos]}

    def has(self, index: int, name: str) -> Dict[str, Any]:
        """Whether an environment has a parameter, and its number."""
        value = attribute(self.envs[index], name)
        return {"has": value is not None, "number": number(value)}

    def change(self, index: int, parameters: Dict[str, Any]) -> Dict[str, Any]:
        """Sets parameters of an environment."""
        self.index = index
        env = self.envs[index]
        own = attribute(env, "set_parameters")
        if callable(own):
            own(**parameters)
            return {}
        for name, value in parameters.items():
            while not hasattr(env, name):  # the layer that has it
                env = env.env
            setattr(env, name, value)
        return {}

    def close(self) -> Dict[str, Any]:
        """Closes all."""
        for env in self.envs:
            env.close()
        return {}


def made(id: str, arguments: Dict[str, Any]) -> Any:
    """The environment of an id, or of what 'module:name' names."""
    module, _, name = id.rpartition(":")
    own = getattr(importlib.import_module(module), name, None) if module else None
    if own is not None:
        return own(**arguments)
    return gymnasium.make(id, disable_env_checker=True, **arguments)


def attribute(env: Any, name: str) -> Any:
    """An attribute of an environment or of what it wraps; None where there is none."""
    while not hasattr(env, name) and hasattr(env, "env"):
        env = env.env
    return getattr(env, name, None)


def number(value: Any) -> Any:
    """A single number as JSON has it, None for anything else."""
    if isinstance(value, (bool, int, float)):
        return value
    if (
        isinstance(value, (np.ndarray, np.generic))
        and value.size == 1
        and value.dtype.kind in "biuf"
    ):
        return value.item()
    return None


def plain(info: Any) -> Dict[str, Any]:
    """The numbers of an info and of the infos in it, and its mask of actions."""
    found = {}
    for name, value in info.items() if isinstance(info, dict) else ():
        if name == "action_mask":
            found[name] = np.ravel(value).tolist()
        elif isinstance(value, dict):
            found[str(name)] = plain(value)
        elif number(value) is not None:
            found[str(name)] = number(value)
    return found


def failure(error: BaseException, index: int) -> Dict[str, Any]:
    """What is told of an exception."""
    frames = [(x.filename, x.lineno) for x in traceback.extract_tb(error.__traceback__)]
    frames = [x for x in frames if x[0] != __file__ and not x[0].startswith("<frozen")]
    own = [x for x in frames if "site-packages" not in x[0]]
    lines = str(error).strip().splitlines() or [""]
    found = {"kind": type(error).__name__, "text": lines[0], "index": index, "place": ""}
    if own or frames:
        found["place"] = ", at {}:{}".format(*(own or frames)[-1])
    if isinstance(error, Unfit):
        found["kind"] = "unfit"
    if isinstance(error, ModuleNotFoundError):
        found.update(kind="missing", text=str(error.name))
    return found


def end_with(parent: int) -> None:
    """Ends this process with the one that asks."""
    while os.getppid() == parent:
        time.sleep(SIGN)
    os._exit(1)


def main(channel: int, file: int, parent: int) -> None:
    """Answers until the socket is closed. Signals are the parent's business."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(name, signal.SIG_IGN)
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    host, pipe = Host(file), socket.socket(fileno=channel)
    for line in pipe.makefile("rb"):
        call, arguments = json.loads(line)
        try:
            answer = getattr(host, call)(*arguments)
        except (Exception, SystemExit) as error:
            answer = {"error": failure(error, host.index)}
        pipe.sendall(json.dumps(answer).encode() + b"\n")
        if call == "close":
            return


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
