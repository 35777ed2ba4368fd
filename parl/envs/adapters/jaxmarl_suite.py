"""JaxMARL's environments as JaxEnvs. Rutherford et al. 2024, arXiv:2311.10090."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jaxmarl  # pyright: ignore[reportMissingImports]
import numpy as np
from flax import struct
from jaxmarl.environments import spaces  # pyright: ignore[reportMissingImports]
from jaxmarl.environments.smax import smax_env  # pyright: ignore[reportMissingImports]

from parl.core.errors import EnvError, SpaceError, nearest
from parl.core.spec import Box, Discrete, EnvSpec
from parl.core.types import Array
from parl.envs.team import only_first, own_actions, team_spec

WORLD = "world_state"  # key of the global state in observations, if there is one


class JaxMarlState(struct.PyTreeNode):
    """JaxMARL's state, with the living agents and the time."""

    env: Any
    alive: Array  # [N] bool
    time: Array  # [] int32, steps since the reset


class JaxMarl:
    """An environment by its name in JaxMARL, such as `MPE_simple_tag_v3`.

    `SMAX-2s3z` is that scenario against the built-in enemy. Rewards are JaxMARL's, one for each
    agent: SMAX repeats the team's, so that an episode in which an agent's return exceeds 1.5 is
    won (1 for all damage, 1 for the victory). An episode that ends at the time limit is truncated.
    Raises EnvError for an unknown name.
    """

    def __init__(self, name: str, /, **options: Any):
        self.name, self.env = name, make(name, options)
        self.agents = tuple(self.env.agents)
        self.seen = [self.env.observation_space(agent) for agent in self.agents]
        self.acts = [self.env.action_space(agent) for agent in self.agents]
        self.views = tuple(int(np.prod(space.shape)) for space in self.seen)
        self.actions = tuple(action_space(name, space) for space in self.acts)
        self.max_steps: int | None = getattr(self.env, "max_steps", None)
        self.masked = implemented(self.env)
        obs, _ = jax.eval_shape(self.env.reset, jax.random.key(0))
        state = obs[WORLD].size if WORLD in obs else sum(self.views)
        self.spec: EnvSpec = team_spec(
            f"jaxmarl:{name}",
            self.agents,
            self.views,
            self.actions,
            state,
            # an upper bound: the particle environments make one step more than they declare
            max_steps=None if self.max_steps is None else self.max_steps + 1,
        )

    def reset(self, key: Array) -> tuple[JaxMarlState, Any]:
        obs, inner = self.env.reset(key)
        state = JaxMarlState(inner, jnp.ones(len(self.agents), bool), jnp.int32(0))
        return state, self.observe(obs, state)

    def step(
        self, state: JaxMarlState, action: Array, key: Array
    ) -> tuple[JaxMarlState, Any, Array, Array, Array]:
        chosen = {agent: self.own(i, action[i]) for i, agent in enumerate(self.agents)}
        obs, inner, rewards, dones, _ = self.env.step_env(key, state.env, chosen)
        dead = jnp.stack([dones[agent] for agent in self.agents])
        # at the end of an episode all are done, which does not mean that they died
        alive = jnp.where(dead.all(), state.alive, ~dead)
        state = JaxMarlState(inner, alive, state.time + 1)
        late = jnp.bool_(False) if self.max_steps is None else state.time >= self.max_steps
        reward = jnp.stack([rewards[agent] for agent in self.agents]).astype(jnp.float32)
        over = jnp.asarray(dones["__all__"], bool)
        return state, self.observe(obs, state), reward, over & ~late, over & late

    def own(self, i: int, action: Array) -> Array:
        """Agent i's action in JaxMARL's space."""
        mine, space = self.actions[i], self.acts[i]
        if isinstance(mine, Discrete):
            return action
        action = jnp.clip(action[: mine.shape[0]].reshape(space.shape), -1, 1)
        return space.low + (action + 1) / 2 * (space.high - space.low)

    def observe(self, obs: dict[str, Array], state: JaxMarlState) -> dict[str, Array]:
        """Padded views, masks, and JaxMARL's global state or the concatenated views."""
        own = [obs[agent].reshape(-1).astype(jnp.float32) for agent in self.agents]
        view = jnp.stack([jnp.pad(row, (0, max(self.views) - row.size)) for row in own])
        whole = obs[WORLD].reshape(-1) if WORLD in obs else jnp.concatenate(own)
        seen = {"view": view, "alive": state.alive, "state": whole.astype(jnp.float32)}
        if isinstance(self.actions[0], Discrete):
            seen["legal"] = self.legal(state)
        return seen

    def legal(self, state: JaxMarlState) -> Array:
        """[N, A] bool."""
        legal = jnp.asarray(own_actions(self.actions))
        if self.masked:
            masks = self.env.get_avail_actions(state.env)
            rows = [jnp.asarray(masks[agent], bool) for agent in self.agents]
            legal &= jnp.stack([jnp.pad(row, (0, legal.shape[1] - row.size)) for row in rows])
        return jnp.where(state.alive[:, None], legal, only_first(legal.shape[1]))


def make(name: str, options: dict[str, Any]) -> Any:
    """JaxMARL's environment of a name."""
    battles = {f"SMAX-{scenario}": scenario for scenario in smax_env.MAP_NAME_TO_SCENARIO}
    if name in battles:
        scenario = smax_env.map_name_to_scenario(battles[name])
        return jaxmarl.make("HeuristicEnemySMAX", scenario=scenario, **options)
    if name in jaxmarl.registered_envs:
        return jaxmarl.make(name, **options)
    hint = nearest(name, [*jaxmarl.registered_envs, *battles])
    raise EnvError(f"unknown environment 'jaxmarl:{name}'.{hint}")


def action_space(name: str, space: Any) -> Discrete | Box:
    """PARL's space for an agent's actions."""
    if isinstance(space, spaces.Discrete):
        return Discrete(int(space.n))
    if isinstance(space, spaces.Box):
        return Box((int(np.prod(space.shape)),), low=-1.0, high=1.0)
    raise SpaceError(f"jaxmarl:{name} has {type(space).__name__} actions, which are not served.")


def implemented(env: Any) -> bool:
    """Whether an environment implements `get_avail_actions`."""
    get: Callable[[Any], Any] = env.get_avail_actions
    try:
        jax.eval_shape(lambda key: get(env.reset(key)[1]), jax.random.key(0))
    except NotImplementedError:
        return False
    return True
