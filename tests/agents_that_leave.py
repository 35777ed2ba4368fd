"""Games for PettingZoo in which agents die, are cut, wait and take turns; `play` rolls them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from pettingzoo import AECEnv, ParallelEnv

from parl.core.types import Step
from parl.envs.adapters.gymnasium import GymnasiumVectorEnv


class Parallel(ParallelEnv):
    """Agents a and b; view [time, index]; reward 1 each; truncated after `length` steps."""

    metadata: Any = {"name": "parallel_v0"}  # noqa: RUF012
    render_mode = None
    names = ("a", "b")
    length = 4

    def __init__(self) -> None:
        self.possible_agents, self.agents = list(self.names), []

    def observation_space(self, agent: str) -> spaces.Space:
        return spaces.Box(-200, 200, (2,), np.float32)

    def action_space(self, agent: str) -> spaces.Space:
        return spaces.Discrete(2)

    def view(self, agent: str) -> np.ndarray:
        return np.array([self.time, self.names.index(agent)], np.float32)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.time, self.agents = 0, list(self.names)
        return {a: self.view(a) for a in self.agents}, {a: {} for a in self.agents}

    def step(self, actions: dict[str, int]) -> Any:
        self.time += 1
        live, over = list(self.agents), self.time >= self.length
        if over:
            self.agents = []
        flag = lambda value: dict.fromkeys(live, value)
        views = {a: self.view(a) for a in live}
        return views, flag(1.0), flag(False), flag(over), {a: {} for a in live}


class Turns(AECEnv):
    """Players move in turn; view [time]; the mover is paid 1; terminates after `length` moves."""

    metadata: Any = {"name": "turns_v0"}  # noqa: RUF012
    render_mode = None
    names = ("x", "y")
    length = 5

    def __init__(self) -> None:
        self.possible_agents = list(self.names)

    def observation_space(self, agent: str) -> spaces.Space:
        return spaces.Box(-100, 100, (1,), np.float32)

    def action_space(self, agent: str) -> spaces.Space:
        return spaces.Discrete(2)

    def observe(self, agent: str) -> np.ndarray:
        return np.array([self.time], np.float32)

    def reset(self, seed: int | None = None, options: Any = None) -> None:
        self.agents, self.time = list(self.names), 0
        fresh = lambda value: dict.fromkeys(self.agents, value)
        self.rewards, self._cumulative_rewards = fresh(0.0), fresh(0.0)
        self.terminations, self.truncations = fresh(False), fresh(False)
        self.infos, self.agent_selection = {a: {} for a in self.agents}, self.agents[0]

    def rules(self, mover: str) -> None:
        self.rewards = {a: float(a == mover) for a in self.agents}
        if self.time >= self.length:
            self.terminations = dict.fromkeys(self.agents, True)

    def step(self, action: Any) -> None:
        mover = self.agent_selection
        if self.terminations[mover] or self.truncations[mover]:
            self._was_dead_step(action)
            return
        self._cumulative_rewards[mover], self.time = 0.0, self.time + 1
        self.rules(mover)
        self._accumulate_rewards()
        place = self.names.index(mover)
        line = self.names[place + 1 :] + self.names[: place + 1]
        gone = {name for name in self.agents if self.terminations[name] or self.truncations[name]}
        left = [name for name in line if name in self.agents and name not in gone]
        self.agent_selection = (left or [name for name in line if name in gone])[0]
        self._deads_step_first()


class Cut(Turns):
    """x, then y; then x is paid, and the game is cut by a limit of moves."""

    length = 2

    def rules(self, mover: str) -> None:
        self.rewards = {a: float(self.time == 2 and a == "x") for a in self.agents}
        if self.time == 2:
            self.truncations = dict.fromkeys(self.agents, True)


class Leaving(Parallel):
    """a's episode is over after `at` of the steps, by the flag `how`; b goes on alone."""

    at, how = 2, "truncated"

    def step(self, actions: dict[str, int]) -> Any:
        seen, rewards, dead, late, infos = super().step(actions)
        if self.time == self.at:
            (late if self.how == "truncated" else dead)["a"] = True
            self.agents = ["b"]
        return seen, rewards, dead, late, infos


def vector(make: Any) -> GymnasiumVectorEnv:
    return GymnasiumVectorEnv(make, 1, 0, "test:game")


def play(make: Any, length: int) -> Step:
    """Steps [T, 1, ...] of action 0 by everybody."""
    env, first, steps = vector(make), np.ones(1, bool), []
    obs = env.reset()
    for _ in range(length):
        action = np.zeros((1, *env.spec.action.shape[1:]), env.spec.action.dtype)
        new = env.step(action)
        last, discount = new.terminated | new.truncated, 1.0 - new.terminated.astype(np.float32)
        steps.append(Step(obs, action, new.reward, discount, new.next_obs, first, last, {}))
        obs, first = new.obs, last
    return jax.tree.map(lambda *x: jnp.asarray(np.stack(x)), *steps)


# --- games that break the rules


class Over(Parallel):
    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed, options)
        self.agents = []
        return {}, {}


class Old(Parallel):
    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed, options)[0]


class OldStep(Parallel):
    def step(self, actions: dict[str, int]) -> Any:
        return super().step(actions)[:4]


class NoView(Parallel):
    def step(self, actions: dict[str, int]) -> Any:
        answer = super().step(actions)
        answer[0].pop("b")
        return answer


class Stranger(Parallel):
    def step(self, actions: dict[str, int]) -> Any:
        answer = super().step(actions)
        self.agents = [*self.agents, "c"]
        return answer


class Shy(Turns):
    def observe(self, agent: str) -> Any:
        return super().observe(agent) if agent == self.agent_selection else None
