"""PettingZoo environments, parallel and turn-based, as Teams."""

import copy
import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np
from pettingzoo import AECEnv, ParallelEnv

from parl.core.errors import EnvError, MissingPackage, nearest
from parl.envs import ids
from parl.envs.adapters.gymnasium_team import Team, flattener, mask_in, numbers

Flags = set[Any]  # names of agents

# Extras of PettingZoo that hold what the modules of a family need.
_EXTRAS = ("classic", "butterfly", "sisl", "atari")


def make_pettingzoo(id: str, /, parallel: bool | None = None, **kwargs: Any) -> Callable[[], Team]:
    """A maker of the environment in a module, 'mpe2.simple_spread_v3' or one of the user's own.

    Such a module has the functions parallel_env and env, as PettingZoo's modules do. `parallel`
    asks for one of the two forms; None takes the parallel one where there is one. Keyword arguments
    go to the function. Raises EnvError for a module or form that does not exist, MissingPackage for
    one that needs something else.
    """
    path = id.removeprefix("pz:")
    if parallel not in (None, True, False):
        raise EnvError(f"{id}: parallel is True or False, not {parallel!r}.")
    module = find_module(path)
    forms = {None: ("parallel_env", "env"), True: ("parallel_env",), False: ("env",)}[parallel]
    form = next((form for form in forms if hasattr(module, form)), None)
    if form is None and parallel and hasattr(module, "env"):
        raise EnvError(
            f"{path} has no parallel form: its agents take turns (AEC), which needs an algorithm "
            "for turn-based games."
        )
    if form is None:
        raise EnvError(f"{path} is not a PettingZoo environment: it has no function {forms[0]}.")
    return functools.partial(make, path, form, kwargs)


def make(path: str, form: str, kwargs: dict[str, Any]) -> Team:
    """The Team around what a function of a module makes."""
    id = f"pz:{path}"
    made = getattr(find_module(path), form)
    try:
        env = made(**kwargs)
    except ModuleNotFoundError as error:
        raise missing(id, error) from error
    except Exception as error:
        raise EnvError(f"{id} could not be made: {type(error).__name__}: {error}") from error
    return as_team(env, id)


def as_team(env: Any, id: str | None = None) -> Team:
    """A Team around a PettingZoo environment."""
    if isinstance(env, Team):
        return env
    if isinstance(env, ParallelEnv):
        return ParallelTeam(env, id)
    if isinstance(env, AECEnv):
        return TurnTeam(env, id)
    raise EnvError(f"{type(env).__name__} is not an environment of Gymnasium or PettingZoo.")


def copies_of(env: Any) -> Callable[[], Team]:
    """A maker that copies an existing environment."""

    def copied() -> Team:
        try:
            return as_team(copy.deepcopy(env))
        except TypeError as error:
            raise EnvError(
                f"{name_of(env)} cannot be copied ({error}): give the function that makes it "
                "instead."
            ) from error

    return copied


def find_module(path: str) -> ModuleType:
    """The module of a dotted path. Raises the errors of `make_pettingzoo`."""
    if not ids.MODULE.fullmatch(path):
        raise EnvError(f"'pz:{path}' needs the dotted path of a module: pz:mpe2.simple_spread_v3.")
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        lost = error.name or ""
        if lost != path and not path.startswith(f"{lost}."):
            raise missing(f"pz:{path}", error) from error
        parent, _, name = lost.rpartition(".")
        if parent:
            places = getattr(importlib.import_module(parent), "__path__", [])
            hint = nearest(name, [found.name for found in pkgutil.iter_modules(places)])
            raise EnvError(f"{parent} has no module '{name}'.{hint}") from error
        if lost == path:
            raise EnvError(
                f"there is no module '{path}' with an environment; pz: takes its dotted path, "
                "such as pz:mpe2.simple_spread_v3."
            ) from error
        raise missing(f"pz:{path}", error) from error


def missing(id: str, error: ModuleNotFoundError) -> MissingPackage:
    """The error for an environment that needs another package."""
    family = id.removeprefix("pz:pettingzoo.").partition(".")[0]
    if family not in _EXTRAS:
        return ids.missing(id, error)
    package = f"'pettingzoo[{family}]'"
    return MissingPackage(f"{id} needs a package that is not installed: pip install {package}")


