"""Functions shared by all multi-agent environments.

Agents that differ are padded to the longest view and the largest action, so that every array keeps
one axis N; masks tell what is padding.
"""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from parl.core.errors import EnvError
from parl.core.simulator import Simulator
from parl.core.spec import Box, Discrete, EnvSpec, Space


def team_spec(
    id: str,
    agents: Sequence[str],
    views: Sequence[int],
    actions: Sequence[Discrete | Box],
    state: int,
    *,
    turns: bool = False,
    max_steps: int | None = None,
    roles: Sequence[Any] | None = None,
    simulator: Simulator | None = None,
) -> EnvSpec:
    """The spec of a game of `agents` with views and actions of these sizes, one for each agent.

    Agents whose `roles` are equal share a group; without roles those of equal sizes do. With
    `turns` the observation marks the agent to move. A search plays ahead with the `simulator`.
    Raises EnvError where some actions are discrete and others are not.
    """
    count = len(agents)
    action = joint_action(id, actions)
    parts: dict[str, Space] = {
        "view": Box((count, max(views))),
        "alive": Box((count,), "bool"),
        "state": Box((state,)),
    }
    if isinstance(action, Discrete):
        parts["legal"] = Box((count, action.n), "bool")
    if turns:
        parts["turn"] = Box((count,), "bool")
    return EnvSpec(
        id=id,
        observation_space=parts,
        action_space=action,
        max_steps=max_steps,
        num_agents=count,
        agents=tuple(agents),
        groups=groups_of(list(zip(views, actions, strict=True)) if roles is None else roles),
        action_sizes=unequal_sizes(actions),
        simulator=simulator,
    )


def unequal_sizes(actions: Sequence[Discrete | Box]) -> tuple[int, ...]:
    """How many numbers each agent's action has; () where all have as many, or choices."""
    sizes = tuple(space.shape[0] for space in actions if isinstance(space, Box))
    return sizes if len(set(sizes)) > 1 else ()


def joint_action(id: str, actions: Sequence[Discrete | Box]) -> Discrete | Box:
    """One space that holds every agent's actions."""
    if all(isinstance(space, Discrete) for space in actions):
        return Discrete(max(space.n for space in actions if isinstance(space, Discrete)))
    if any(isinstance(space, Discrete) for space in actions):
        raise EnvError(
            f"{id} mixes agents with discrete and with continuous actions, which one policy cannot "
            "serve: wrap the environment so that all are of one kind."
        )
    return Box((max(space.shape[0] for space in actions),), low=-1.0, high=1.0)


def groups_of(roles: Sequence[Any]) -> tuple[int, ...]:
    """Numbers that are equal where roles are, in the order of their first appearance."""
    kinds: list[Any] = []
    for role in roles:
        if role not in kinds:
            kinds.append(role)
    return tuple(kinds.index(role) for role in roles)


def own_actions(actions: Sequence[Discrete | Box]) -> np.ndarray:
    """[N, A] bool: the discrete actions that each agent has at all, the rest is padding."""
    counts = [space.n for space in actions if isinstance(space, Discrete)]
    return np.arange(max(counts)) < np.array(counts)[:, None]


def only_first(count: int) -> np.ndarray:
    """[A] bool: the mask of an agent that is dead or waits for its turn."""
    return np.arange(count) == 0


def is_pettingzoo(env: Any) -> bool:
    """Whether this is an environment of PettingZoo, which is not loaded for it."""
    zoo = sys.modules.get("pettingzoo")
    return zoo is not None and isinstance(env, zoo.AECEnv | zoo.ParallelEnv)
