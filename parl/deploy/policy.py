"""Acts with an exported policy, in the environment's own observations and actions.

    policy = Policy.load("policy")
    state = policy.start()
    action, state = policy.act(observation, state)

NumPy and the standard library are enough.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from parl.core.errors import ArtefactError
from parl.deploy import contract as contracts
from parl.deploy import threefry
from parl.deploy.arrays import Runner
from parl.deploy.contract import Contract, Leaf

MAX_ROWS = 1 << 20


class State(NamedTuple):
    """What a policy remembers between steps; opened anew where an episode starts."""

    memory: dict[str, np.ndarray]  # [B, ...] by name
    time: int = 0  # steps so far, which sampling counts


class Policy:
    """A policy read from an artefact. It never changes; what it remembers is a State."""

    def __init__(self, contract: Contract):
        self.contract = contract
        self.runners = {name: Runner(each) for name, each in contract.programs.items()}
        needed = {p.name for each in contract.programs.values() for p in each.inputs}
        self.readers = [Reader(leaf) for leaf in contract.leaves if leaf.name in needed]
        self.starts = np.cumsum((0, *contract.choices[:-1]))

    @classmethod
    def load(cls, path: str | Path) -> "Policy":
        """The policy in a directory. Raises ArtefactError where it is not as it was written."""
        return cls(contracts.read(path))

    @property
    def can_sample(self) -> bool:
        """Whether actions can be drawn; else they are the likeliest only."""
        return "sample" in self.runners

    def start(self, batch: int = 1) -> State:
        """What is remembered at the start of an episode, in each of `batch` environments."""
        if not isinstance(batch, int) or not 0 < batch <= MAX_ROWS:
            raise ArtefactError(f"a batch is of 1 to {MAX_ROWS:,} environments, not {batch!r}.")
        start = self.contract.start
        return State({name: np.repeat(x[None], batch, 0) for name, x in start.items()})

    def reset(self, state: State, first: Any) -> State:
        """The state with the start of an episode where `first` [B] is true."""
        fresh, first = self.start(len(first)).memory, np.asarray(first, bool)
        keep = lambda x, new: np.where(first.reshape(-1, *[1] * (x.ndim - 1)), new, x)
        memory = {name: keep(x, fresh[name]) for name, x in state.memory.items()}
        return State(memory, state.time)

    def act(
        self, obs: Any, state: State | None = None, seed: int | None = None, info: Any = None
    ) -> tuple[Any, State]:
        """(what the environment takes, the next state) for one observation or a batch of them.

        Greedy without a seed. With one the actions are drawn: those of JAX with the key
        `fold_in(key(seed), state.time)`. A batch has one more axis in front of every array. Where
        masks come in the environment's `info`, give that. Raises ArtefactError for what is no
        observation.
        """
        inputs, batch, single = self.observed(obs, info)
        outputs, state = self.run(inputs, batch, state, seed)
        return action_of({name: x[0] if single else x for name, x in outputs.items()}), state

    def run(
        self,
        inputs: dict[str, np.ndarray],
        batch: int,
        state: State | None = None,
        seed: int | None = None,
    ) -> tuple[dict[str, np.ndarray], State]:
        """(all outputs by name, the next state) for what networks see [B, ...], by name."""
        state = self.start(batch) if state is None else state
        if any(len(x) != batch for x in state.memory.values()):
            sizes = sorted({len(x) for x in state.memory.values()})
            raise ArtefactError(
                f"the state is of {sizes} environments, the observations of {batch}: make one with "
                f"start({batch}) where episodes open."
            )
        if seed is None:
            outputs = self.runners["greedy"](inputs | state.memory, batch)
        else:
            noise = self.noise(threefry.fold_in(self.key(seed), state.time), batch)
            outputs = self.runners["sample"](inputs | state.memory | noise, batch)
        memory = {name: outputs.pop(name, x) for name, x in state.memory.items()}
        return outputs, State(memory, state.time + 1)

    def noise(self, key: np.ndarray, batch: int) -> dict[str, np.ndarray]:
        """The noise of a key [2], as JAX draws it."""
        return self.runners["noise"]({"key": key}, batch)

    def key(self, seed: Any) -> np.ndarray:
        """The key of a seed. Raises ArtefactError where nothing can be drawn."""
        if not self.can_sample:
            raise ArtefactError(
                "this policy was exported without sampling: leave out the seed, or export it with "
                "--sample."
            )
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
            raise ArtefactError(f"a seed is an integer, not {seed!r:.40}.")
        if not 0 <= seed < 1 << 32:
            raise ArtefactError(f"a seed is from 0 to 2^32 - 1, not {seed}.")
        return threefry.key_of(int(seed))

    # --- observations -------------------------------------------------------------------------

    def observed(self, obs: Any, info: Any = None) -> tuple[dict[str, np.ndarray], int, bool]:
        """(what networks see by name, B, whether one observation was given)."""
        return self.batched({r.leaf.name: found(r.leaf, obs, info) for r in self.readers})

    def batched(self, parts: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], int, bool]:
        """As `observed`, for the parts of the environment's observation by their names."""
        inputs, sizes, single = {}, set(), False
        for reader in self.readers:
            array, single = reader(parts[reader.leaf.name])
            inputs[reader.leaf.name] = array
            sizes.add((len(array), single))
        if len(sizes) > 1:
            raise ArtefactError("the parts of the observation are not all of one batch.")
        batch = sizes.pop()[0] if sizes else 1
        if not 0 < batch <= MAX_ROWS:
            raise ArtefactError(f"a batch is of 1 to {MAX_ROWS:,} observations, not {batch}.")
        if self.contract.choices:
            legal = np.logical_or.reduceat(inputs["obs.legal"], self.starts, axis=1)
            if not legal.all():
                raise ArtefactError("the mask of the observation leaves no legal action.")
        return inputs, batch, single


