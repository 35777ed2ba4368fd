"""What may cross a process boundary: numpy arrays of the agreed shapes, with finite numbers."""

from typing import Any

import jax
import numpy as np

from parl.agents.host import Collector, Fragment
from parl.core.checkpoint import is_key, named_leaves
from parl.core.errors import EnvError, RemoteError
from parl.core.spec import example


def to_numpy(tree: Any) -> Any:
    """A pytree as contiguous numpy arrays. Raises RemoteError for what must not cross."""
    for name, leaf in named_leaves(tree).items():
        if is_key(leaf):
            raise RemoteError(
                f"policy leaf '{name}' is a typed random key, which cannot be sent to workers; "
                "pass keys to act() or store jax.random.key_data."
            )
    host = jax.tree.map(np.ascontiguousarray, jax.device_get(tree))
    for name, leaf in named_leaves(host).items():
        if leaf.dtype.hasobject:
            raise RemoteError(f"policy leaf '{name}' is {leaf.dtype}, not numbers.")
    return host


def check_fragment(fragment: Fragment, collector: Collector, length: int) -> None:
    """Raises EnvError where a fragment has a wrong shape, or a NaN or infinite number."""
    steps, spec = fragment.rollout.steps, collector.envs[0].spec
    axes = (*collector.seeds.lead, length, collector.num_envs)
    given = {"obs": steps.obs, "next_obs": steps.next_obs, "reward": steps.reward}
    given["action"] = steps.action
    for name, array in named_leaves(given).items():
        if array.dtype.kind == "f" and not finite(array):
            time, env = np.argwhere(~np.isfinite(array))[0][len(axes) - 2 : len(axes)]
            kind = "a NaN" if np.isnan(array).any() else "an infinite number"
            raise EnvError(
                f"{spec.id} returned {kind} in {name} of environment {env}, {time} steps into a "
                "fragment; its simulation has diverged or its code has a bug."
            )
        if array.shape[: len(axes)] != axes:
            raise EnvError(f"{spec.id} gave {name} {array.shape} where {axes} was asked for.")
    if spec.num_agents is None:
        wanted = named_leaves(example(spec.observation_space, axes))
        found = named_leaves(steps.obs)
        for name in sorted(wanted.keys() | found.keys()):
            shapes = [named[name].shape if name in named else None for named in (found, wanted)]
            if shapes[0] != shapes[1]:
                raise EnvError(
                    f"{spec.id} gave observations {shapes[0]} where its space has {shapes[1]}."
                )


def finite(array: np.ndarray) -> bool:
    """Whether all numbers are finite: one dot product, and a closer look where it is not."""
    return bool(np.isfinite(np.vdot(array, array))) or bool(np.isfinite(array).all())
