"""Domain randomisation: environments whose parameters are drawn anew, within ranges.

Tobin et al. 2017, arXiv:1703.06907. A parameter is a number that the environment reads as an
attribute, such as `length` of jax:CartPole-v1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from parl.core.errors import ConfigError
from parl.core.spec import EnvSpec
from parl.core.types import Array
from parl.envs.jax_vector import checked_parameters, with_parameters
from parl.envs.protocol import JaxEnv

FORM = "NAME=LOW:HIGH, as in length=0.4:0.6"


class Range(NamedTuple):
    """Between which numbers a parameter is drawn, evenly; whole numbers include both ends."""

    name: str
    low: float
    high: float


def ranges_of(texts: Sequence[str]) -> tuple[Range, ...]:
    """The ranges of `--randomize`, each NAME=LOW:HIGH. Raises ConfigError."""
    ranges = tuple(map(range_of, texts))
    names = [each.name for each in ranges]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"randomize has '{twice[0]}' twice.")
    return ranges


def range_of(text: str) -> Range:
    """The range NAME=LOW:HIGH. Raises ConfigError."""
    name, _, bounds = text.partition("=")
    try:
        low, high = map(float, bounds.split(":"))
    except ValueError:
        raise ConfigError(f"randomize must be {FORM}, not {text!r:.60}.") from None
    if not name.isidentifier() or not np.isfinite([low, high]).all() or low > high:
        raise ConfigError(
            f"randomize must be {FORM}, of finite numbers in order, not {text!r:.60}."
        )
    return Range(name, low, high)


class RandomizedState(struct.PyTreeNode):
    """An environment's state, and the parameters of its episode."""

    env: Any
    parameters: dict[str, Array]  # [] each


@dataclass(frozen=True)
class Randomized:
    """A JaxEnv whose parameters are drawn at each reset and kept for the episode."""

    env: JaxEnv
    ranges: tuple[Range, ...]

    @property
    def spec(self) -> EnvSpec:
        """That of the environment."""
        return self.env.spec

    def reset(
        self, key: Array, parameters: Mapping[str, Array] | None = None
    ) -> tuple[RandomizedState, Any]:
        """(state, obs [*O]) of an episode with these parameters, or with drawn ones."""
        k_env, k_parameters = jax.random.split(key)
        drawn = self.draw_parameters(k_parameters) if parameters is None else dict(parameters)
        state, obs = with_parameters(self.env, drawn).reset(k_env)
        return RandomizedState(state, drawn), obs

    def step(
        self, state: RandomizedState, action: Array, key: Array
    ) -> tuple[RandomizedState, Any, Array, Array, Array]:
        """A step of the environment with the parameters of the episode."""
        inner = with_parameters(self.env, state.parameters)
        after, *answer = inner.step(state.env, action, key)
        return RandomizedState(after, state.parameters), *answer

    def draw_parameters(self, key: Array) -> dict[str, Array]:
        """Parameters [] by name, each evenly from its range."""
        keys = jax.random.split(key, len(self.ranges))
        types = checked_parameters(self.env, {each.name: each.low for each in self.ranges})
        return {
            each.name: uniform(k, each, types[each.name].dtype)
            for k, each in zip(keys, self.ranges, strict=True)
        }

    @property
    def draw(self) -> Any:
        """state -> its picture, where the environment has one."""
        inner: Any = self.env
        inner.draw  # noqa: B018  raises AttributeError where there is none
        return lambda state: with_parameters(
            inner, {name: np.asarray(x).item() for name, x in state.parameters.items()}
        ).draw(state.env)


def uniform(key: Array, within: Range, dtype: Any) -> Array:
    """A number [] of the range."""
    if jnp.issubdtype(dtype, jnp.integer):
        return jax.random.randint(key, (), int(within.low), int(within.high) + 1, dtype)
    return jax.random.uniform(key, (), dtype, within.low, within.high)
