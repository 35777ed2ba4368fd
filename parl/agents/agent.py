"""Agent: PARL's word for the bridge to an environment, and the one mutable object.

Numpy in and out, one observation or a batch of them; everything below it is pure.
"""

from pathlib import Path
from typing import Any, Self

import jax
import numpy as np

from parl.agents.learner import (
    Learner,
    LearnerState,
    OnPolicy,
    attach,
    detach,
    example_rollout,
    guard,
)
from parl.core import checkpoint
from parl.core.algorithm import Algorithm
from parl.core.errors import CheckpointError, ConfigError
from parl.core.seeding import run_keys
from parl.core.spec import EnvSpec, Space
from parl.core.types import Rollout, Step

COUNTERS = ("env_steps", "updates", "acts")


def transition(
    obs: Any,
    action: Any,
    reward: float,
    next_obs: Any,
    terminated: bool,
    truncated: bool,
    extras: dict[str, Any] | None = None,
    first: bool = False,
) -> Rollout:
    """One step of one environment as a Rollout with axes [1, 1, ...]; `next_obs` is unreset."""
    lift = lambda x: np.asarray(x)[None, None]
    paid, discount = np.float32(reward), np.float32(1.0 - terminated)
    last = bool(terminated or truncated)
    step = Step(obs, action, paid, discount, next_obs, bool(first), last, extras or {})
    return Rollout(jax.tree.map(lift, step), ())


