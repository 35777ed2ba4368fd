"""Estimates the memory that a run needs from shapes, before any of it is allocated."""

import math
from typing import Any, NamedTuple

import jax

from parl.agents.learner import Learner, OffPolicy, shapes
from parl.core.errors import ConfigError
from parl.core.memory import available_memory
from parl.core.spec import EnvSpec, example
from parl.envs.factory import EnvFactory
from parl.runs.config import RunConfig

MOST_ON_HOST = 10_000  # environments that one process steps one after the other
ASIDE = 1 / 16  # share of the memory: below it a rough bound suffices
WIDE = 1_024  # units: two layers of fewer are small


class Need(NamedTuple):
    """The memory needed by one part of a run."""

    what: str  # and how much of it there is
    bytes: int
    cure: str


def check_memory(
    config: RunConfig, factory: EnvFactory, learner: Learner, num_envs: int, length: int
) -> None:
    """Raises ConfigError if a run needs more memory than is free, naming the largest part.

    `num_envs` are those of one iteration, `length` the steps of each in it.
    """
    if not factory.jax and num_envs * config.num_seeds > MOST_ON_HOST * max(config.actors, 1):
        raise ConfigError(
            f"{num_envs * config.num_seeds:,} environments are too many to be stepped one after "
            f"the other; at most {MOST_ON_HOST:,} are: lower --num-envs or --num-seeds."
        )
    limits = {False: device_memory(), True: available_memory()}
    if rough(config, factory.spec, learner, num_envs, length) < ASIDE * min(limits.values()):
        return
    on_host = isinstance(learner, OffPolicy) and learner.on_host
    needs = needed(config, factory.spec, learner, num_envs, length, on_host)
    for place, limit in limits.items():
        there = [need for need in needs if (need.what.startswith("replay") and on_host) == place]
        total = sum(need.bytes for need in there)
        if total > limit:
            worst = max(there, key=lambda need: need.bytes)
            raise ConfigError(
                f"{worst.what} would need {size(worst.bytes)}, where {size(limit)} of memory are "
                f"free: {worst.cure}."
            )


def rough(config: RunConfig, spec: EnvSpec, learner: Learner, num_envs: int, length: int) -> float:
    """An upper bound of a run's bytes, without tracing; infinite for wide networks."""
    step = 4 * bytes_of(example(spec.observation_space, ())) + 256
    settings = config.settings
    names = ("width", "actor_width", "memory_size", "hidden", "actor_hidden")
    layers = [x for name in names for x in whole_numbers(settings.get(name, ()))]
    if max(layers, default=0) > WIDE:
        return math.inf
    networks = (
        32 * 2**20 * (1 + len(layers)) * math.prod(whole_numbers(settings.get("num_critics", 1)))
    )
    networks += 8 * sum(whole_numbers(settings.get("noise_size", 0)))
    item = step * (1 + length) if spec.num_agents else step  # teams may learn from segments
    return config.num_seeds * (networks + 4 * num_envs * length * step + capacity(learner) * item)


def whole_numbers(value: Any) -> list[int]:
    """The integers of a setting; a recipe of the user's own may call anything by any name."""
    return [x for x in (value if isinstance(value, tuple | list) else [value]) if type(x) is int]


def capacity(learner: Learner) -> int:
    """Items of the learner's replay."""
    return learner.replay.capacity if isinstance(learner, OffPolicy) else 0


def needed(
    config: RunConfig, spec: EnvSpec, learner: Learner, num_envs: int, length: int, on_host: bool
) -> list[Need]:
    """The memory needed by the large parts of a run, from traced shapes."""
    train, rollout = shapes(learner.algorithm, spec, length, num_envs)
    seeds = config.num_seeds
    of_seeds = f" of {seeds:,} seeds" if seeds > 1 else ""
    fewer = ", or --num-seeds" if seeds > 1 else ""
    needs = [
        Need(
            f"networks with {parameters(train):,} numbers{of_seeds}",
            2 * seeds * bytes_of(train),  # a step makes the next state beside the one before
            f"lower --hidden or --width{fewer}",
        ),
        Need(
            f"rollouts of {num_envs:,} x {length:,} steps{of_seeds}",
            2 * seeds * bytes_of(rollout),  # what is collected, and what is learned from it
            f"lower --num-envs or --length{fewer}",
        ),
    ]
    if isinstance(learner, OffPolicy):
        items = jax.eval_shape(learner.algorithm.items, rollout)
        each = bytes_of(items) / max(jax.tree.leaves(items)[0].shape[0], 1)
        held = capacity(learner)
        used = min(held, config.steps) if on_host else held  # untouched pages cost nothing
        needs.append(
            Need(
                f"replay of {held:,} samples of {size(each)}{of_seeds}",
                int(seeds * used * each),
                f"lower --capacity{fewer}",
            )
        )
    return needs


def bytes_of(tree: Any) -> int:
    """Bytes of all leaves, arrays or their shapes."""
    return sum(math.prod(x.shape) * itemsize(x.dtype) for x in jax.tree.leaves(tree))


def itemsize(dtype: Any) -> int:
    """Bytes of one number; keys have a few of them."""
    return getattr(dtype, "itemsize", 8)


def parameters(tree: Any) -> int:
    """Numbers in all leaves."""
    return sum(math.prod(x.shape) for x in jax.tree.leaves(tree))


def device_memory() -> int:
    """Free bytes on the device that learns."""
    device = jax.devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    if not stats or "bytes_limit" not in stats:
        return available_memory()
    return stats["bytes_limit"] - stats.get("bytes_in_use", 0)


def size(count: float) -> str:
    """Bytes as text, such as 51.5 GiB."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} TiB"
