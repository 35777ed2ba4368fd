"""What may cross a process boundary: numpy arrays of the agreed shapes, with finite numbers."""

from typing import Any

import jax
import numpy as np

from parl.agents.execution.collector import Collector, Fragment
from parl.core.checkpoint import is_key, named_leaves
from parl.core.errors import EnvError, ParlError, RemoteError
from parl.core.finite import find_not_finite, unusable
from parl.core.spec import example
from parl.envs.protocol import Transition, VectorEnv
from parl.envs.pulse import beat


def to_numpy(tree: Any) -> Any:
    """A pytree as contiguous numpy arrays. Raises RemoteError for what must not cross."""
    for name, leaf in named_leaves(tree).items():
        if is_key(leaf):
            raise RemoteError(
                f"policy leaf '{name}' is a typed random key, which cannot be sent to workers; "
                "pass keys to act() or store jax.random.key_data."
            )
    host = jax.tree.map(contiguous, jax.device_get(tree))
    for name, leaf in named_leaves(host).items():
        if leaf.dtype.hasobject:
            raise RemoteError(f"policy leaf '{name}' is {leaf.dtype}, not numbers.")
    return host


def contiguous(x: Any) -> np.ndarray:
    """An array without gaps. (numpy's ascontiguousarray would give a number an axis.)"""
    return np.asarray(x, order="C")


class Guarded:
    """A vector environment whose failures carry its name, and whose answers have their shapes."""

    def __init__(self, env: VectorEnv):
        self.env, self.stepped = env, False
        self.id = env.spec.id
        self.wanted = None
        if env.spec.num_agents is None:
            self.wanted = shapes(example(env.spec.observation_space, (env.num_envs,)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)

    def reset(self) -> Any:
        """As that of the environment."""
        try:
            obs = self.env.reset()
        except (Exception, SystemExit) as error:
            raise self.named("reset", error) from error
        beat()
        self.check(obs)
        return obs

    def step(self, action: Any) -> Transition:
        """As that of the environment."""
        try:
            new = self.env.step(action)
        except (Exception, SystemExit) as error:
            raise self.named("step", error) from error
        beat()
        self.stepped = True
        self.check(new.obs)
        if new.next_obs is not new.obs:
            self.check(new.next_obs)
        return new

    def check(self, obs: Any) -> None:
        """Raises EnvError where observations are not what the space says."""
        if self.wanted is not None and shapes(obs) != self.wanted:
            raise EnvError(
                f"{self.id} gave observations of shape {shapes(obs)} where its space has "
                f"{self.wanted}."
            )

    def named(self, call: str, error: BaseException) -> ParlError:
        """What the environment raised, as an EnvError."""
        if isinstance(error, ParlError):
            return error
        return EnvError(f"{self.id} raised {type(error).__name__} in {call}: {error}")


def shapes(obs: Any) -> Any:
    """The shape of an array, or of each in a dict."""
    if isinstance(obs, np.ndarray):
        return obs.shape
    if isinstance(obs, dict):
        return {name: shapes(part) for name, part in obs.items()}
    return np.shape(obs)


def check_fragment(fragment: Fragment, collector: Collector, length: int) -> None:
    """Raises EnvError where a fragment has a wrong length, or a NaN or infinite number."""
    steps, id = fragment.rollout.steps, collector.envs[0].spec.id
    axes = (*collector.seeds.lead, length, collector.num_envs)
    # where the NaN is first: what the environment answered, then what followed from it
    given = ("observation", steps.next_obs), ("reward", steps.reward), ("action", steps.action)
    for name, tree in (*given, ("observation", steps.obs)):
        for array in jax.tree.leaves(tree):
            if array.shape[: len(axes)] != axes:
                raise EnvError(f"{id} gave {name}s {array.shape} where {axes} was asked for.")
            if found := find_not_finite(array):
                time, env = found.place[len(axes) - 2 : len(axes)]
                where = f"in environment {env}, {time} steps into a fragment of {length}"
                raise unusable(id, found, name, where)
