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
from parl.envs.gymnasium_team import Team, flattener, numbers

Flags = set[Any]  # names of agents

# Extras of PettingZoo that hold what the modules of a family need.
_EXTRAS = ("classic", "butterfly", "sisl", "atari")


def make_pettingzoo(id: str, parallel: bool | None = None, **kwargs: Any) -> Callable[[], Team]:
    """A maker of the environment in a module, 'mpe2.simple_spread_v3' or one of the user's own.

    Such a module has the functions parallel_env and env, as PettingZoo's modules do. `parallel`
    asks for one of the two forms; None takes the parallel one where there is one. Keyword arguments
    go to the function. Raises EnvError for a module or form that does not exist, MissingPackage for
    one that needs something else.
    """
    path = id.removeprefix("pz:")
    module = find_module(path)
    forms = {None: ("parallel_env", "env"), True: ("parallel_env",), False: ("env",)}[parallel]
    form = next((form for form in forms if hasattr(module, form)), None)
    if form is None and parallel and hasattr(module, "env"):
        raise EnvError(
            f"{path} has no parallel form: its agents take turns (AEC), which needs an algorithm "
            "for turn-based games."
        )
    if form is None:
        raise EnvError(f"{path} is no environment of PettingZoo: it has no function {forms[0]}.")
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
    raise EnvError(f"{env!r} is no environment of Gymnasium or PettingZoo.")


def copies_of(env: Any) -> Callable[[], Team]:
    """A maker of copies of an environment that is made already."""

    def copied() -> Team:
        try:
            return as_team(copy.deepcopy(env))
        except TypeError as error:
            raise EnvError(
                f"{env} cannot be copied ({error}): give the function that makes it instead."
            ) from error

    return copied


def find_module(path: str) -> ModuleType:
    """The module of a dotted path; raises as `make_pettingzoo` says."""
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
    package = f"'pettingzoo[{family}]'" if family in _EXTRAS else (error.name or "").split(".")[0]
    return MissingPackage(f"{id} needs a package that is not installed: pip install {package}")


class ZooTeam(Team):
    """What both forms share: names, spaces, the state, and that the dead stay dead."""

    def __init__(self, env: Any, id: str | None, turns: bool, limit: Any = None):
        name = id or str(env)
        agents = getattr(env, "possible_agents", None)
        if not agents:
            raise EnvError(
                f"{name} does not say which agents it may have (possible_agents), so they cannot "
                "be laid out in an array."
            )
        self.env: Any = env
        self.left: set[Any] = set()  # agents that were in this episode and are not any more
        super().__init__(
            name,
            agents,
            [env.observation_space(agent) for agent in agents],
            [env.action_space(agent) for agent in agents],
            self.probe_state(),
            turns,
            limit if isinstance(limit, int) else None,
        )

    def probe_state(self) -> int | None:
        """The size of the environment's state(), None if it has none or one that is all views.

        mpe2's is: it would compute every view a second time.
        """
        (state, views), (other, other_views) = (self.start(seed) for seed in (0, 1))
        if state is None or other is None:
            return None
        same = np.array_equal(state, views) and np.array_equal(other, other_views)
        varies = not np.array_equal(state, other)
        return None if same and varies else state.size

    def start(self, seed: int) -> tuple[np.ndarray | None, np.ndarray]:
        """(state or None, all views after one another) at the start of an episode."""
        env = self.env
        seen = env.reset(seed=seed)
        seen = {name: env.observe(name) for name in env.agents} if seen is None else seen[0]
        views = [flattener(env.observation_space(name))[1](seen[name]) for name in seen]
        try:
            return numbers(env.state()), np.concatenate(views)
        except (NotImplementedError, AttributeError, TypeError):  # RPS raises the last
            return None, np.concatenate(views)

    def global_state(self) -> np.ndarray:
        return self.env.state()

    def members(self, names: Any) -> np.ndarray:
        """[N] bool: which agents these are."""
        return np.array([name in names for name in self.names], bool)

    def leave(self, before: Flags, now: Flags) -> None:
        """Notes who has left the game; raises EnvError where somebody comes back."""
        self.left |= before - now
        if back := self.left & now:
            raise EnvError(
                f"{self.team.id}: {min(map(str, back))} died and came back within an episode; an "
                "agent that is to return needs a name of its own."
            )

    def close(self) -> None:
        """Closes the environment."""
        self.env.close()


