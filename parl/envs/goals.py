"""The goals of environments that have `compute_reward(achieved_goal, desired_goal, info)`.

That method is Gymnasium-Robotics': it judges goals [G], or several [..., G]. An environment whose
episodes end at the goal also has `compute_terminated`, with the same arguments.

Relabelling is part of a compiled program. A pure JAX environment is called there; of any other the
rule is found by trying, if it follows from the distance between the goals.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from parl.core.goals import (
    DESIRED,
    Goals,
    Judge,
    Within,
    exp_minus_distance,
    minus_distance,
    shows_goals,
)
from parl.core.spec import EnvSpec
from parl.core.types import Array

REWARD, TERMINATED = "compute_reward", "compute_terminated"
FAR = 1e6  # a distance that no goal space is as wide as
NO_DISTANCE = 1e-6  # below what 32 bits tell apart
PAIRS = 64  # pairs of goals that a rule is checked on
HALVINGS = 120  # of the interval that holds the threshold


@dataclass(frozen=True)
class Asked:
    """A method of a pure environment that judges one pair of goals, for any leading axes."""

    env: Any
    method: str

    def __call__(self, achieved: Any, desired: Any) -> Array:
        achieved, desired = jnp.broadcast_arrays(achieved, desired)
        judge = lambda *goals: getattr(self.env, self.method)(*goals, {})
        pairs = [x.reshape(-1, x.shape[-1]) for x in (achieved, desired)]
        return jax.vmap(judge)(*pairs).reshape(achieved.shape[:-1])


def pure_goals(env: Any, spec: EnvSpec) -> Goals | None:
    """The goals of a pure JAX environment; None if it has none, or does not say how it judges."""
    if not shows_goals(spec.observation_space) or not callable(getattr(env, REWARD, None)):
        return None
    ends = Asked(env, TERMINATED) if callable(getattr(env, TERMINATED, None)) else None
    return Goals(Asked(env, REWARD), ends)


def found_goals(env: Any, spec: EnvSpec) -> Goals | None:
    """The goals of a Gymnasium environment, if it has some whose rule is one of distance."""
    space: Any = spec.observation_space
    if not shows_goals(space) or not callable(getattr(env, REWARD, None)):
        return None
    size = space[DESIRED].shape[0]
    reward = rule_of(lambda *goals: env.compute_reward(*goals, {}), size)
    if reward is None:
        return None
    if not callable(getattr(env, TERMINATED, None)):
        return Goals(reward)
    ends = rule_of(lambda *goals: float(bool(env.compute_terminated(*goals, {}))), size)
    return Goals(reward, None if ends in (None, never(ends)) else ends)


def never(rule: Judge | None) -> Judge | None:
    """The rule, if it never says yes."""
    return rule if isinstance(rule, Within) and not (rule.inside or rule.outside) else None


def rule_of(judge: Callable[[np.ndarray, np.ndarray], Any], size: int) -> Judge | None:
    """The rule by which `judge` follows from the distance of goals [size]; None if by no known one.

    It is checked on random pairs near its threshold and far from it.
    """
    rng = np.random.default_rng(0)
    start, way = rng.normal(size=size), rng.normal(size=size)
    way /= np.linalg.norm(way)
    at = lambda d: float(judge(start + d * way, start))
    try:
        rules = [minus_distance, exp_minus_distance, threshold_rule(at)]
        achieved = rng.normal(size=(PAIRS, size))
        ways = rng.normal(size=(PAIRS, size))
        near = rules[-1].threshold or 1.0
        lengths = near * np.repeat([0.0, 0.5, 0.9, 1.1, 2.0, 10.0, 0.1, 1.0 + 1e-3], PAIRS // 8)
        desired = achieved + ways / np.linalg.norm(ways, axis=-1, keepdims=True) * lengths[:, None]
        told = np.array([float(judge(*pair)) for pair in zip(achieved, desired, strict=True)])
    except Exception:  # a method of this name that judges no goals
        return None
    fits = lambda rule: np.allclose(rule(achieved, desired), told, rtol=1e-3, atol=1e-4)
    return next((rule for rule in rules if fits(rule)), None)


def threshold_rule(at: Callable[[float], float]) -> Within:
    """The rule with the threshold at which the answer changes from that at a distance of 0.

    A threshold below NO_DISTANCE stands for equality.
    """
    low, high, inside = 0.0, FAR, at(0.0)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle) == inside else (low, middle)
    return Within(low if low > NO_DISTANCE else 0.0, inside, at(FAR))
