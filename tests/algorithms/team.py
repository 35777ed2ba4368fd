"""Rollouts of agents that die, come late and wait for their turn, and what may not matter."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from parl.core.spec import Box, Discrete, EnvSpec
from parl.core.types import Rollout, Step

T, B, AGENTS, ACTIONS = 6, 4, 3, 3
VIEW_SIZE, STATE_SIZE = 2, 4
VIEW, STATE = {"view": Box((VIEW_SIZE,))}, {"state": Box((STATE_SIZE,))}  # what networks see


def team_spec(continuous: bool = False, agents: int = AGENTS) -> EnvSpec:
    views = {
        "view": Box((agents, VIEW_SIZE)),
        "alive": Box((agents,), "bool"),
        "state": Box((STATE_SIZE,)),
    }
    if not continuous:
        views["legal"] = Box((agents, ACTIONS), "bool")
    actions = Box((ACTIONS,), low=-1.0, high=1.0) if continuous else Discrete(ACTIONS)
    groups = (0, 0, 1)[:agents]
    return EnvSpec("team", views, actions, num_agents=agents, groups=groups)


def rollout(seed: int = 0, turns: bool = False, continuous: bool = False) -> Rollout:
    """Steps [T, B, N]: agent 1 dies in every second episode, agent 2 comes in its third step."""
    rng = np.random.default_rng(seed)
    last = rng.random((T, B)) < 0.25
    discount = np.where(last & (rng.random((T, B)) < 0.5), 0.0, 1.0).astype(np.float32)
    first = np.concatenate([np.ones((1, B), bool), last[:-1]])
    clock, alive = np.zeros(B, int), np.zeros((T + 1, B, AGENTS), bool)
    next_alive = np.zeros((T, B, AGENTS), bool)
    for t in range(T):
        clock = np.where(first[t], 0, clock)
        alive[t] = presence(clock)
        next_alive[t], clock = presence(clock + 1), clock + 1
    turn = (np.arange(T + 1)[:, None, None] % AGENTS) == np.arange(AGENTS)
    turn = np.broadcast_to(turn, (T + 1, B, AGENTS))

    def observe(view: Any, state: Any, alive: Any, turn: Any) -> dict[str, Any]:
        active = alive & turn if turns else alive
        legal = rng.random((*alive.shape, ACTIONS)) < 0.7
        legal[..., 0] = True
        legal = np.where(active[..., None], legal, np.arange(ACTIONS) == 0)
        obs = {"view": view, "state": state, "alive": alive}
        return obs | ({"turn": turn} if turns else {}) | ({} if continuous else {"legal": legal})

    view = rng.normal(size=(T + 1, B, AGENTS, VIEW_SIZE)).astype(np.float32)
    state = rng.normal(size=(T + 1, B, STATE_SIZE)).astype(np.float32)
    obs = observe(view[:T], state[:T], alive[:T], turn[:T])
    next_obs = observe(view[1:], state[1:], next_alive, turn[1:])
    # an agent that is not there is paid nothing
    reward = np.where(alive[:T], rng.normal(size=(T, B, AGENTS)), 0.0).astype(np.float32)
    if continuous:
        action = rng.uniform(-1, 1, (T, B, AGENTS, ACTIONS)).astype(np.float32)
    else:
        action = (rng.random((T, B, AGENTS, ACTIONS)) * obs["legal"]).argmax(-1).astype(np.int32)
    extras = {"log_prob": np.full((T, B, AGENTS), -1.0, np.float32)}
    return Rollout(Step(obs, action, reward, discount, next_obs, first, last, extras), ())


def presence(clock: np.ndarray) -> np.ndarray:
    """Who is there [B, N] after so many steps of the episode [B]."""
    odd = np.arange(len(clock)) % 2 == 1
    return np.stack([clock >= 0, ~(odd & (clock >= 2)), clock >= 2], -1)


def disturbed(batch: Rollout) -> Rollout:
    """The same with other data wherever an agent is not there or does not act."""
    rng, steps = np.random.default_rng(9), batch.steps
    obs, next_obs = steps.obs, steps.next_obs
    active = obs["alive"] & obs.get("turn", True)
    noise = lambda x: (50 * rng.normal(size=x.shape)).astype(np.float32)
    fake = lambda obs: (
        obs | {"view": np.where(obs["alive"][..., None], obs["view"], noise(obs["view"]))}
    )
    wide = active if steps.action.ndim == active.ndim else active[..., None]
    other = noise(steps.action) if wide is not active else rng.integers(ACTIONS, size=active.shape)
    extras = {"log_prob": np.where(active, steps.extras["log_prob"], noise(active) - 100)}
    steps = steps._replace(
        obs=fake(obs),
        next_obs=fake(next_obs),
        action=np.where(wide, steps.action, other).astype(steps.action.dtype),
        reward=np.where(obs["alive"], steps.reward, noise(active)),
        extras=extras,
    )
    return Rollout(steps, batch.memory)


def assert_trees_close(ours: Any, theirs: Any, rtol: float = 1e-4, atol: float = 1e-6) -> None:
    check = lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)
    jax.tree.map(check, ours, theirs)
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(ours))