class ZooTeam(Team):
    """Base of both forms: names, spaces, the state, and the agents in the game.

    An agent with a termination is dead and one with a truncation is cut, even if `agents` still
    lists it. One that leaves `agents` without either waits until it is listed again.
    """

    def __init__(self, env: Any, id: str | None, turns: bool, limit: Any = None):
        self.called = id or name_of(env)
        agents = getattr(env, "possible_agents", None)
        if not agents:
            raise EnvError(
                f"{self.called} does not say which agents it may have (possible_agents), so they "
                "cannot be laid out in an array."
            )
        self.env: Any = env
        state_size, informed = self.probe()
        super().__init__(
            self.called,
            agents,
            [env.observation_space(agent) for agent in agents],
            [env.action_space(agent) for agent in agents],
            state_size,
            turns,
            limit if isinstance(limit, int) else None,
        )
        self.informed = informed
        self.over = self.members(())  # [N] whose episode is over
        self.away = self.members(())  # those of them that are not listed any more

    def probe(self) -> tuple[int | None, set[Any]]:
        """What the starts of two episodes show: the size of state(), whose masks are in infos.

        The size is None if there is no state() or it equals all views: in mpe2 it does, and calling
        state() would compute them twice.
        """
        (state, views, informed), (other, other_views, later) = map(self.start, (0, 1))
        informed = informed | later
        if state is None or other is None:
            return None, informed
        same = np.array_equal(state, views) and np.array_equal(other, other_views)
        varies = not np.array_equal(state, other)
        return None if same and varies else state.size, informed

    def start(self, seed: int) -> tuple[np.ndarray | None, np.ndarray, set[Any]]:
        """(state or None, all views after one another, whose masks infos have) at a start."""
        env = self.env
        seen, infos = self.opened(seed, None)
        views = [flattener(env.observation_space(name))[1](seen[name]) for name in seen]
        told = {
            name
            for name in seen
            if mask_in(seen[name], None) is None and mask_in(None, infos.get(name)) is not None
        }
        try:
            return numbers(env.state()), np.concatenate(views), told
        except (NotImplementedError, AttributeError, TypeError):  # RPS raises the last
            return None, np.concatenate(views), told

    def opened(self, seed: int | None, options: Any) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """(observations, infos) of the agents in the game at the start of an episode."""
        raise NotImplementedError  # abstract

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Starts an episode."""
        seen, infos = self.opened(seed, options)
        self.over, self.away = self.members(()), self.members(())
        return self.begin(seen, infos, self.members(seen), self.turn()), {}

    def turn(self) -> np.ndarray | None:
        """[N] bool, the agents to move; None if all move at once."""
        return None

    def seen_by(self, name: Any, obs: Any) -> Any:
        """An agent's observation. Raises EnvError if it is None."""
        if obs is None:
            raise EnvError(
                f"{self.called} gives no observation of {name}, who is in `agents`: all of these "
                "need one, also while others move."
            )
        return obs

    def listed(self) -> np.ndarray:
        """[N] bool, the agents in `agents`. Raises EnvError for an unknown one."""
        if odd := set(self.env.agents) - self.index.keys():
            raise EnvError(f"{self.called}: {min(map(str, odd))} is not one of possible_agents.")
        return self.members(self.env.agents)

    def global_state(self) -> np.ndarray:
        return self.env.state()

    def members(self, names: Any) -> np.ndarray:
        """[N] bool: which agents these are."""
        return np.array([name in names for name in self.names], bool)

    def ended(self, terminations: Any, truncations: Any) -> np.ndarray:
        """[N] bool, agents that were truncated and not terminated; records all that ended."""
        dead, late = (self.members(chosen_by(x)) for x in (terminations, truncations))
        cut = self.alive & late & ~dead
        self.over = self.over | dead | late
        return cut

    def remaining(self) -> np.ndarray:
        """[N] bool, agents still in the game, waiting or not.

        Raises EnvError if a dead one returns.
        """
        listed = self.listed()
        if back := np.flatnonzero(listed & self.away).tolist():
            raise EnvError(
                f"{self.called}: {self.names[back[0]]} died and came back within an episode; an "
                "agent that is to return needs a name of its own, and one that waits leaves "
                "`agents` without a flag."
            )
        self.away = self.away | (self.over & ~listed)
        return (self.alive | listed) & ~self.over

    def close(self) -> None:
        """Closes the environment."""
        self.env.close()