class ParallelTeam(ZooTeam):
    """A PettingZoo environment whose agents all act at once.

    An agent is alive while it is in the game; the step in which it dies is its last and has its
    last reward.
    """

    def __init__(self, env: ParallelEnv, id: str | None = None):
        super().__init__(env, id, turns=False, limit=getattr(env.unwrapped, "max_cycles", None))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Starts an episode."""
        seen, infos = self.env.reset(seed=seed, options=options)
        self.left = set()
        return self.present(seen, infos), {}

    def present(self, seen: dict[Any, Any], infos: dict[Any, Any]) -> dict[str, np.ndarray]:
        """The observation of who is in the game; the last views of the dead are left out."""
        agents = self.env.agents
        return self.look({name: seen[name] for name in agents}, infos, self.members(agents))

    def step(self, action: Any) -> Any:
        """One step of all agents that are in the game."""
        before = set(self.env.agents)
        chosen = {name: self.action_of(self.index[name], action) for name in self.env.agents}
        seen, rewards, terminations, truncations, infos = self.env.step(chosen)
        reward = np.array([rewards.get(name, 0.0) for name in self.names], np.float32)
        now = set(self.env.agents)
        self.leave(before | chosen_by(terminations) | chosen_by(truncations), now)
        if now:
            return self.present(seen, infos), reward, False, False, {}
        cut = chosen_by(truncations) - chosen_by(terminations)
        obs = self.look(seen, infos, self.members(cut or before), final=True)
        return obs, reward, not cut, bool(cut), {}


class TurnTeam(ZooTeam):
    """A PettingZoo environment whose agents take turns (AEC): `turn` tells who moves.

    A step is one move. Its rewards are those that the move gave to any agent, at once: their sum
    between two moves of an agent is what `last()` tells it, also where it does not move again.
    """

    def __init__(self, env: AECEnv, id: str | None = None):
        super().__init__(env, id, turns=True)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Starts an episode."""
        self.env.reset(seed=seed, options=options)
        self.left = set()
        return self.present(), {}

    def step(self, action: Any) -> Any:
        """One move of who has the turn."""
        env, before = self.env, self.living()
        env.step(self.action_of(self.index[env.agent_selection], action))
        reward = np.array([env.rewards.get(name, 0.0) for name in self.names], np.float32)
        terminated, truncated = chosen_by(env.terminations), chosen_by(env.truncations)
        last = {name: env.observe(name) for name in terminated | truncated}
        self.bury()
        self.leave(before | terminated | truncated, self.living())
        if env.agents:
            return self.present(), reward, False, False, {}
        cut = truncated - terminated
        nobody = np.zeros(len(self.names), bool)
        obs = self.look(last, {}, self.members(cut or before), nobody, final=True)
        return obs, reward, not cut, bool(cut), {}

    def living(self) -> Flags:
        """Who is in the game and not about to leave it."""
        dead = chosen_by(self.env.terminations) | chosen_by(self.env.truncations)
        return set(self.env.agents) - dead

    def bury(self) -> None:
        """Takes the dead out of the game: each has one empty step to make."""
        env = self.env
        while env.agents and env.agent_selection not in self.living():
            env.step(None)

    def present(self) -> dict[str, np.ndarray]:
        """The observation of who is in the game."""
        env, living = self.env, self.living()
        seen = {name: env.observe(name) for name in living}
        turn = self.members({env.agent_selection})
        return self.look(seen, env.infos, self.members(living), turn)


def chosen_by(flags: Mapping[Any, bool]) -> Flags:
    """The names whose flag is set."""
    return {name for name, flag in flags.items() if flag}
