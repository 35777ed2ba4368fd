"""The base of recipes: hyperparameters, networks and data collection of an algorithm.

A recipe is a frozen dataclass. Its settings - its own fields and the hyperparameters of its
algorithm - are one flat set of names, which command-line flags, YAML files, keyword arguments and
config.json all use.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from parl.agents.learner import Learner, OffPolicy, OnPolicy
from parl.agents.replay.hindsight import Hindsight
from parl.agents.replay.ring import NumpyReplay, Replay
from parl.agents.replay.sampling import NStep, Prioritized
from parl.algorithms.shared.optimizers import Optimizer
from parl.algorithms.wrappers.normalized import Normalized
from parl.core.algorithm import Algorithm
from parl.core.errors import ConfigError
from parl.core.goals import shows_goals
from parl.core.model import Model
from parl.core.settings import Setting, checked, kinds, suggestion
from parl.core.simulator import Simulator
from parl.core.spec import EnvSpec
from parl.ops.noise import Noise
from parl.recipes.settings import setting_of


@dataclass(frozen=True)
class Recipe:
    """How to train one algorithm. Subclasses set the algorithm, its settings and its networks."""

    serves: ClassVar[tuple[type, ...]] = ()  # kinds of action space
    multi_agent: ClassVar[bool] = False  # for several agents, or for one
    # whether a CPU updates several seeds sooner one by one: a batch of all outgrows its caches
    seeds_in_turn: ClassVar[bool] = False
    needs_data: ClassVar[bool] = False  # learns from a data set, never from an environment alone
    only_data: ClassVar[bool] = False  # needs whole episodes, which environments give bit by bit
    sees_reward: ClassVar[bool] = False  # acts on the last reward, see core/rewards.py
    for_two: ClassVar[bool] = False  # needs two players in turns, whose rewards sum to zero
    needs_simulator: ClassVar[bool] = False  # searches with a game's rules, see core/simulator.py
    opponent: ClassVar[str] = ""  # in games, unless another one is asked for
    derived: ClassVar[tuple[str, ...]] = ()  # hyperparameters that follow from other settings

    algorithm: Any
    num_envs: int = 1  # environments of one seed, over all workers
    length: int = 1  # steps of each environment in one rollout
    normalize_obs: bool = False
    normalize_reward: bool = False

    @classmethod
    def for_env(cls, spec: EnvSpec) -> Self:
        """The settings of the paper or reference implementation for this kind of environment."""
        raise NotImplementedError  # abstract

    def total_updates(self, steps: int, num_envs: int) -> int:
        """Updates in a run of `steps` environment steps in `num_envs` environments."""
        return steps // (num_envs * self.length)

    def learner(self, spec: EnvSpec, steps: int, num_envs: int) -> Learner:
        """The learner with its networks, for a run of `steps` steps in `num_envs` environments."""
        raise NotImplementedError  # abstract

    def with_goals(self, learner: Learner, spec: EnvSpec) -> Learner:
        """The learner for the goals of an environment, which most settings know nothing of."""
        return learner

    def types(self) -> dict[str, Any]:
        """The type of every setting by its flat name, hyperparameters first."""
        algorithm, own = kinds(type(self.algorithm)), dict(kinds(type(self)))
        del own["algorithm"]
        parts = {
            name for name, kind in algorithm.items() if kind in (Model, Noise, Optimizer, Simulator)
        }
        hidden = {*self.derived, *parts}
        return {name: kind for name, kind in {**algorithm, **own}.items() if name not in hidden}

    def settings(self) -> dict[str, Any]:
        """The value of every setting, by its flat name."""
        own = kinds(type(self))
        return {
            name: getattr(self if name in own else self.algorithm, name) for name in self.types()
        }

    @property
    def final_rate(self) -> float:
        """The learning rate at the end of its schedule, as a share of the initial one."""
        return 0.0 if self.settings().get("anneal") else 1.0

    def declared(self, name: str) -> Setting:
        """The meaning of a setting and its bounds."""
        return setting_of(name, type(self), type(self.algorithm))

    def override(self, changes: Mapping[str, Any]) -> Self:
        """A copy with some settings changed.

        Raises ConfigError for an unknown name or an invalid value.
        """
        types = self.types()
        if odd := [name for name in changes if name not in types]:
            hint, known = suggestion(odd[0], types), ", ".join(types)
            raise ConfigError(f"unknown setting '{odd[0]}'.{hint} Known: {known}.")
        values = {
            name: checked(name, value, types[name], self.declared(name))
            for name, value in changes.items()
        }
        own = {name: value for name, value in values.items() if name in kinds(type(self))}
        rest = {name: value for name, value in values.items() if name not in own}
        return dataclasses.replace(self, algorithm=self.algorithm.replace(**rest), **own)

    def normalized(self, algorithm: Algorithm, groups: tuple[int, ...] = ()) -> Algorithm:
        """The algorithm, wrapped if this recipe normalises; `groups` as in an EnvSpec."""
        if not (self.normalize_obs or self.normalize_reward):
            return algorithm
        gamma = getattr(self.algorithm, "gamma", 1.0)  # without one, returns are not discounted
        flags = self.normalize_obs, self.normalize_reward
        return Normalized(algorithm, gamma, *flags, num_envs=self.num_envs, groups=groups)


@dataclass(frozen=True)
class OnPolicyRecipe(Recipe):
    """Settings of algorithms that learn from each rollout once."""

    def check_minibatches(self, num_envs: int, whole: bool) -> None:
        """Raises ConfigError if a rollout cannot be split into equal minibatches.

        `whole`: the sequence of an environment is not split. The algorithm must have minibatches.
        """
        data = f"{num_envs} environment{'s' * (num_envs > 1)}"
        if not whole:
            data += f" x {self.length} step{'s' * (self.length > 1)}"
        samples, minibatches = num_envs * (1 if whole else self.length), self.algorithm.minibatches
        if samples % minibatches:
            raise ConfigError(
                f"{data} do not divide into {minibatches} minibatches; change --num-envs or "
                f"{'--minibatches' if whole else '--length'}."
            )

    def on_policy(self, algorithm: Algorithm, groups: tuple[int, ...] = ()) -> OnPolicy:
        """The learner around an algorithm with its networks."""
        return OnPolicy(self.normalized(algorithm, groups))


@dataclass(frozen=True)
class OffPolicyRecipe(Recipe):
    """Settings of algorithms that learn from replay."""

    takes_data: ClassVar[bool] = True  # learns from single steps, so that a data set can fill it

    batch_size: int = 256
    updates: int = 1  # after each rollout of num_envs * length steps
    warmup: int = 1000  # environment steps of random actions before learning
    capacity: int = 1_000_000  # items in replay
    replay_on_host: bool = False  # keep replay in host memory rather than on the device
    n_step: int = 1  # steps of a sampled transition
    priority: float = 0.0  # exponent of prioritised replay; 0 to sample uniformly
    her: bool = False  # relabel goals in hindsight
    her_share: float = 0.8  # of the samples

    def total_updates(self, steps: int, num_envs: int) -> int:
        return super().total_updates(max(steps - self.warmup, 0), num_envs) * self.updates

    def off_policy(self, algorithm: Algorithm, groups: tuple[int, ...] = ()) -> OffPolicy:
        """The learner around an algorithm with its networks."""
        return self.replayed(self.normalized(algorithm, groups))

    def replayed(self, algorithm: Algorithm) -> OffPolicy:
        """The learner around an algorithm that normalises already, or need not."""
        replay: Any = (NumpyReplay if self.replay_on_host else Replay)(self.capacity)
        replay = self.sampled(replay)
        if self.priority:
            replay = Prioritized(replay, self.priority)
        settings = self.batch_size, self.updates, self.warmup
        return OffPolicy(algorithm, replay, *settings)

    def sampled(self, replay: Any) -> Any:
        """The replay as samples are made of it: single steps, or n of them joined."""
        return NStep(replay, self.n_step, self.algorithm.gamma) if self.n_step > 1 else replay

    def with_goals(self, learner: Learner, spec: EnvSpec) -> Learner:
        """The learner with goals relabelled. Raises ConfigError if the environment has none."""
        if not self.her:
            return learner
        if not shows_goals(spec.observation_space):
            raise ConfigError(
                f"her replaces goals, and {spec.id} shows none: its observations need the entries "
                "achieved_goal and desired_goal, two vectors of one size."
            )
        assert isinstance(learner, OffPolicy)
        horizon = min(spec.max_steps or Hindsight.horizon, Hindsight.horizon)
        replay = Hindsight(learner.replay, spec.goals, self.her_share, horizon)
        return learner.replace(replay=replay)
