"""Exports PARL's multi-agent environments to PettingZoo, for use with other libraries."""

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
from gymnasium import spaces
from pettingzoo import AECEnv, ParallelEnv

from parl.core.errors import EnvError
from parl.core.spec import Box, Discrete
from parl.envs.protocol import JaxEnv


def export(env: JaxEnv) -> ParallelEnv | AECEnv:
    """A ParallelEnv around `env`, or an AECEnv if its agents take turns."""
    if not env.spec.num_agents:
        raise EnvError(f"{env.spec.id} has one agent only; PettingZoo is for several.")
    game = Game(env)
    return TurnGame(game) if game.turns else ParallelGame(game)


class Game:
    """A running environment: its PettingZoo spaces, its state and the last observation."""

    def __init__(self, env: JaxEnv):
        spec = env.spec
        parts: Any = spec.observation_space
        self.spec, self.agents = spec, list(spec.agents)
        self.turns = "turn" in parts
        self.sizes = getattr(env, "views", parts["view"].shape[1:] * len(self.agents))
        own = getattr(env, "actions", (spec.action_space,) * len(self.agents))
        self.action_spaces = {
            name: action_space(space) for name, space in zip(self.agents, own, strict=True)
        }
        self.observation_spaces: dict[str, spaces.Space] = {
            name: reals(size) for name, size in zip(self.agents, self.sizes, strict=True)
        }
        if self.turns:
            self.observation_spaces = {
                name: spaces.Dict({"observation": view, "action_mask": masks(spec.action_space)})
                for name, view in self.observation_spaces.items()
            }
        self.state_space = reals(parts["state"].shape[0])
        self.metadata = {
            "name": spec.id.removeprefix("jax:"),
            "render_modes": [],
            "is_parallelizable": not self.turns,
        }
        self._reset, self._step = jax.jit(env.reset), jax.jit(env.step)
        self._random: np.random.Generator | None = None
        self.obs: Any = None  # numpy

    def key(self) -> jax.Array:
        """A fresh key."""
        assert self._random is not None
        return jax.random.key(int(self._random.integers(2**32)))

    def start(self, seed: int | None) -> None:
        """Starts an episode; without a seed the random generator continues."""
        if seed is not None or self._random is None:
            self._random = np.random.default_rng(seed)
        self._state, obs = self._reset(self.key())
        self.obs = jax.device_get(obs)

    def play(self, chosen: dict[str, Any]) -> tuple[np.ndarray, bool, bool]:
        """(rewards [N], terminated, truncated) of one step with these agents' actions."""
        action = np.zeros_like(self.spec.action[0])
        for name, one in chosen.items():
            i = self.agents.index(name)
            if action.ndim == 1:
                action[i] = one
            else:
                action[i, : len(one)] = one
        self._state, *answer = self._step(self._state, action, self.key())
        self.obs, reward, terminated, truncated = jax.device_get(answer)
        return reward, bool(terminated), bool(truncated)

    def alive(self) -> list[str]:
        """The agents in the game."""
        return [name for name, here in zip(self.agents, self.obs["alive"], strict=True) if here]

    def view(self, name: str) -> np.ndarray:
        """An agent's view without padding."""
        i = self.agents.index(name)
        return self.obs["view"][i, : self.sizes[i]]

    def mask(self, name: str) -> np.ndarray:
        """The legal actions of an agent, 0 or 1; all 0 while it waits for its turn."""
        i = self.agents.index(name)
        legal = self.obs["legal"][i] & self.obs.get("turn", self.obs["alive"])[i]
        return legal[: self.own_actions(name)].astype(np.int8)

    def own_actions(self, name: str) -> int:
        """The number of an agent's actions."""
        space = self.action_spaces[name]
        assert isinstance(space, spaces.Discrete)
        return int(space.n)

    def infos(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Infos with the action masks, if there are any."""
        if "legal" not in self.obs:
            return {name: {} for name in names}
        return {name: {"action_mask": self.mask(name)} for name in names}


def reals(size: int) -> spaces.Box:
    """A space of float32 vectors."""
    return spaces.Box(-np.inf, np.inf, (size,), np.float32)


def masks(space: Any) -> spaces.Box:
    """The space of masks of a discrete action space."""
    return spaces.Box(0, 1, (space.n,), np.int8)


def action_space(space: Any) -> spaces.Space:
    """Gymnasium's space for an agent's actions."""
    if isinstance(space, Discrete):
        return spaces.Discrete(space.n)
    assert isinstance(space, Box)
    return spaces.Box(-1, 1, space.shape, np.float32)


class ParallelGame(ParallelEnv):
    """A game in which all agents act at once; masks are in the infos."""

    def __init__(self, game: Game):
        self.game, self.metadata, self.render_mode = game, game.metadata, None
        self.possible_agents, self.agents = list(game.agents), []
        self.observation_spaces: Any = game.observation_spaces
        self.action_spaces: Any = game.action_spaces
        self.state_space, self.max_cycles = game.state_space, game.spec.max_steps

    def observation_space(self, agent: str) -> spaces.Space:
        """The space of an agent's views."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space:
        """The space of an agent's actions."""
        return self.action_spaces[agent]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Starts an episode."""
        self.game.start(seed)
        self.agents = self.game.alive()
        views = {name: self.game.view(name) for name in self.agents}
        return views, self.game.infos(self.agents)

    def step(self, actions: dict[str, Any]) -> Any:
        """One step; agents that are no longer alive are terminated and removed."""
        game, before = self.game, self.agents
        if not before:
            return {}, {}, {}, {}, {}
        reward, terminated, truncated = game.play(actions)
        alive = game.alive()
        seen = before + [name for name in alive if name not in before]
        rewards = {name: float(reward[game.agents.index(name)]) for name in seen}
        terminations = {name: terminated or name not in alive for name in seen}
        truncations = {name: truncated and not terminations[name] for name in seen}
        self.agents = [] if terminated or truncated else alive
        views = {name: game.view(name) for name in seen}
        return views, rewards, terminations, truncations, game.infos(seen)

    def state(self) -> np.ndarray:
        """What a centralised critic sees."""
        return self.game.obs["state"]

    def close(self) -> None:
        """Nothing to release."""


class TurnGame(AECEnv):
    """A game in which agents take turns; masks are in the observations."""

    def __init__(self, game: Game):
        self.game, self.metadata, self.render_mode = game, game.metadata, None
        self.possible_agents, self.agents = list(game.agents), []
        self.observation_spaces: Any = game.observation_spaces
        self.action_spaces: Any = game.action_spaces
        self.state_space = game.state_space

    def observation_space(self, agent: str) -> spaces.Space:
        """The space of an agent's observations."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space:
        """The space of an agent's actions."""
        return self.action_spaces[agent]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Starts an episode."""
        self.game.start(seed)
        self.agents = list(self.possible_agents)
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos = {name: {} for name in self.agents}
        self.agent_selection = self.mover()

    def step(self, action: Any) -> None:
        """One move of the agent that is selected."""
        mover = self.agent_selection
        if self.terminations[mover] or self.truncations[mover]:
            self._was_dead_step(action)
            return
        reward, terminated, truncated = self.game.play({mover: action})
        self._cumulative_rewards[mover] = 0.0
        self.rewards = dict(zip(self.agents, reward.tolist(), strict=True))
        self._accumulate_rewards()
        self.terminations = dict.fromkeys(self.agents, terminated)
        self.truncations = dict.fromkeys(self.agents, truncated and not terminated)
        self.agent_selection = self.mover()

    def mover(self) -> str:
        """The agent that has the turn, or the next in line if the game is over."""
        turn = self.game.obs["turn"]
        if turn.any():
            return self.possible_agents[int(turn.argmax())]
        following = self.possible_agents.index(self.agent_selection) + 1
        return self.possible_agents[following % len(self.possible_agents)]

    def observe(self, agent: str) -> dict[str, np.ndarray]:
        """An agent's view and mask."""
        return {"observation": self.game.view(agent), "action_mask": self.game.mask(agent)}

    def state(self) -> np.ndarray:
        """What a centralised critic sees."""
        return self.game.obs["state"]

    def close(self) -> None:
        """Nothing to release."""
