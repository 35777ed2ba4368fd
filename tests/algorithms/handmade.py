"""Models small enough to compute by hand, and what an algorithm's source may not mention."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from parl import ops
from parl.core.types import Rollout, Step


@dataclass(frozen=True)
class Function:
    """A Model from a function of (params, *inputs) and its initial parameters."""

    function: Callable[..., Any]
    params: Any = None

    def init(self, key: Any, *inputs: Any) -> Any:
        return self.params

    def apply(self, params: Any, *inputs: Any, method: Any = None) -> Any:
        return self.function(params, *inputs)


@dataclass(frozen=True)
class Adding:
    """A recurrent model that sums up what it sees: memory [B] is the sum over the episode so far.

    `function` turns (params, sums [T, B]) into outputs.
    """

    function: Callable[..., Any]
    params: Any = None

    def memory(self, batch_shape: tuple[int, ...]) -> Any:
        return jnp.zeros(batch_shape)

    def init(self, key: Any, *inputs: Any) -> Any:
        return self.params

    def apply(self, params: Any, *inputs: Any, method: Any = None) -> Any:
        (obs, first, memory), sums = inputs, []
        for x, opens in zip(obs, first, strict=True):
            memory = jnp.where(opens, 0.0, memory) + x[..., 0]
            sums.append(memory)
        sums = jnp.stack(sums)
        return self.function(params, sums), sums


def steps(**fields: Any) -> Step:
    """Steps of float32 and int32 arrays; discount 1, first and last False where not given."""
    shape = np.shape(fields["reward"])
    flag = np.zeros(shape, bool)
    defaults = {"action": np.zeros(shape, np.int32), "discount": np.ones(shape, np.float32)}
    defaults |= {"first": flag, "last": flag, "extras": {}}

    def convert(x: Any) -> Any:
        if isinstance(x, dict):
            return {name: convert(part) for name, part in x.items()}
        x = np.asarray(x)
        return x.astype({"f": np.float32, "i": np.int32}.get(x.dtype.kind, x.dtype))

    return Step(**{name: convert(x) for name, x in (defaults | fields).items()})


# Logits (sum of obs so far, 0), and a value that is that sum.
ADDING_ACTOR = Adding(
    lambda p, x: ops.Categorical(p * jnp.stack([x, jnp.zeros_like(x)], -1)), jnp.float32(1)
)
ADDING_CRITIC = Adding(lambda p, x: p * x, jnp.float32(1))


def played(algorithm: Any, state: Any) -> list[Rollout]:
    """Two rollouts of four steps in three environments, as acting step by step records them.

    Observations are [1] numbers, all rewards 1; the second rollout goes on in mid-episode.
    """
    rng = np.random.default_rng(2)
    obs, last = rng.normal(size=(9, 3, 1)).astype(np.float32), rng.random((8, 3)) < 0.3
    first = np.concatenate([np.ones((1, 3), bool), last[:-1]])
    assert first[1:4].any() and not first[4].all() and first[5:].any()
    policy, act = algorithm.policy(state), jax.jit(partial(algorithm.act, explore=True))
    memories, recorded = [algorithm.memory((3,))], []
    for t in range(8):
        memory = ops.where_first(first[t], algorithm.memory((3,)), memories[-1])
        action, memory, extras = act(policy, obs[t], memory, jax.random.key(t))
        memories.append(memory)
        recorded.append((action, extras["log_prob"]))
    action, log_prob = (np.stack(x) for x in zip(*recorded, strict=True))
    fields = {"obs": obs[:8], "next_obs": obs[1:], "first": first, "last": last, "action": action}
    both = steps(**fields, reward=np.ones((8, 3)), extras={"log_prob": log_prob})
    half = lambda start: jax.tree.map(lambda x: x[start : start + 4], both)
    return [Rollout(half(start), memories[start]) for start in (0, 4)]
