"""Translates observations and actions of several agents, as dicts by name or tuples."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from parl.core.errors import ConfigError, EnvError, SpaceError, nearest
from parl.core.spec import Discrete, EnvSpec, example
from parl.envs.adapters.gymnasium_json import space_of
from parl.envs.adapters.gymnasium_team import mask_in, seat
from parl.envs.native import Seen, check_finite
from parl.envs.team import only_first, own_actions


class Several:
    """The translator for named agents, or a tuple of them.

    An observation is a dict of the agents in the game, or a tuple of all; with `agent`, it is that
    of this agent alone. In turn-based games only agents with a legal action act.
    """

    def __init__(self, spec: EnvSpec):
        assert spec.native is not None
        self.spec, members = spec, spec.native["agents"]
        self.names = [one["name"] for one in members]
        self.index = {name: i for i, name in enumerate(self.names)}
        self.tuples, self.turns = (spec.native["form"] == x for x in ("tuple", "turns"))
        self.informed = {one["name"] for one in members if one.get("informed")}
        spaces = [(space_of(one["observation"]), space_of(one["action"])) for one in members]
        self.seats = [seat(spec.id, *pair) for pair in spaces]
        self.parts: Any = spec.observation_space
        if isinstance(spec.action_space, Discrete):
            self.own = own_actions([one.action for one in self.seats])  # [N, A]
            self.nothing = only_first(spec.action_space.n)  # [A]

    def observe(self, obs: Any, info: Any = None, agent: Any = None) -> Seen:
        one = agent is not None and not isinstance(agent, list | tuple | set)
        asked: Any = None if agent is None else [agent] if one else list(agent)
        self.check_names(asked or ())
        if one and not self.is_game(obs, agent):
            obs, info = {asked[0]: obs}, info and {asked[0]: info}
        single = not isinstance(obs, list) or (self.tuples and not all_tuples(obs))
        games = [obs] if single else obs
        infos = [info] if single else info or [None] * len(games)
        if not games or len(infos) != len(games):
            raise SpaceError(f"{len(games)} observations for {self.spec.id}, {len(infos)} infos.")
        rows = [self.look(game, told or {}, asked) for game, told in zip(games, infos, strict=True)]
        stacked = {name: np.stack([row[name] for row, _ in rows]) for name in self.parts}
        who = [names[0] if one else names for _, names in rows]
        return Seen(stacked, single, who)

    def look(
        self, game: Any, infos: Mapping[Any, Any], asked: list[Any] | None
    ) -> tuple[dict[str, np.ndarray], list[Any]]:
        """(the networks' observation of one game [N, ...], names of the agents to act)."""
        shown = self.by_name(game)
        obs = {name: example(part, ()) for name, part in self.parts.items()}
        for name, value in shown.items():
            i, one = self.index[name], self.seats[self.index[name]]
            obs["view"][i, : one.size] = self.view(name, value)
            obs["alive"][i] = True
        rows = zip(obs["view"], self.seats, strict=True)
        filled = np.concatenate([row[: one.size] for row, one in rows])
        if filled.size == obs["state"].size:  # else it is the environment's own, for critics
            obs["state"] = filled
        movers = [name for name in asked or shown if self.can_act(shown.get(name), infos.get(name))]
        movers = self.masked(movers, shown, infos)
        if asked and len(movers) < len(asked):
            lost = next(name for name in asked if name not in movers)
            raise SpaceError(f"{lost} of {self.spec.id} has nothing legal to do, or is not shown.")
        if "turn" in obs:
            obs["turn"] = np.array([name in movers for name in self.names])
        if "legal" in obs:
            obs["legal"] = np.tile(self.nothing, (len(self.names), 1))
            for name in movers:
                mask, i = mask_in(shown[name], infos.get(name)), self.index[name]
                obs["legal"][i] = self.own[i]
                if mask is not None:
                    obs["legal"][i, : len(mask)] = mask
        return obs, movers

    def masked(
        self, movers: list[Any], shown: Mapping[Any, Any], infos: Mapping[Any, Any]
    ) -> list[Any]:
        """The movers, each with its mask where the game tells it in `infos`.

        In games by turns those without one are not to move. Raises SpaceError where one is lost.
        """
        needs = self.informed.intersection(movers)
        lost = [x for x in movers if x in needs and mask_in(shown[x], infos.get(x)) is None]
        if lost and not (self.turns and len(lost) < len(movers)):
            raise SpaceError(
                f"{self.spec.id} tells {lost[0]} which actions are legal in its info: give the "
                "infos of its reset or step beside the observation."
            )
        return [name for name in movers if name not in lost]

    def can_act(self, shown: Any, told: Any) -> bool:
        """Whether an agent is in the game and its mask, if any, has a legal action."""
        mask = None if shown is None else mask_in(shown, told)
        return shown is not None and (mask is None or bool(mask.any()))

    def by_name(self, game: Any) -> dict[Any, Any]:
        """The observations by agent name."""
        if isinstance(game, Mapping):
            self.check_names(game)
            return {name: value for name, value in game.items() if value is not None}
        if not self.tuples or not hasattr(game, "__len__") or len(game) != len(self.names):
            kind = f"a tuple of {len(self.names)}" if self.tuples else "a dict by the agents' names"
            raise SpaceError(f"observations of {self.spec.id} are {kind}, not {game!r:.60}.")
        return dict(zip(self.names, game, strict=True))

    def is_game(self, obs: Any, agent: Any) -> bool:
        """Whether an observation is that of the whole game, not of one agent alone."""
        if self.tuples:
            return isinstance(obs, tuple) and len(obs) == len(self.names)
        return isinstance(obs, Mapping) and agent in obs

    def check_names(self, names: Any) -> None:
        """Raises SpaceError for an unknown agent."""
        for name in names:
            if name not in self.index:
                known = ", ".join(map(str, self.names))
                hint = nearest(str(name), map(str, self.names))
                raise SpaceError(f"{self.spec.id} has no agent {name!r}.{hint} Known: {known}.")

    def view(self, name: Any, value: Any) -> np.ndarray:
        """An agent's view [size]."""
        one = self.seats[self.index[name]]
        try:
            view = one.view(value)
        except (EnvError, LookupError, TypeError, ValueError, AssertionError) as error:
            raise SpaceError(f"not an observation of {name} in {self.spec.id}: {error}.") from error
        if view.shape != (one.size,):
            raise SpaceError(
                f"not an observation of {name} in {self.spec.id}: it has {view.size} numbers "
                f"instead of {one.size}."
            )
        check_finite(view, f"of {name} in {self.spec.id}")
        return view

    def answer(self, action: np.ndarray, seen: Seen) -> Any:
        games = [self.decoded(row, who) for row, who in zip(action, seen.asked, strict=True)]
        return games[0] if seen.single else games

    def decoded(self, action: np.ndarray, asked: Any) -> Any:
        """One game's actions [N, ...] in the environment's form."""
        own = lambda name: self.seats[self.index[name]].decode(action[self.index[name]])
        if not isinstance(asked, list):
            return own(asked)
        if self.tuples and asked == self.names:
            return tuple(map(own, asked))
        return {name: own(name) for name in asked}

    def actions(self, taken: Any) -> np.ndarray:
        raise ConfigError(
            f"{self.spec.id} has several agents: train them with parl.train, as a loop of your own "
            "can only act."
        )


def all_tuples(values: Sequence[Any]) -> bool:
    """Whether a list is a batch of games, each a tuple of observations."""
    return all(isinstance(value, tuple) for value in values)
