"""Environments whose observations show the last reward, see core/rewards.py."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from parl.core.rewards import LAST_REWARD, showing_reward, shows_reward, with_reward
from parl.core.spec import EnvSpec
from parl.core.types import Array
from parl.envs.factory import EnvFactory, jax_vector
from parl.envs.protocol import EnvState, JaxEnv, Transition, VectorEnv


def with_rewards_shown(factory: EnvFactory) -> EnvFactory:
    """The factory of environments of one agent with the last reward in their observations."""
    if shows_reward(factory.spec.observation_space):
        return factory
    factory = dataclasses.replace(factory, spec=shown(factory.spec))
    if factory.stored:
        return factory
    if factory.jax is not None:
        env = RewardShown(factory.jax, factory.spec)
        return dataclasses.replace(factory, jax=env, vector=partial(jax_vector, env))
    rows = None if factory.rows is None else partial(shown_vector, factory.rows)
    return dataclasses.replace(factory, vector=partial(shown_vector, factory.vector), rows=rows)


def shown(spec: EnvSpec) -> EnvSpec:
    """The spec with the last reward in the observations."""
    return dataclasses.replace(spec, observation_space=showing_reward(spec.observation_space))


def shown_vector(make: Callable[..., VectorEnv], *place: int) -> VectorEnv:
    """The vector of environments that `make` makes, with the last rewards."""
    return RewardShownVector(make(*place))


@dataclass(frozen=True)
class RewardShown:
    """A JaxEnv whose observations show the last reward."""

    env: JaxEnv
    spec: EnvSpec

    def reset(self, key: Array) -> tuple[Any, Any]:
        state, obs = self.env.reset(key)
        return state, with_reward(obs, jnp.zeros(1))

    def step(self, state: Any, action: Array, key: Array) -> tuple[Any, Any, Array, Array, Array]:
        state, obs, reward, *ends = self.env.step(state, action, key)
        paid = jnp.asarray(reward, jnp.float32).reshape(1)
        return state, with_reward(obs, paid), reward, ends[0], ends[1]

    @property
    def draw(self) -> Any:
        """state -> its picture, where the environment has one."""
        inner: Any = self.env
        return inner.draw


class RewardShownVector:
    """A VectorEnv whose observations show the last rewards; all else is that of `env`."""

    def __init__(self, env: VectorEnv):
        self.env, self.spec = env, shown(env.spec)
        self.rewards = np.zeros((env.num_envs, 1), np.float32)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)

    @property
    def num_envs(self) -> int:
        return self.env.num_envs

    @property
    def infos(self) -> Sequence[Any]:
        return self.env.infos

    def reset(self) -> Any:
        self.rewards = np.zeros_like(self.rewards)
        return with_reward(self.env.reset(), self.rewards)

    def step(self, action: Any) -> Transition:
        new = self.env.step(action)
        paid = np.asarray(new.reward, np.float32)[:, None]
        ended = (new.terminated | new.truncated)[:, None]
        self.rewards = np.where(ended, np.float32(0), paid)
        obs, next_obs = with_reward(new.obs, self.rewards), with_reward(new.next_obs, paid)
        return new._replace(obs=obs, next_obs=next_obs)

    def get_state(self) -> EnvState:
        state = self.env.get_state()
        return state._replace(arrays=state.arrays | {LAST_REWARD: self.rewards})

    def set_state(self, state: EnvState) -> Any:
        arrays = dict(state.arrays)
        rewards = np.asarray(arrays.pop(LAST_REWARD))
        obs = self.env.set_state(state._replace(arrays=arrays))
        self.rewards = rewards if state.exact else np.zeros_like(rewards)
        return with_reward(obs, self.rewards)

    def change(self, parameters: Mapping[str, Any]) -> None:
        self.env.change(parameters)

    def close(self) -> None:
        self.env.close()
