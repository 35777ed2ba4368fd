"""Runs that start from another run's policy in place of a random one."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from parl.agents.execution.protocol import Execution
from parl.core.checkpoint import named_leaves, to_numpy
from parl.core.errors import ConfigError
from parl.runs.config import RunConfig
from parl.runs.directory import RunDir

STATE = "run/learner/algorithm_state"
WANTED = {"params", "target", "obs"}  # networks, averaged copies, statistics of observations
WRAPPER = "inner"  # the part of a name that a wrapper adds


class Fitted(NamedTuple):
    """A state that has taken leaves of another run."""

    state: Any
    taken: list[str]
    left: dict[str, str]  # name -> why


def start_from(execution: Execution, config: RunConfig) -> str:
    """Gives a new execution the networks of the run `init_from`; returns a line that says which.

    Optimisers, replay and counters begin anew. With as many seeds in both runs each starts from its
    own. Raises ConfigError if no leaf fits.
    """
    source = RunDir(config.init_from)
    other = source.config()
    found = source.pick(other.run_id, config.init_checkpoint, replay=False)
    arrays, state = found.under(STATE), execution.state
    if other.num_seeds == 1:
        arrays = {name: array[None] for name, array in arrays.items()}
    fitted = take(state.algorithm_state, arrays, execution.seeds.lead)
    what = f"{config.init_from} at step {found.meta['env_steps']:,}"
    left = [f"{name} ({why})" for name, why in fitted.left.items()]
    if not fitted.taken:
        raise ConfigError(
            f"nothing of {what}, {other.algorithm} on {other.env}, fits this run: "
            f"{'; '.join(left[:3])}."
        )
    execution.set_state(state.replace(algorithm_state=fitted.state))
    rest = f"; as they were: {', '.join(left)}" if left else ""
    total = len(fitted.taken) + len(left)
    return f"starts from {what}: {len(fitted.taken)} of {total} leaves fit{rest}"


def take(state: Any, arrays: Mapping[str, np.ndarray], lead: tuple[int, ...]) -> Fitted:
    """The state [*lead, ...] with the networks of `arrays` [K, ...] that have its names and shapes.

    Names are compared without what wrappers add. Seed i of more or fewer takes i modulo K.
    """
    known = {bare(name): array for name, array in arrays.items()}
    taken: list[str] = []
    left: dict[str, str] = {}

    def chosen(name: str, leaf: Any) -> Any:
        parts = set(name.split("/"))
        if "opt" in parts or not parts & WANTED:
            return leaf
        array, ours = known.get(bare(name)), to_numpy(leaf)
        if array is None:
            left[name] = "only here"
            return leaf
        index = np.arange(lead[0]) % len(array) if lead else 0
        array = array[index]
        if array.shape != ours.shape or array.dtype != ours.dtype:
            there, here = (list(x.shape[len(lead) :]) for x in (array, ours))
            left[name] = f"{there} there, {here} here"
            return leaf
        taken.append(name)
        return array.copy() if isinstance(leaf, np.ndarray) else jnp.array(array)

    leaves = [chosen(name, leaf) for name, leaf in named_leaves(state).items()]
    return Fitted(jax.tree.unflatten(jax.tree.structure(state), leaves), taken, left)


def bare(name: str) -> str:
    """The name of a leaf without the parts that wrappers add."""
    return "/".join(part for part in name.split("/") if part != WRAPPER)
