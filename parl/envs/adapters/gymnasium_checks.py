"""Checks of Gymnasium environments, with one sentence for each fault."""

import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from parl.core.errors import EnvError, ParlError, told
from parl.core.spec import Box, Space
from parl.envs.own import is_pure, name_of
from parl.envs.team import is_pettingzoo

# What an environment may raise: also sys.exit in it must not end the run unsaved.
FAILURES = (Exception, SystemExit)
# Environments that some vector has, by their address: none of them may be in a second place.
IN_USE: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
REPORTED: set[str] = set()  # ids of environments whose values outside their space were told

Bounds = tuple[tuple[str, ...], Any, Any]  # (path, low and high [*O] or numbers)


class MadeOther(EnvError):
    """A maker of one Gymnasium environment made something else."""

    def __init__(self, sentence: str, env: Any):
        super().__init__(sentence)
        self.env = env


class MadeVector(MadeOther):
    """It made a vector of them."""


class MadeJax(MadeOther):
    """It made a pure JAX environment."""


def made(make: Callable[[], Any], id: str | None) -> Any:
    """What `make` makes, if that is one new environment. Raises EnvError."""
    name = id or name_of(make) or "a lambda"
    try:
        env = make()
    except ParlError:
        raise
    except FAILURES as error:
        hint = ""
        if isinstance(error, TypeError) and "argument" in str(error):
            hint = "; give a function without arguments that makes it, such as a lambda"
        raise EnvError(f"{name} could not be made: {told(error)}{hint}") from error
    if isinstance(env, gymnasium.vector.VectorEnv):
        raise MadeVector(f"{name} makes a vector of environments.", env)
    if is_pure(env):
        raise MadeJax(f"{name} makes a pure JAX environment.", env)
    if not isinstance(env, gymnasium.Env) and not is_pettingzoo(env):
        raise EnvError(
            f"{name} makes {env!r:.60}, which is not an environment: it must be a gymnasium.Env, "
            "one of PettingZoo, or a pure JAX environment, whose spec is a parl.EnvSpec."
        )
    game = env.unwrapped
    if IN_USE.get(id_of(game)) is game:
        raise EnvError(
            f"{name} gives the same environment again: it has to make a new one at each call."
        )
    IN_USE[id_of(game)] = game
    return env


id_of = id  # the name is an argument elsewhere


def check_spaces(env: Any, name: str) -> None:
    """Raises EnvError for an environment of Gymnasium that has no spaces."""
    for which in ("observation_space", "action_space"):
        space = getattr(env, which, None)
        if not isinstance(space, spaces.Space):
            what = "no" if space is None else f"{space!r} as its"
            raise EnvError(
                f"{name} has {what} {which}: set self.{which} to one of gymnasium.spaces in "
                "__init__."
            )


def reset_answer(answer: Any, name: str) -> tuple[Any, dict[str, Any]]:
    """(observation, info) of a reset. Raises EnvError for anything else."""
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise EnvError(
            f"{name} returned {described(answer)} from reset, which has to return two values: the "
            "observation and a dict of info."
        )
    if not isinstance(answer[1], dict):
        raise EnvError(
            f"{name} returned the info {answer[1]!r:.60} from reset: it has to be a dict, "
            "{} where there is nothing to tell."
        )
    return answer


def unzipped(results: Sequence[Any], name: str) -> tuple[Any, ...]:
    """(observations, rewards, terminations, truncations, infos) of B steps; raises EnvError."""
    try:
        values, rewards, terminations, truncations, infos = zip(*results, strict=True)
        return values, rewards, terminations, truncations, infos
    except (TypeError, ValueError) as error:
        for index, result in enumerate(results):
            if not isinstance(result, tuple | list) or len(result) != 5:
                hint = ""
                if isinstance(result, tuple | list) and len(result) == 4:
                    hint = " (the four of old Gym have one flag in place of the two)"
                raise EnvError(
                    f"{name} returned {described(result)} from step of environment {index}, which "
                    "has to return five values: observation, reward, terminated, truncated and "
                    f"info{hint}."
                ) from error
        raise


def described(answer: Any) -> str:
    """What kind of thing was returned."""
    if answer is None:
        return "None"
    if isinstance(answer, tuple | list):
        return f"{len(answer)} values"
    return f"one value, {type(answer).__name__},"


def rewards_of(rewards: Sequence[Any], shape: tuple[int, ...], name: str) -> np.ndarray:
    """[B, *shape] float32. Raises EnvError for what is not one number for each."""
    with suppress(ValueError):  # shapes that differ, or more numbers than there are agents
        array = np.array(rewards)
        if array.dtype.kind in "biuf":
            return array.astype(np.float32, copy=False).reshape(len(rewards), *shape)
    due = f"{shape[0]} numbers" if shape else "a number"
    for index, reward in enumerate(rewards):
        try:
            one = np.array(reward)
        except ValueError:
            one = np.array(None)
        if one.dtype.kind not in "biuf" or one.size != int(np.prod(shape)):
            raise EnvError(
                f"{name} returned the reward {reward!r:.60} in environment {index}: it has to be "
                f"{due}."
            )
    raise EnvError(f"{name} returned rewards of several shapes: each has to be {due}.")


def flags_of(flags: Sequence[Any], what: str, name: str) -> np.ndarray:
    """[B] bool. Raises EnvError for what is not True or False."""
    try:
        array = np.array(flags)
    except ValueError:
        array = np.array(None)
    if array.ndim == 1 and array.dtype == bool:
        return array
    if array.ndim == 1 and array.dtype.kind in "iuf" and np.isin(array, (0, 1)).all():
        return array != 0
    good = lambda flag: np.ndim(flag) == 0 and flag in (0, 1)
    index = next((i for i, flag in enumerate(flags) if not good(flag)), 0)
    raise EnvError(
        f"{name} returned {what} {flags[index]!r:.60} in environment {index}: it has to be True "
        "or False."
    )


def finite_bounds(space: Space, path: tuple[str, ...] = ()) -> Iterator[Bounds]:
    """The boxes of a space of which some component has a finite bound."""
    if isinstance(space, dict):
        for name, part in space.items():
            yield from finite_bounds(part, (*path, name))
    elif isinstance(space, Box) and space.dtype == "float32":
        low, high = np.float32(space.low), np.float32(space.high)
        if np.isfinite(low).any() or np.isfinite(high).any():
            yield path, low, high


def outside(obs: Any, bounds: Sequence[Bounds], name: str, step: int) -> str:
    """A sentence on numbers that lie outside their box; empty where none do."""
    for path, low, high in bounds:
        part = obs
        for key in path:
            part = part[key]
        if (part < low).any() or (part > high).any():
            wrong = (part < low) | (part > high)
            place = f" '{'/'.join(path)}'" if path else ""
            return (
                f"{name} gives observations{place} outside their space: {wrong.sum()} of "
                f"{wrong.size} numbers at step {step}, such as {part[wrong][0]:.6g}; they are used "
                "as they are."
            )
    return ""


def warn_once(name: str, sentence: str) -> None:
    """Says it on stderr, if nothing was said of this environment before."""
    if name not in REPORTED:
        REPORTED.add(name)
        print(f"WARNING: {sentence}", file=sys.stderr)
