"""Games whose agents die and appear late, twice with the same rules: in JAX and for PettingZoo.

Three agents, two actions. Agent i is in the game from BIRTHS[i] up to DEATHS[i], which is the first
observation without it. Its view is [time, i], its reward 1 + i + action, all exact numbers.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnasium import spaces
from pettingzoo import ParallelEnv

from parl.core.spec import Discrete, EnvSpec
from parl.core.types import Array
from parl.envs.team import team_spec

AGENTS = ("agent_0", "agent_1", "agent_2")
BIRTHS = np.array([0, 0, 1])
DEATHS = np.array([99, 2, 99])
LENGTH = 4


class DyingState(struct.PyTreeNode):
    time: Array  # []


@dataclass(frozen=True)
class Dying:
    """The JaxEnv. `poison` fills the views of who is not there: learning must not depend on it.

    An episode of LENGTH steps terminates, or with `cut` is truncated.
    """

    poison: float = 0.0
    cut: bool = False

    @property
    def spec(self) -> EnvSpec:
        return team_spec("test:dying", AGENTS, (2,) * 3, (Discrete(2),) * 3, 6, max_steps=LENGTH)

    def reset(self, key: Array) -> tuple[DyingState, Any]:
        return DyingState(jnp.int32(0)), self.observe(jnp.int32(0))

    def step(
        self, state: DyingState, action: Array, key: Array
    ) -> tuple[DyingState, Any, Array, Array, Array]:
        reward = jnp.where(self.alive(state.time), 1.0 + np.arange(3) + action, 0.0)
        time = state.time + 1
        over, cut = time >= LENGTH, jnp.bool_(self.cut)
        return DyingState(time), self.observe(time), reward, over & ~cut, over & cut

    def alive(self, time: Array) -> Array:
        return (time >= BIRTHS) & (time < DEATHS)

    def observe(self, time: Array) -> dict[str, Array]:
        alive = self.alive(time)
        view = jnp.stack([jnp.full(3, time, jnp.float32), jnp.arange(3.0)], 1)
        legal = alive[:, None] | (np.arange(2) == 0)
        state = jnp.where(alive[:, None], view, 0.0).reshape(-1)
        view = jnp.where(alive[:, None], view, self.poison)
        return {"view": view, "alive": alive, "legal": legal, "state": state}


class DyingParallel(ParallelEnv):
    """The same for PettingZoo. Whoever dies is in the dicts of that step and of none after it.

    `reborn` lets agent_1 come back at the end, which is not allowed.
    """

    metadata = {"name": "dying_v0"}  # noqa: RUF012
    render_mode = None

    def __init__(self, cut: bool = False, reborn: bool = False):
        self.possible_agents = list(AGENTS)
        self.agents: list[str] = []
        self.cut, self.reborn = cut, reborn
        self.observation_spaces = {a: spaces.Box(-10, 10, (2,), np.float32) for a in AGENTS}
        self.action_spaces = {a: spaces.Discrete(2) for a in AGENTS}

    def observation_space(self, agent: str) -> spaces.Space:
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space:
        return self.action_spaces[agent]

    def present(self) -> list[str]:
        back = self.reborn and self.time == LENGTH - 1
        here = (self.time >= BIRTHS) & (self.time < DEATHS)
        return [a for i, a in enumerate(AGENTS) if here[i] or (back and i == 1)]

    def seen(self, agents: list[str]) -> dict[str, np.ndarray]:
        return {a: np.array([self.time, AGENTS.index(a)], np.float32) for a in agents}

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.time = 0
        self.agents = self.present()
        return self.seen(self.agents), {a: {} for a in self.agents}

    def step(self, actions: dict[str, int]) -> Any:
        assert actions.keys() == set(self.agents), "an action of nobody, or none of somebody"
        before, self.time = self.agents, self.time + 1
        now, over = self.present(), self.time >= LENGTH
        known = before + [a for a in now if a not in before]
        rewards = {a: 1.0 + AGENTS.index(a) + actions[a] if a in before else 0.0 for a in known}
        dead = {a: a not in now or (over and not self.cut) for a in known}
        late = {a: over and not dead[a] for a in known}
        self.agents = [] if over else now
        return self.seen(known), rewards, dead, late, {a: {} for a in known}
