"""Observations and actions of several agents by their names, as PettingZoo has them.

Axes: N agents, O numbers of the longest view, A actions of the agent that has most.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from parl.core.errors import ArtefactError
from parl.deploy.contract import Contract, Leaf, Member
from parl.deploy.reader import Reader, found

MASK, OBSERVATION = "action_mask", "observation"
ALONE = {"obs.view", "obs.legal"}
SHOWN = {*ALONE, "obs.alive", "obs.turn"}


class Team:
    """Translates the agents' own observations and actions; of one agent alone, its own."""

    def __init__(self, contract: Contract):
        self.members, self.alone = contract.members, contract.values.get("agent")
        self.index = {member.name: i for i, member in enumerate(self.members)}
        shapes = {leaf.name: (0, *leaf.shape) for leaf in contract.leaves}
        needed = {port.name for each in contract.programs.values() for port in each.inputs}
        self.turns = "obs.turn" in shapes
        self.shown = [name for name in shapes if name in needed]
        self.width = shapes.get("obs.view", (0,))[-1]
        self.actions = shapes.get("obs.legal", (0,))[-1]
        self.readers = [list(map(Reader, member.parts)) for member in self.members]
        if not (self.alone is None or self.alone in list(self.index)):
            raise ArtefactError(f"this policy is of {self.alone!r:.40}, which is no agent of it.")
        if "obs.view" in needed and any(
            not 0 < size_of_view(m) <= self.width for m in self.members
        ):
            raise ArtefactError("the agents see more than this policy has room for.")

    def given(self, obs: Any) -> bool:
        """Whether these are the agents' own observations, not the arrays of all."""
        if not set(self.shown) <= (ALONE if self.alone is not None else SHOWN):
            return False  # such as a state, which only the environment knows
        first = obs[0] if is_batch(obs) else obs
        arrays = isinstance(first, Mapping) and "view" in first and "view" not in self.index
        if self.alone is not None:
            return not arrays
        return isinstance(first, tuple) or (isinstance(first, Mapping) and not arrays)

    def looked(self, obs: Any, info: Any) -> tuple[dict[str, np.ndarray], list[list[Any]]]:
        """(what networks see by name, who is to move in each game) in one game or a list of them.

        Agents that are not shown are not in the game. Raises ArtefactError.
        """
        games = obs if is_batch(obs) else [obs]
        infos = info if is_batch(obs) and info is not None else [info] * len(games)
        if len(infos) != len(games):
            raise ArtefactError(
                f"{len(games)} observations and {len(infos)} infos do not go together."
            )
        looks = [self.look(*pair) for pair in zip(games, infos, strict=True)]
        rows = {name: np.stack([seen[name] for seen, _ in looks]) for name in self.shown}
        parts = rows if is_batch(obs) else {name: x[0] for name, x in rows.items()}
        return parts, [movers for _, movers in looks]

    def look(self, game: Any, infos: Any) -> tuple[dict[str, np.ndarray], list[Any]]:
        """(what networks see of one game [N, ...], the agents that are to move)."""
        if self.alone is not None:
            i = self.index[self.alone]
            if lacks_mask(self.members[i], game, infos):
                raise unmasked(self.members[i])
            view, legal, _ = self.seen(i, game, infos)
            return {"obs.view": view, "obs.legal": legal}, [self.alone]
        count, movers, lost = len(self.members), [], []
        obs = {
            "obs.view": np.zeros((count, self.width), np.float32),
            "obs.legal": np.tile(np.arange(self.actions) == 0, (count, 1)),
            "obs.alive": np.zeros(count, bool),
            "obs.turn": np.zeros(count, bool),
        }
        for name, value in self.by_name(game).items():
            if value is None:
                continue
            i, told = self.index[str(name)], (infos or {}).get(name)
            view, legal, moves = self.seen(i, value, told)
            obs["obs.view"][i], obs["obs.alive"][i] = view, True
            if lacks_mask(self.members[i], value, told):
                lost.append(self.members[i])  # in games by turns not to move
            elif moves:
                obs["obs.legal"][i], obs["obs.turn"][i] = legal, True
                movers.append(name)
        if lost and not (self.turns and movers):
            raise unmasked(lost[0])
        return obs, movers

    def by_name(self, game: Any) -> dict[Any, Any]:
        """The observations of one game by agent. Raises ArtefactError."""
        known = ", ".join(self.index)
        if isinstance(game, tuple) and len(game) == len(self.members):
            return dict(zip(self.index, game, strict=True))
        if not isinstance(game, Mapping):
            raise ArtefactError(
                f"observations of several agents are a dict by their names: {known}."
            )
        for name in game:
            if str(name) not in self.index:
                raise ArtefactError(f"there is no agent {name!r:.40}. Known: {known}.")
        return dict(game)

    def seen(self, i: int, value: Any, told: Any) -> tuple[np.ndarray, np.ndarray, bool]:
        """(the view [O], the mask [A], whether any action is legal) of an agent, padded.

        Raises ArtefactError.
        """
        member, mask = self.members[i], mask_in(value, told)
        own = np.arange(self.actions) < member.choices
        if mask is not None and member.choices:
            mask = np.asarray(mask)
            if mask.shape != (member.choices,) or mask.dtype.kind not in "biuf":
                raise ArtefactError(
                    f"the mask of {member.name} is {mask.shape}, not of {member.choices} actions."
                )
            own[: member.choices] = (mask > 0)[: self.actions]
        moves = bool(mask.any()) if mask is not None and member.choices else True
        if isinstance(value, Mapping) and not member.parts[0].source and OBSERVATION in value:
            value = value[OBSERVATION]
        view, at = np.zeros(self.width, np.float32), 0
        for reader in self.readers[i]:
            array, single = reader(found(reader.leaf, value, None))
            if not single:
                raise reader.error(f"{member.name} is shown a batch: give a list of games")
            row = numbers(reader.leaf, array[0])
            view[at : at + row.size] = row
            at += row.size
        return view, own, moves

    def answers(self, outputs: Mapping[str, Any], movers: list[list[Any]], obs: Any) -> Any:
        """Actions of those who are to move, in the form in which the observations were given."""
        made = [self.answer(outputs, b, names) for b, names in enumerate(movers)]
        games = obs if is_batch(obs) else [obs]
        if self.alone is not None:
            made = [each[self.alone] for each in made]
        elif isinstance(games[0], tuple):
            made = [tuple(each.values()) for each in made]
        return made if is_batch(obs) else made[0]

    def answer(self, outputs: Mapping[str, Any], b: int, names: list[Any]) -> dict[Any, Any]:
        """Actions in one game by agent."""
        common = outputs.get("env_action")
        if common is None:
            return {name: outputs[f"env_action.{name}"][b] for name in names}
        if self.alone is not None:
            return {self.alone: common[b]}
        return {name: common[b, self.index[str(name)]] for name in names}