class ParallelTeam(ZooTeam):
    """A PettingZoo environment whose agents all act at once.

    An agent is alive while it is in the game; its last reward comes with the step in which it dies.
    A waiting agent is alive, and its only legal action is 0, which is not passed on.
    """

    def __init__(self, env: ParallelEnv, id: str | None = None):
        super().__init__(env, id, turns=False, limit=getattr(env.unwrapped, "max_cycles", None))

    def opened(self, seed: int | None, options: Any) -> tuple[dict[Any, Any], dict[Any, Any]]:
        answer = self.env.reset(seed=seed, options=options)
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise EnvError(
                f"{self.called}: reset must return (observations, infos), not "
                f"{type(answer).__name__}; the environment speaks an older PettingZoo."
            )
        if not self.env.agents:
            raise EnvError(f"{self.called} starts an episode with nobody in `agents`.")
        seen, infos = answer
        return {name: self.seen_by(name, seen.get(name)) for name in self.env.agents}, infos

    def step(self, action: Any) -> Any:
        """One step of all agents that are in the game."""
        chosen = {name: self.action_of(self.index[name], action) for name in self.env.agents}
        answer = self.env.step(chosen)
        if not isinstance(answer, tuple) or len(answer) != 5:
            raise EnvError(
                f"{self.called}: step must return (observations, rewards, terminations, "
                "truncations, infos); the environment speaks an older PettingZoo."
            )
        seen, rewards, terminations, truncations, infos = answer
        if lost := [name for name in chosen if name in seen and name not in rewards]:
            raise EnvError(
                f"{self.called} shows {lost[0]} an observation and pays it no reward: `rewards` "
                "needs one, of 0 perhaps, for each agent that moved."
            )
        reward = np.array([rewards.get(name, 0.0) for name in self.names], np.float32)
        cut, alive = self.ended(terminations, truncations), self.remaining()
        moving = alive & self.listed()
        for name in self.env.agents:
            if moving[self.index[name]]:
                self.seen_by(name, seen.get(name))
        return self.answer(seen, infos, reward, cut, alive, moving)


class TurnTeam(ZooTeam):
    """A PettingZoo environment whose agents take turns (AEC): `turn` marks the one to move.

    A step is one move, with the rewards that it gave to any agent. Their sum between two moves of
    an agent is what `last()` returns, even if it does not move again. After a truncated game the
    turn is that of the next agent in line.
    """

    def __init__(self, env: AECEnv, id: str | None = None):
        super().__init__(env, id, turns=True)

    def opened(self, seed: int | None, options: Any) -> tuple[dict[Any, Any], dict[Any, Any]]:
        self.env.reset(seed=seed, options=options)
        if not self.env.agents:
            raise EnvError(f"{self.called} starts an episode with nobody in `agents`.")
        return {name: self.observe(name) for name in self.env.agents}, self.env.infos

    def turn(self) -> np.ndarray:
        return self.members({self.env.agent_selection})

    def observe(self, name: Any) -> Any:
        """An agent's observation."""
        return self.seen_by(name, self.env.observe(name))

    def step(self, action: Any) -> Any:
        """One move of the agent that has the turn."""
        env, mover = self.env, self.index[self.env.agent_selection]
        before = self.told()
        before[mover] = 0.0  # the mover's sum restarts at its move
        env.step(self.action_of(mover, action))
        reward = (self.told() - before).astype(np.float32)
        terminations, truncations = dict(env.terminations), dict(env.truncations)
        ending = chosen_by(terminations) | chosen_by(truncations)
        seen = {name: self.observe(name) for name in ending}  # before they are removed
        cut = self.ended(terminations, truncations)
        living = [name for name in env.agents if not self.over[self.index[name]]]
        if living:
            self.bury()
        seen |= {name: self.observe(name) for name in living}
        alive = self.remaining()
        turn = self.turn() if living else self.next_in_line(mover, cut)
        return self.answer(seen, env.infos, reward, cut, alive, alive & turn, turn)

    def told(self) -> np.ndarray:
        """[N] cumulative rewards that `last()` would return."""
        paid = self.env._cumulative_rewards
        return np.array([paid.get(name, 0.0) for name in self.names], np.float64)

    def bury(self) -> None:
        """Removes agents whose episode is over, each by one step with the action None."""
        env = self.env
        for _ in self.names:
            if not self.over[self.index[env.agent_selection]]:
                return
            env.step(None)
        if self.over[self.index[env.agent_selection]]:
            raise EnvError(
                f"{self.called} gives the turn to {env.agent_selection}, whose episode is over, "
                "again and again: its step must take such an agent out of `agents`."
            )

    def next_in_line(self, mover: int, who: np.ndarray) -> np.ndarray:
        """[N] bool, the next agent after the mover among `who` [N] bool, if any."""
        turn = np.zeros_like(who)
        if who.any():
            turn[(mover + 1 + np.roll(who, -mover - 1).argmax()) % len(who)] = True
        return turn


def name_of(env: Any) -> str:
    """The name of an environment: its metadata's, else its class name."""
    metadata = getattr(env, "metadata", None)
    found = metadata.get("name") if isinstance(metadata, Mapping) else None
    return str(found or type(getattr(env, "unwrapped", env)).__name__)


def chosen_by(flags: Mapping[Any, bool]) -> Flags:
    """The names whose flag is set."""
    return {name for name, flag in flags.items() if flag}
