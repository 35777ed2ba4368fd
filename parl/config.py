"""What a run was asked to do, as it stands in config.json."""

import dataclasses
import importlib.metadata
import platform
import uuid
from dataclasses import dataclass, field
from typing import Any

from parl.core.errors import ConfigError, nearest

EXECUTIONS = ("auto", "fused", "host", "ray")
MODES = ("auto", "sync", "async")


@dataclass(frozen=True)
class RunConfig:
    """A run, resolved: all that resuming it needs."""

    algorithm: str
    env: str
    steps: int = 100_000  # environment steps of each seed
    seed: int = 0
    num_seeds: int = 1
    execution: str = "auto"
    actors: int = 0  # Ray rollout actors
    mode: str = "auto"  # of the actors: sync, async
    max_policy_lag: int | None = None  # async: rollouts of older policies are dropped
    address: str = "local"  # of the Ray cluster
    chaos: str = ""  # faults to inject into the actors, see parl.remote.chaos
    eval_every: int = 0  # environment steps; 0: a tenth of the run
    eval_episodes: int = 20
    checkpoint_every: int = 0  # environment steps; 0: at every evaluation
    absolute_episodes: int | None = None  # of the best policy at the end; None: see resolve()
    keep: int = 3  # latest checkpoints that are kept, beside the best
    opponent: str = ""  # who plays the other sides, see parl/opponents.py
    pool_size: int = 16  # frozen policies in the opponent pool
    admit_every: int = 0  # environment steps; 0: a fiftieth of the run
    schedule_steps: int = 0  # what schedules count on; stays when a resume extends the run
    eager: bool = False  # without compilation, for debugging
    settings: dict[str, Any] = field(default_factory=dict)  # the recipe's, by flat name
    run_id: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Raises ConfigError for a value that cannot be."""
        for name, known in (("execution", EXECUTIONS), ("mode", MODES)):
            value = getattr(self, name)
            if value not in known:
                hint = nearest(value, known)
                raise ConfigError(f"unknown {name} '{value}'.{hint} Known: {', '.join(known)}.")
        for name in ("steps", "num_seeds", "eval_episodes", "keep", "pool_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}.")
        for name in ("seed", "actors", "eval_every", "checkpoint_every", "admit_every"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, it is {getattr(self, name)}.")
        if self.execution == "ray" and not self.actors:
            raise ConfigError("execution ray needs rollout actors: add --actors 2.")
        if self.actors and self.execution in ("fused", "host"):
            raise ConfigError(
                f"{self.execution} execution has no rollout actors: leave out one of the two."
            )
        if self.actors and self.num_seeds > 1:
            raise ConfigError("Ray actors serve one seed: run --num-seeds without --actors.")
        if self.max_policy_lag is not None and self.max_policy_lag < 0:
            raise ConfigError(f"max_policy_lag must not be negative, it is {self.max_policy_lag}.")
        if self.absolute_episodes is not None and self.absolute_episodes < 0:
            raise ConfigError(
                f"absolute_episodes must not be negative, it is {self.absolute_episodes}."
            )
        self.check_actors()

    def check_actors(self) -> None:
        """Raises ConfigError for what is said of rollout actors where it cannot be."""
        said = {
            "mode async": self.mode == "async",
            f"address {self.address}": self.address != "local",
            f"chaos {self.chaos}": bool(self.chaos),
            f"max_policy_lag {self.max_policy_lag}": self.max_policy_lag is not None,
        }
        for what, is_said in said.items():
            if is_said and not self.actors:
                raise ConfigError(f"{what} is for rollout actors: add --actors 2.")
        if self.chaos:
            from parl.remote.chaos import parse  # only now: it loads Ray

            parse(self.chaos)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of each run."""
        return tuple(range(self.seed, self.seed + self.num_seeds))


def from_dict(values: dict[str, Any]) -> RunConfig:
    """The config that a config.json holds. Raises ConfigError where it is not one."""
    known = {f.name for f in dataclasses.fields(RunConfig)}
    if odd := values.keys() - known:
        raise ConfigError(f"config.json has the unknown key '{sorted(odd)[0]}'.")
    try:
        return RunConfig(**values)
    except TypeError as error:
        raise ConfigError(f"config.json is incomplete: {error}.") from error


def new_run_id() -> str:
    """A name that ties checkpoints to their run."""
    return uuid.uuid4().hex


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    packages = ("parl-jax", "jax", "jaxlib", "flax", "optax", "numpy", "gymnasium")
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found | {"python": platform.python_version()}