class Agent:
    """Acts and learns in a loop of the user's own.

    `algorithm` is an Algorithm with its networks, or a Learner around one (which adds replay).
    """

    def __init__(self, algorithm: Algorithm | Learner, spec: EnvSpec, seed: int = 0):
        self.learner: Learner = (
            OnPolicy(algorithm) if isinstance(algorithm, Algorithm) else algorithm
        )
        self.algorithm, self.spec, self.seed = self.learner.algorithm, spec, seed
        self.keys = run_keys(seed)
        train = jax.jit(lambda key: self.algorithm.init(key, spec))(self.keys.init)
        self.state = LearnerState.fresh(train)  # replay is made for the first rollout
        self.rollout_shape: tuple[int, int] | None = None  # [T, B] that replay was made for
        self.env_steps = self.updates = self.acts = 0
        self.memory: Any = None
        self.extras: dict[str, Any] = {}  # what acting gave beside the last sampled action
        self._policy = jax.jit(self.algorithm.policy)
        self._act = jax.jit(self.algorithm.act, static_argnames="explore")
        self._learn = jax.jit(self.learner.learn, donate_argnums=0)
        self._fill = jax.jit(self.learner.fill, donate_argnums=0)
        self._update = jax.jit(self.update, donate_argnums=0)
        self.weights = self._policy(self.state.train)

    def sample(self, obs: Any) -> Any:
        """Exploring actions for obs [*O] or [B, *O]."""
        return self.act(obs, explore=True)

    def predict(self, obs: Any) -> Any:
        """Greedy actions for obs [*O] or [B, *O]."""
        return self.act(obs, explore=False)

    def act(self, obs: Any, explore: bool) -> Any:
        """Actions; recurrent memory goes on until `reset`."""
        single = is_single(self.spec.observation_space, obs)
        batch = jax.tree.map(lambda x: np.asarray(x)[None] if single else np.asarray(x), obs)
        size = jax.tree.leaves(batch)[0].shape[0]
        if self.memory is None:
            self.memory = self.algorithm.memory((size,))
        key = jax.random.fold_in(self.keys.act, self.acts)
        self.acts += 1
        action, self.memory, extras = self._act(self.weights, batch, self.memory, key, explore)
        lower = lambda x: np.asarray(x)[0] if single else np.asarray(x)
        self.extras = jax.tree.map(lower, extras)
        return jax.tree.map(lower, action)

    def reset(self) -> None:
        """Forgets recurrent and noise memory: call it where an episode opens."""
        self.memory = None

    def learn(self, data: Rollout | Step) -> dict[str, float]:
        """Learns from a rollout [T, B, ...], or makes one update on a batch of steps [B, ...].

        With replay, a rollout is stored first, and the first `warmup` steps are only stored. What
        gives NaN or infinity is not learned, see `skipped`.
        """
        key = jax.random.fold_in(self.keys.learn, self.updates)
        metrics: dict[str, Any] = {}
        if isinstance(data, Rollout):
            if self.replay is None:
                self.state = self.state.replace(replay=self.empty_replay(data.steps.first.shape))
            filling = self.env_steps < self.learner.warmup
            self.env_steps += data.steps.first.size
            if filling:
                self.state = self._fill(self.state, data)
            else:
                self.state, metrics = self._learn(self.state, data, key)
        else:
            state, metrics = self._update(self.state.replace(replay=None), data, key)
            self.state = state.replace(replay=self.replay)
        self.updates += bool(metrics)
        self.weights = self._policy(self.state.train)
        return {name: float(np.mean(x)) for name, x in metrics.items()}

    def update(self, state: LearnerState, batch: Any, key: Any) -> tuple[LearnerState, Any]:
        """One update of the algorithm on a batch, in place of one of the learner on a rollout."""
        train, metrics = self.algorithm.update(state.train, batch, key)
        return guard(state, train), metrics

    @property
    def replay(self) -> Any:
        """What was stored; None before the first rollout and where the learner has no replay."""
        return self.state.replay

    @property
    def skipped(self) -> int:
        """Calls of `learn` whose result was thrown away because it had NaN or infinity."""
        return int(self.state.skipped)

    def empty_replay(self, rollout_shape: tuple[int, int]) -> Any:
        """The learner's replay for rollouts of this [T, B], None where it has none."""
        self.rollout_shape = rollout_shape
        example = example_rollout(self.algorithm, self.state.train, self.spec, *rollout_shape)
        return self.learner.init(self.state.train, example).replay

    def get_weights(self) -> Any:
        """The policy as a tree of numpy arrays."""
        return jax.device_get(self.weights)

    def set_weights(self, weights: Any) -> None:
        """Acts with this policy until the next `learn`. Raises ConfigError if it does not fit."""
        shapes = lambda tree: jax.tree.map(np.shape, tree)
        if shapes(weights) != shapes(self.weights):
            raise ConfigError("these weights have other names or shapes than this agent's policy.")
        self.weights = jax.tree.map(jax.numpy.asarray, weights)

    def save(self, path: str | Path) -> Path:
        """Writes the whole agent, replay included, to a directory; see `restore`."""
        state, rows = detach(self.state)
        meta = {"agent": self.manifest(), "rollout_shape": self.rollout_shape, "seed": self.seed}
        counters = {name: getattr(self, name) for name in COUNTERS}
        checkpoint.save(Path(path), {"state": state, "replay": rows}, meta | counters)
        return Path(path)

    def manifest(self) -> dict[str, Any]:
        """What tells one kind of agent from another in a saved one."""
        return {"algorithm": type(self.algorithm).__name__, "env": self.spec.id}

    @classmethod
    def restore(cls, path: str | Path, algorithm: Algorithm | Learner, spec: EnvSpec) -> Self:
        """The agent that `save` wrote. Raises CheckpointError where it does not fit."""
        return cls(algorithm, spec).load(path)

    def load(self, path: str | Path) -> Self:
        """Continues from what `save` wrote. Raises CheckpointError where it does not fit."""
        saved = checkpoint.read(Path(path))
        if saved.meta.get("agent") != self.manifest():
            raise CheckpointError(
                f"{path} holds {saved.meta.get('agent')}, but this agent is {self.manifest()}."
            )
        self.seed, self.keys = saved.meta["seed"], run_keys(saved.meta["seed"])
        empty = self.state
        if saved.meta["rollout_shape"]:
            empty = empty.replace(replay=self.empty_replay(tuple(saved.meta["rollout_shape"])))
        self.state = attach(saved.restore("state", detach(empty)[0]), saved.under("replay"), empty)
        for name in COUNTERS:
            setattr(self, name, saved.meta[name])
        return self.adopt(self.state.train)

    def adopt(self, train: Any) -> Self:
        """Takes an algorithm's state for its own."""
        self.state, self.weights = self.state.replace(train=train), self._policy(train)
        return self


def is_single(space: Space, obs: Any) -> bool:
    """Whether obs is one observation rather than a batch."""
    if isinstance(space, dict):
        name = next(iter(space))
        return is_single(space[name], obs[name])
    return np.ndim(obs) == len(space.shape)