def is_batch(obs: Any) -> bool:
    """Whether this is a list of games; one of numbers is an observation."""
    return isinstance(obs, list) and bool(obs) and not isinstance(obs[0], int | float)


def lacks_mask(member: Member, value: Any, told: Any) -> bool:
    """Whether an agent whose mask is in its info is shown without one."""
    return member.informed and mask_in(value, told) is None


def unmasked(member: Member) -> ArtefactError:
    """The error where an agent's mask is missing."""
    return ArtefactError(
        f"the game tells {member.name} which actions are legal in its info: give the infos beside "
        "the observations."
    )


def mask_in(value: Any, told: Any) -> Any:
    """The mask in an agent's observation or info; None where there is none."""
    for source in (value, told):
        if isinstance(source, Mapping) and MASK in source:
            return source[MASK]
    return None


def numbers(leaf: Leaf, x: np.ndarray) -> np.ndarray:
    """A part of a view as numbers; of choices, one of all at 1."""
    if leaf.counts is None:
        return x.reshape(-1).astype(np.float32)
    counts = np.broadcast_to(leaf.counts, leaf.own_shape).reshape(-1)
    rows = [np.arange(n) == one for n, one in zip(counts, x.reshape(-1), strict=True)]
    return np.concatenate(rows).astype(np.float32)


def size_of_view(member: Member) -> int:
    """The numbers in the view of an agent."""
    return sum(
        math.prod(part.shape)
        if part.counts is None
        else int(np.sum(np.broadcast_to(part.counts, part.own_shape)))
        for part in member.parts
    )
