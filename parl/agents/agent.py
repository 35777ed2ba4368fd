"""The core of an agent: a mutable object that acts and learns in the networks' spaces.

Its inputs and outputs are numpy arrays; everything below it is pure. parl/face.py adapts it to the
environment's spaces.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Self, SupportsFloat

import jax
import numpy as np

from parl.agents.execution.pooled import learning_programs
from parl.agents.execution.protocol import Seeds, init_program, policy_program
from parl.agents.learner import (
    Learner,
    LearnerState,
    OnPolicy,
    example_rollout,
    skip_if_not_finite,
    with_rows,
    without_rows,
)
from parl.agents.learner_json import learner_to_json, replay_of
from parl.core.algorithm import Algorithm
from parl.core.checkpoint import Checkpoint
from parl.core.errors import CheckpointError, ConfigError
from parl.core.programs import as_data, shared
from parl.core.seeding import run_keys
from parl.core.spec import EnvSpec
from parl.core.spec_json import ExactSpec, exact
from parl.core.types import Rollout, Step

COUNTERS = ("env_steps", "updates", "acts")


def transition(
    obs: Any,
    action: Any,
    reward: SupportsFloat,
    next_obs: Any,
    terminated: bool,
    truncated: bool,
    extras: dict[str, Any] | None = None,
    first: bool = False,
) -> Rollout:
    """One step of one environment as a Rollout with axes [1, 1, ...].

    `next_obs` is the observation before any reset. Observations and actions are the environment's,
    `extras` are `agent.extras` after sampling. Raises ConfigError if the reward is not one number.
    """
    if isinstance(reward, Mapping):
        raise ConfigError(
            "the step of an environment with several agents was given: train them with parl.train, "
            "as a loop of your own can only act."
        )
    paid = np.asarray(reward)
    if paid.size != 1 or paid.dtype.kind not in "biuf":
        raise ConfigError(f"the reward {reward!r:.60} is not one number.")
    paid, discount = paid.astype(np.float32).reshape(()), np.float32(1.0 - terminated)
    last = bool(terminated or truncated)
    step = Step(obs, action, paid, discount, next_obs, bool(first), last, extras or {})
    return Rollout(Step(*map(lifted, step)), ())


def lifted(value: Any) -> Any:
    """An observation, action or other value as arrays with axes [1, 1, ...].

    Raises ConfigError for what is no array.
    """
    if isinstance(value, Mapping):
        return {name: lifted(part) for name, part in value.items()}
    if isinstance(value, tuple):
        return tuple(map(lifted, value))
    try:
        return np.asarray(value)[None, None]
    except ValueError:  # lists of several lengths
        raise ConfigError(f"{value!r:.60} is no array of numbers.") from None


class Measured(Mapping[str, float]):
    """Metrics by name, each the mean of an array; it is waited for where it is looked at."""

    def __init__(self, arrays: dict[str, Any]):
        self.arrays = arrays

    def __getitem__(self, name: str) -> float:
        return float(np.mean(self.arrays[name]))

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)

    def __repr__(self) -> str:
        return repr(dict(self))


class LearnerAgent:
    """Acts and learns in the user's own loop, in the spaces of the networks.

    `algorithm` is an Algorithm with its networks, or a Learner around one (which adds replay).
    """

    def __init__(self, algorithm: Algorithm | Learner, spec: EnvSpec, seed: int = 0):
        self.learner: Learner = (
            OnPolicy(algorithm) if isinstance(algorithm, Algorithm) else algorithm
        )
        self.algorithm, self.spec, self.seed = self.learner.algorithm, spec, seed
        self.keys = run_keys(seed)
        self.data = as_data(self.learner)  # what programs take
        own, alone = self.data.algorithm, Seeds((seed,))
        algorithm_state = init_program(spec, alone, own)(own, self.keys.init)
        self.state = LearnerState.fresh(algorithm_state)  # replay is created with the first rollout
        self.rollout_shape: tuple[int, int] | None = None  # [T, B] of replay
        self.env_steps = self.updates = self.acts = 0
        self.memories: dict[int, Any] = {}  # acting memory by batch size
        self.extras: dict[str, Any] = {}  # extras of the last sampled action
        self._policy = policy_program(alone, own)
        self._act, self._update = agent_programs(exact(spec), jax.tree.structure(own))
        self._fill, self._learn = learning_programs(self.learner, spec, alone)
        self.weights = self._policy(own, self.state.algorithm_state)

    def act(self, obs: Any, explore: bool) -> Any:
        """Actions [B, ...] for obs [B, *O], in the networks' spaces.

        Recurrent memory is kept until `reset`, separately for each batch size.
        """
        size = jax.tree.leaves(obs)[0].shape[0]
        if size not in self.memories:
            self.memories[size] = self.algorithm.memory((size,))
        action, self.memories[size], extras = self._act(
            self.data.algorithm,
            self.weights,
            obs,
            self.memories[size],
            self.keys.act,
            np.int32(self.acts),
            explore,
        )
        self.acts += 1
        if explore:
            self.extras = jax.tree.map(np.asarray, extras)
        return np.asarray(action)

    def reset(self) -> None:
        """Clears recurrent and noise memory; call it at the start of an episode."""
        self.memories = {}

    def learn(self, data: Rollout | Step) -> Mapping[str, float]:
        """Learns from a rollout [T, B, ...], or makes one update on a batch of steps [B, ...].

        With replay, a rollout is stored first, the first `warmup` steps are only stored, and all
        rollouts must have the same shape [T, B]. Updates that give NaN or infinity are skipped, see
        `skipped`. The metrics are waited for where they are looked at. Raises ConfigError for data
        that do not fit.
        """
        metrics: dict[str, Any] = {}
        if isinstance(data, Rollout):
            data = self.fitted(data)
            filling = self.env_steps < self.learner.warmup
            self.env_steps += data.steps.first.size
            if filling:
                self.state, self.weights = self._fill(self.data, self.state, data)
            else:
                clock = np.int32(self.updates)
                learned = self._learn(self.data, self.state, data, self.keys.learn, clock)
                self.state, self.weights, metrics = learned
        else:
            data = data._replace(extras=self.own_extras(data))
            key = jax.random.fold_in(self.keys.learn, self.updates)
            own, bare = self.data.algorithm, self.state.replace(replay=None)
            state, metrics = self._update(own, bare, data, key)
            self.state = state.replace(replay=self.replay)
            self.weights = self._policy(own, self.state.algorithm_state)
        self.updates += bool(metrics)
        return Measured(metrics)

    def fitted(self, rollout: Rollout) -> Rollout:
        """Checks a rollout and selects its extras; creates replay for the first one."""
        steps = rollout.steps._replace(extras=self.own_extras(rollout.steps))
        shape = steps.first.shape
        memory, told = (), bool(jax.tree.leaves(rollout.memory))
        on_policy, like = isinstance(self.learner, OnPolicy), self.algorithm.memory((shape[-1],))
        if on_policy and not told and jax.tree.leaves(like):
            raise ConfigError(
                "this agent's networks remember: a rollout needs the memory before its first step, "
                "Rollout(steps, agent.algorithm.memory((B,))) where that opens an episode."
            )
        if told:
            memory = fitting("the memory", rollout.memory, like)
        if not on_policy and self.rollout_shape is None:
            self.state = self.state.replace(replay=self.empty_replay(shape))
        if not on_policy and tuple(self.rollout_shape or ()) != shape:
            raise ConfigError(
                f"this agent's replay is for rollouts of {self.rollout_shape} steps and "
                f"environments, and was given one of {shape}: collect rollouts of one shape."
            )
        return Rollout(steps, memory)

    def own_extras(self, steps: Step) -> dict[str, Any]:
        """The extras that this algorithm learns from. Raises ConfigError if one does not fit."""
        given = steps.extras if isinstance(steps.extras, Mapping) else {}
        if lost := [name for name in self.wanted if given.get(name) is None]:
            raise ConfigError(
                f"this algorithm learns from the {' and '.join(lost)} of the actions that it "
                "sampled: give parl.transition(..., extras=agent.extras) after agent.sample(obs)."
            )
        lead = np.shape(steps.first)
        here = lambda x: jax.ShapeDtypeStruct((*lead, *x.shape[2:]), x.dtype)
        return {
            name: fitting(f"the extra '{name}'", given[name], jax.tree.map(here, like))
            for name, like in self.wanted.items()
        }

    @property
    def wanted(self) -> dict[str, Any]:
        """Examples [1, 1, ...] of the extras that `act` returns, by name."""
        if self._wanted is None:
            steps = example_rollout(
                self.algorithm, self.state.algorithm_state, self.spec, 1, 1
            ).steps
            self._wanted = steps.extras
        return self._wanted

    _wanted: dict[str, Any] | None = None

    @property
    def replay(self) -> Any:
        """The replay state; None before the first rollout or if the learner has no replay."""
        return self.state.replay

    @property
    def skipped(self) -> int:
        """Number of `learn` calls whose result was discarded because of NaN or infinity."""
        return int(self.state.skipped)

    def empty_replay(self, rollout_shape: tuple[int, int]) -> Any:
        """The learner's empty replay for rollouts of shape [T, B]; None if it has no replay."""
        self.rollout_shape = rollout_shape
        example = example_rollout(
            self.algorithm, self.state.algorithm_state, self.spec, *rollout_shape
        )
        return self.learner.init(self.state.algorithm_state, example).replay

    def get_weights(self) -> Any:
        """The policy as a tree of numpy arrays."""
        return jax.device_get(self.weights)

    def set_weights(self, weights: Any) -> None:
        """Uses this policy until the next `learn`. Raises ConfigError if shapes do not match."""
        shapes = lambda tree: jax.tree.map(np.shape, tree)
        if shapes(weights) != shapes(self.weights):
            raise ConfigError("these weights have other names or shapes than this agent's policy.")
        self.weights = jax.tree.map(jax.numpy.asarray, weights)

    def snapshot(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """(tree of arrays, metadata) of the whole agent, replay included."""
        state, rows = without_rows(self.state)
        meta = {"agent": self.manifest(), "rollout_shape": self.rollout_shape, "seed": self.seed}
        counters = {name: getattr(self, name) for name in COUNTERS}
        return {"state": state, "replay": rows}, meta | counters

    def manifest(self) -> dict[str, Any]:
        """The description of an agent that is saved and compared on restore."""
        return {
            "algorithm": type(self.algorithm).__name__,
            "env": self.spec.id,
            "learner": learner_to_json(self.learner),
        }

    def continue_from(self, saved: Checkpoint) -> Self:
        """Restores what `snapshot` returned. Raises CheckpointError if it does not fit."""
        found, own = saved.meta.get("agent"), self.manifest()
        if not isinstance(found, dict):
            raise CheckpointError(f"{saved.path} holds no agent.")
        if found.get("algorithm") != own["algorithm"]:
            raise CheckpointError(
                f"{saved.path} holds an agent of {found.get('algorithm')}, but this agent is one "
                f"of {own['algorithm']}."
            )
        was, now = (replay_of(x["learner"]) for x in ({"learner": own["learner"]} | found, own))
        if was != now:
            raise CheckpointError(
                f"{saved.path} holds an agent with {was}, but this one has {now}: give the learner "
                "that it was saved with, or its algorithm alone."
            )
        self.seed, self.keys = saved.meta["seed"], run_keys(saved.meta["seed"])
        empty = self.state
        if saved.meta["rollout_shape"]:
            empty = empty.replace(replay=self.empty_replay(tuple(saved.meta["rollout_shape"])))
        self.state = with_rows(
            saved.restore("state", without_rows(empty)[0]), saved.under("replay"), empty
        )
        for name in COUNTERS:
            setattr(self, name, saved.meta[name])
        return self.with_algorithm_state(self.state.algorithm_state)

    def with_algorithm_state(self, algorithm_state: Any) -> Self:
        """Replaces the algorithm's state."""
        self.state = self.state.replace(algorithm_state=algorithm_state)
        self.weights = self._policy(self.data.algorithm, algorithm_state)
        return self


def fitting(name: str, given: Any, like: Any) -> Any:
    """A part of steps as numbers of the shapes and types of `like`; else ConfigError.

    `name` says in an error which part.
    """
    if jax.tree.structure(given) != jax.tree.structure(like):
        raise ConfigError(
            f"{name} of what is to be learned from is {given!r:.60}; that does not fit."
        )

    def fit(given: Any, like: Any) -> np.ndarray:
        try:
            array = np.asarray(given)
        except ValueError:  # lists of several lengths
            array = np.asarray(None)
        if array.dtype.kind not in "biuf" or array.shape != like.shape:
            raise ConfigError(
                f"{name} of what is to be learned from is {array.dtype}{array.shape}, where it has "
                f"to be {like.dtype}{like.shape}."
            )
        return array.astype(like.dtype)

    return jax.tree.map(fit, given, like)


@shared
def agent_programs(spec: ExactSpec, structure: Any) -> tuple[Any, Any]:
    """(acting, one update on a batch), for algorithms of a structure.

    acting: (algorithm, weights, obs, memory, key, time, explore) -> what `Algorithm.act` gives;
    updating: (algorithm, state, batch, key) -> (state, metrics).
    """

    def act(
        algorithm: Algorithm,
        weights: Any,
        obs: Any,
        memory: Any,
        key: Any,
        time: Any,
        explore: bool,
    ) -> tuple[Any, Any, dict[str, Any]]:
        return algorithm.act(weights, obs, memory, jax.random.fold_in(key, time), explore)

    def update(
        algorithm: Algorithm, state: LearnerState, batch: Any, key: Any
    ) -> tuple[LearnerState, Any]:
        new, metrics = algorithm.update(state.algorithm_state, batch, key)
        return skip_if_not_finite(state, new), metrics

    return jax.jit(act, static_argnums=6), jax.jit(update, donate_argnums=1)