class Reader:
    """Brings one part of the environment's observations to what networks see."""

    def __init__(self, leaf: Leaf):
        self.leaf, self.dtype = leaf, np.dtype(leaf.dtype)
        self.rank, self.whole = len(leaf.own_shape), self.dtype.kind in "iu"
        self.plain = leaf.shape == leaf.own_shape and leaf.counts is None and leaf.scale == 1

    def __call__(self, value: Any) -> tuple[np.ndarray, bool]:
        """(the array [B, *shape], whether one observation was given). Raises ArtefactError."""
        try:
            value = np.asarray(value)
        except (ValueError, TypeError) as error:
            raise self.error(f"it is no array of numbers: {error}") from error
        kind = value.dtype.kind
        if kind not in "biuf":
            raise self.error("it is not made of numbers")
        single = value.ndim == self.rank
        value = value[None] if single else value
        if value.shape[1:] != self.leaf.own_shape:
            shape = value.shape[1:] if single else value.shape
            own = self.leaf.own_shape
            raise self.error(f"its shape is {shape} instead of {own}, or {('B', *own)} of a batch")
        if self.plain and not self.whole and self.dtype.kind == "f":
            with np.errstate(over="ignore"):
                value = value.astype(self.dtype, copy=False)
            return self.finite(value), single
        return self.fitted(self.finite(value) if kind == "f" else value), single

    def finite(self, value: np.ndarray) -> np.ndarray:
        """Numbers unchanged. Raises ArtefactError where they are NaN or infinite."""
        if not (math.isfinite(np.vdot(value, value)) or np.isfinite(value).all()):
            raise self.error(f"it has NaN or infinity, or more than a {self.dtype} can be")
        return value

    def fitted(self, value: np.ndarray) -> np.ndarray:
        """Numbers as networks see them. Raises ArtefactError for those that cannot be."""
        leaf = self.leaf
        if leaf.counts is not None:
            value = value - leaf.shift
            if ((value < 0) | (value >= leaf.counts)).any():
                raise self.error("it holds a choice that there is not")
        with np.errstate(all="ignore"):
            array = value.astype(self.dtype)
        if self.dtype.kind != "f" and (array != value).any():
            raise self.error(f"it holds numbers that are no {self.dtype}")
        if leaf.scale != 1:
            array = array * self.dtype.type(leaf.scale)
        return array.reshape(len(array), *leaf.shape)

    def error(self, reason: str) -> ArtefactError:
        """The error for an observation that does not fit."""
        return unfit(self.leaf, reason)


def action_of(outputs: Mapping[str, Any]) -> Any:
    """What the environment takes, of outputs by name: one array, or those of several agents."""
    if "env_action" in outputs:
        return outputs["env_action"]
    prefix = "env_action."
    return {n[len(prefix) :]: x for n, x in outputs.items() if n.startswith(prefix)}


def found(leaf: Leaf, obs: Any, info: Any) -> Any:
    """The part of an observation, or of the `info`, that a leaf is. Raises ArtefactError."""
    source, value = leaf.source, obs
    if source[:1] == ("info",) and leaf.name == "obs.legal" and len(source) == 2:
        source, value = source[1:], info
    for key in source:
        inside = isinstance(value, Mapping) or (
            isinstance(value, tuple | list) and isinstance(key, int)
        )
        try:
            if not inside:
                raise KeyError(key)
            value = value[key]
        except (KeyError, IndexError) as error:
            raise unfit(leaf, f"{'/'.join(map(str, leaf.source))} is not in it") from error
    return value


def unfit(leaf: Leaf, reason: str) -> ArtefactError:
    """The error for an observation that does not fit."""
    return ArtefactError(f"not an observation of this policy: {leaf.name}: {reason}.")
