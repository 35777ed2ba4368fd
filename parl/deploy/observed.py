"""Observations to compare policies on: of real episodes, and made to find what is wrong.

Axes: T steps, B environments.
"""

from typing import Any

import jax
import numpy as np

from parl.core.spec import Box, Discrete, EnvSpec, MultiDiscrete
from parl.deploy.compiler import Acting, names_of
from parl.deploy.rows import Rows, forgotten
from parl.envs.factory import EnvFactory

STEPS = 20  # of a sequence
WIDTH = 10  # environments that are played


def recorded(factory: EnvFactory, whole: Acting, count: int, seed: int, noise: float = 0.3) -> Rows:
    """`count` observations of episodes that the policy plays, some of its actions at random.

    In sequences of STEPS, with the memory that it had at their start.
    """
    spec = factory.spec
    width = min(WIDTH, count)
    steps = -(-count // width // STEPS) * STEPS
    env, act = factory.vector(width, seed, 0), jax.jit(whole.call)
    rng, key = np.random.default_rng(seed), np.array([0, seed], np.uint32)
    start = start_of(whole, width)
    memory, first, rows = start, np.ones(width, bool), []
    try:
        obs = env.reset()
        for _ in range(steps):
            seen = dict(zip(names_of(obs), map(np.asarray, jax.tree.leaves(obs)), strict=True))
            memory = forgotten(memory, start, first)
            rows.append((seen, first, memory))
            action, *leaves = map(np.asarray, act(*seen.values(), *memory.values(), key))
            memory = dict(zip(memory, leaves, strict=True))
            random = legal_at_random(spec, obs, action, rng)
            chosen = rng.random(width) < noise
            action = np.where(chosen.reshape(-1, *[1] * (action.ndim - 1)), random, action)
            new = env.step(action.astype(spec.action.dtype))
            obs, first = new.obs, np.asarray(new.terminated | new.truncated)
    finally:
        env.close()
    return as_sequences(rows)


def start_of(whole: Acting, width: int) -> dict[str, np.ndarray]:
    """Memory [B, ...] at the start of episodes, by name."""
    return {name: np.repeat(x, width, 0) for name, x in whole.memory.items()}


def as_sequences(rows: list[Any]) -> Rows:
    """(observation, first, memory) of many steps as sequences of STEPS of them side by side."""
    seen, first, memory = zip(*rows, strict=True)

    def cut(parts: Any) -> np.ndarray:
        array = np.stack(parts)  # [count, width, ...]
        array = array.reshape(-1, STEPS, *array.shape[1:]).swapaxes(0, 1)
        return array.reshape(STEPS, -1, *array.shape[3:])

    obs = {name: cut([each[name] for each in seen]) for name in seen[0]}
    before = {name: cut([each[name] for each in memory])[0] for name in memory[0]}
    flags = cut(first)
    return Rows(obs, flags, before, np.ones(flags.shape[1]))


def legal_at_random(spec: EnvSpec, obs: Any, action: np.ndarray, rng: Any) -> np.ndarray:
    """Random actions as the policy's [B, ...] are, legal where there is a mask."""
    space, shape = spec.action_space, action.shape
    if isinstance(space, Box):
        return rng.uniform(-1, 1, shape).astype(action.dtype)
    several = isinstance(space, MultiDiscrete)
    counts, start, draws = space.nvec if several else (space.n,), 0, []  # pyright: ignore
    for count in counts:
        score = rng.random((*(shape[:-1] if several else shape), count))
        if isinstance(obs, dict) and "legal" in obs:
            score = score + np.asarray(obs["legal"])[..., start : start + count]
        draws.append(score.argmax(-1))
        start += count
    return np.stack(draws, -1) if several else draws[0]


# --- adversarial ------------------------------------------------------------------------------


def adversarial(spec: EnvSpec, whole: Acting, count: int, seed: int) -> Rows:
    """`count` observations that no episode shows, with random memory: [T = 1, B = count]."""
    rng = np.random.default_rng(seed)
    sizes = np.array([0.0, 1.0, 4.0, 100.0, 1000.0])[np.arange(count) % 5]
    leaves = jax.tree.leaves(spec.observation_space, is_leaf=lambda x: not isinstance(x, dict))
    spaces = dict(zip(names_of(spec.obs), leaves, strict=True))
    obs = {}
    for name, example in whole.obs.items():
        obs[name] = unlikely(spaces[name], (count, *example.shape[1:]), example.dtype, sizes, rng)
    for name in ("obs.legal", "obs.alive", "obs.turn"):
        if name in obs and obs[name].dtype == bool:
            obs[name] = flags(obs[name].shape, rng)
    if "obs.legal" in obs and spec.has_mask and isinstance(spec.action_space, MultiDiscrete):
        start = 0
        for size in spec.action_space.nvec:
            obs["obs.legal"][:, start] |= ~obs["obs.legal"][:, start : start + size].any(-1)
            start += size
    memory = {
        name: (0.5 * rng.standard_normal((count, *x.shape[1:]))).astype(x.dtype)
        if x.dtype.kind == "f"
        else np.repeat(x, count, 0)
        for name, x in whole.memory.items()
    }
    first = np.zeros((1, count), bool)
    return Rows({n: x[None] for n, x in obs.items()}, first, memory, np.maximum(sizes * 4, 1))


def unlikely(space: Any, shape: Any, dtype: Any, sizes: np.ndarray, rng: Any) -> np.ndarray:
    """Observations [B, ...] of a space, floats of these sizes."""
    if isinstance(space, Discrete | MultiDiscrete):
        counts = space.n if isinstance(space, Discrete) else np.array(space.nvec)
        return (rng.random(shape) * counts).astype(dtype)
    if np.dtype(dtype).kind == "b":
        return rng.random(shape) < 0.5
    if np.dtype(dtype).kind in "iu":
        edge = np.arange(shape[0]) % 3
        values = rng.integers(0, 256, shape)
        wide = edge.reshape(-1, *[1] * (len(shape) - 1))
        return np.select([wide == 0, wide == 1], [0 * values, 0 * values + 255], values).astype(
            dtype
        )
    wide = sizes.reshape(-1, *[1] * (len(shape) - 1))
    return (wide * rng.standard_normal(shape)).astype(dtype)


def flags(shape: tuple[int, ...], rng: Any) -> np.ndarray:
    """Flags [B, ..., A], of which one is true in every row at least, and only one in some."""
    score = rng.random(shape)
    chosen = score > np.array([0.5, 2.0])[np.arange(shape[0]) % 2].reshape(
        -1, *[1] * (len(shape) - 1)
    )
    return chosen | (score == score.max(-1, keepdims=True))
