"""Acts with an exported policy, in the environment's own observations and actions.

    policy = Policy.load("policy")
    state = policy.start()
    action, state = policy.act(observation, state)

NumPy and the standard library are enough.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from parl.core.errors import ArtefactError
from parl.deploy import contract as contracts
from parl.deploy import threefry
from parl.deploy.arrays import Runner
from parl.deploy.contract import Contract
from parl.deploy.frames import Frames
from parl.deploy.reader import Reader, found
from parl.deploy.team import Team

MAX_ROWS = 1 << 20


class State(NamedTuple):
    """What a policy remembers between steps; opened anew where an episode starts."""

    memory: dict[str, np.ndarray]  # [B, ...] by name
    time: int = 0  # steps so far, which sampling counts

    @property
    def rows(self) -> int:
        """Environments whose episodes it is of; 1 where nothing is remembered."""
        return next((len(x) for x in self.memory.values()), 1)


class Policy:
    """A policy read from an artefact. It never changes; what it remembers is a State."""

    def __init__(self, contract: Contract):
        self.contract = contract
        self.runners = {name: Runner(each) for name, each in contract.programs.items()}
        needed = {p.name for each in contract.programs.values() for p in each.inputs}
        self.readers = [Reader(leaf) for leaf in contract.leaves if leaf.name in needed]
        self.starts = np.cumsum((0, *contract.choices[:-1]))
        self.team = Team(contract) if contract.members else None
        self.frames = None if contract.stack is None else Frames(contract.stack, contract.leaves[0])

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
        memory = {name: np.repeat(x[None], batch, 0) for name, x in self.contract.start.items()}
        return State(memory if self.frames is None else memory | self.frames.start(batch))

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
        masks come in the environment's `info`, give that. Where the environment stacks frames a
        single frame is enough: the state keeps the others. Observations of several agents may be a
        dict by their names, as may be the infos; then so are the actions of those who are to move.
        Raises ArtefactError for what is no observation.
        """
        if self.team is not None and self.team.given(obs):
            parts, movers = self.team.looked(obs, info)
            outputs, state = self.run(*self.batched(parts)[:2], state, seed)
            return self.team.answers(outputs, movers, obs), state
        if self.frames is None:
            inputs, batch, single = self.observed(obs, info)
        else:
            inputs, batch, single = self.observed(obs, info, 1 if state is None else state.rows)
            inputs, state = self.stacked(inputs, self.fitting(state, batch))
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
        state = self.fitting(state, batch)
        if seed is None:
            outputs = self.runners["greedy"](inputs | state.memory, batch)
        else:
            noise = self.noise(threefry.fold_in(self.key(seed), state.time), batch)
            outputs = self.runners["sample"](inputs | state.memory | noise, batch)
        memory = {name: outputs.pop(name, x) for name, x in state.memory.items()}
        return outputs, State(memory, state.time + 1)

    def fitting(self, state: State | None, batch: int) -> State:
        """The state, or that of episodes that open. Raises ArtefactError for another batch's."""
        if state is None:
            return self.start(batch)
        if any(len(x) != batch for x in state.memory.values()):
            sizes = sorted({len(x) for x in state.memory.values()})
            raise ArtefactError(
                f"the state is of {sizes} environments, the observations of {batch}: make one with "
                f"start({batch}) where episodes open."
            )
        return state

    def stacked(
        self, inputs: dict[str, np.ndarray], state: State
    ) -> tuple[dict[str, np.ndarray], State]:
        """(what networks see, the state); where frames are stacked, whole stacks, remembered."""
        if self.frames is None:
            return inputs, state
        ((name, seen),) = inputs.items()
        stack, memory = self.frames(seen, state.memory)
        return {name: stack}, State(memory, state.time)

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

    def observed(
        self, obs: Any, info: Any = None, rows: int | None = 1
    ) -> tuple[dict[str, np.ndarray], int, bool]:
        """(what networks see by name, B, whether one observation was given).

        Where frames are stacked they may be single ones, of as many environments as `rows`; None
        where that is not known. `stacked` makes stacks of them.
        """
        if self.team is not None and self.team.given(obs):
            return self.batched(self.team.looked(obs, info)[0])
        return self.batched({r.leaf.name: found(r.leaf, obs, info) for r in self.readers}, rows)

    def batched(
        self, parts: Mapping[str, Any], rows: int | None = 1
    ) -> tuple[dict[str, np.ndarray], int, bool]:
        """As `observed`, for the parts of the environment's observation by their names."""
        inputs, sizes, single = {}, set(), False
        for reader in self.readers:
            value, frames = parts[reader.leaf.name], self.frames
            if frames is not None and frames.given(reader.array(value).shape, rows):
                reader = frames.reader
            array, single = reader(value)
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


def action_of(outputs: Mapping[str, Any]) -> Any:
    """What the environment takes, of outputs by name: one array, or those of several agents."""
    if "env_action" in outputs:
        return outputs["env_action"]
    prefix = "env_action."
    return {n[len(prefix) :]: x for n, x in outputs.items() if n.startswith(prefix)}
