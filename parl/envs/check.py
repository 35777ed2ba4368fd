"""Checks a user's environment before training."""

from typing import Any

import jax
import numpy as np

from parl import ops
from parl.core.errors import ParlError
from parl.core.spec import EnvSpec
from parl.envs.factory import EnvFactory, make_factory
from parl.envs.protocol import VectorEnv


def check_env(env: Any, steps: int = 200, seed: int = 0) -> list[str]:
    """Problems of an environment, one sentence each; empty if none was found.

    `env` is what `parl.train` takes: an id, a function that makes an environment of Gymnasium or
    PettingZoo, or a JaxEnv. Two vector environments are created, reset with equal seeds, and one is
    stepped with random legal actions. The check stops at the first error.
    """
    try:
        factory = make_factory(env)
        return played(factory, steps, seed)
    except ParlError as error:
        return [str(error)]


def played(factory: EnvFactory, steps: int, seed: int) -> list[str]:
    """Problems found by resets and steps with random actions."""
    one, other = factory.vector(2, seed, 0), factory.vector(2, seed, 2)
    findings, spec = [], factory.spec
    obs, again = one.reset(), other.reset()
    pairs = zip(jax.tree.leaves(obs), jax.tree.leaves(again), strict=True)
    if not all(np.array_equal(x, y) for x, y in pairs):
        findings.append(
            f"{spec.id}: reset(seed=...) gives another observation for an equal seed: draw random "
            "numbers from self.np_random, after super().reset(seed=seed)."
        )
    other.close()
    ended = run(one, obs, spec, steps, seed)
    if not ended and spec.max_steps is None:
        findings.append(
            f"{spec.id}: no episode ended within {steps} steps and no time limit is known; set one "
            "with gymnasium.wrappers.TimeLimit, or in the spec of a JaxEnv."
        )
    findings += getattr(one, "remarks", [])
    one.close()
    return findings


def run(env: VectorEnv, obs: Any, spec: EnvSpec, steps: int, seed: int) -> bool:
    """Steps with random legal actions; returns whether an episode ended."""
    shape, ended = (env.num_envs, *spec.agent_shape), False
    draw = jax.jit(
        lambda key, legal: ops.uniform_action(key, spec.action_space, shape, legal),
    )
    for time in range(steps):
        legal = ops.legal_actions(obs) if spec.num_agents or spec.has_mask else None
        new = env.step(np.asarray(draw(jax.random.key(seed + time), legal)))
        ended |= bool((new.terminated | new.truncated).any())
        obs = new.obs
    return ended
