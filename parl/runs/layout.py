"""Who collects: execution, mode, workers, and how much of it one iteration learns from."""

import math
from typing import NamedTuple

import jax

from parl.agents.execution.protocol import Seeds
from parl.core.errors import ConfigError
from parl.envs.factory import EnvFactory
from parl.recipes.base import OffPolicyRecipe, OnPolicyRecipe, Recipe
from parl.runs.config import RunConfig

EPSILON, SPREAD = 0.4, 7.0  # of many environments: 0.4^(1 + 7 i / (N - 1)) of environment i of N
NOISES = 3.0  # whose noise is 0.4^(3 i / (N - 1)) of the whole
CALL = 32  # batches that are drawn from shards in one call, at least


class Layout(NamedTuple):
    """Who collects, and how much of it one iteration learns from."""

    execution: str  # fused, host or ray
    mode: str  # sync or async
    workers: int  # rollout actors, or the one that this process is
    envs_per_worker: int
    envs_per_iteration: int
    updates: int  # of an off-policy algorithm after each iteration; else 1

    def settings(self, recipe: Recipe) -> dict[str, int]:
        """What a recipe has to be told for one iteration."""
        own = {"num_envs": self.envs_per_iteration, "updates": self.updates}
        return own if isinstance(recipe, OffPolicyRecipe) else {"num_envs": own["num_envs"]}


def check_vector(config: RunConfig, layout: Layout, factory: EnvFactory) -> None:
    """Raises ConfigError where environments cannot be as many, or stepped by processes."""
    if factory.fixed not in (None, layout.envs_per_worker):
        raise ConfigError(
            f"{factory.spec.id} is a vector of {factory.fixed} environments: use --num-envs "
            f"{factory.fixed * layout.workers}, or give a function that takes num_envs."
        )
    if not config.env_workers:
        return
    if layout.execution != "host" or factory.rows is None:
        raise ConfigError(
            f"env_workers are for single environments that are stepped in Python; "
            f"{factory.spec.id} with {layout.execution} execution has none."
        )
    if config.env_workers > layout.envs_per_worker:
        raise ConfigError(
            f"{config.env_workers} env_workers cannot share {layout.envs_per_worker} environments; "
            f"use --num-envs {config.env_workers} or more."
        )


def layout_of(config: RunConfig, algorithm: str, recipe: Recipe, factory: EnvFactory) -> Layout:
    """How a run collects. Raises ConfigError where the environment or the algorithm cannot."""
    execution, workers = config.execution, config.workers
    if config.clients and not isinstance(recipe, OnPolicyRecipe):
        raise ConfigError(
            f"{algorithm} keeps a replay, and clients keep nothing from round to round: use an "
            "algorithm that learns on-policy, such as ppo."
        )
    if recipe.num_envs % workers:
        raise ConfigError(
            f"{recipe.num_envs} environments do not divide among {workers} actors; "
            f"try --num-envs {recipe.num_envs // workers * workers}."
        )
    if execution == "auto":
        execution = "ray" if config.actors else "fused" if factory.jax else "host"
    if config.clients and not factory.stored and (factory.jax is None or execution == "host"):
        raise ConfigError(
            "clients are computed together, in fused execution, with an environment in JAX: use "
            "one such as jax:CartPole-v1."
        )
    if execution == "fused" and factory.jax is None:
        raise ConfigError(
            f"fused execution needs an environment in JAX, which {factory.spec.id} is not; "
            "use --execution host."
        )
    if config.replay_shards and not isinstance(recipe, OffPolicyRecipe):
        raise ConfigError(
            f"{algorithm} learns on-policy and has no replay: leave out --replay-shards, or use "
            "an off-policy algorithm such as dqn or sac."
        )
    mode = mode_of(config, algorithm, recipe)
    updates = recipe.updates if isinstance(recipe, OffPolicyRecipe) else 1
    parts, rounds = 1, 1  # into which an iteration is divided, or which are one
    if config.replay_shards:
        parts, rounds = for_calls(updates, workers)
    elif mode == "async" and isinstance(recipe, OffPolicyRecipe):
        # as few workers' fragments as leave a whole number of updates, at best one; on-policy
        # batches stay
        parts = math.gcd(updates, workers // config.learners)
    if config.learners > 1:
        check_learners(config, execution, recipe)
    envs = recipe.num_envs
    per_iteration = envs * rounds // parts, updates * rounds // parts
    return Layout(execution, mode, workers, envs // workers, *per_iteration)


def for_calls(updates: int, workers: int) -> tuple[int, int]:
    """(parts, rounds) that make iterations of at least CALL updates, or hardly more.

    An iteration of all workers' fragments is divided into parts, or as many rounds are one.
    """
    divisors = [d for d in range(1, workers + 1) if updates % d == 0 and workers % d == 0]
    return max(d for d in divisors if d == 1 or updates // d >= CALL), -(-CALL // updates)


def check_learners(config: RunConfig, execution: str, recipe: Recipe) -> None:
    """Raises ConfigError where several learners cannot share the work."""
    if execution != "ray":
        raise ConfigError(
            f"learners {config.learners} are for rollout actors, not {execution} execution."
        )
    devices = config.learners * max(config.learner_gpus, 1)
    off_policy = recipe if isinstance(recipe, OffPolicyRecipe) else None
    size, name = (recipe.num_envs, "num-envs")
    if off_policy is not None:
        size, name = off_policy.batch_size, "batch-size"
    if size % devices:
        raise ConfigError(
            f"{name} {size} does not divide among {devices} devices; try --{name} "
            f"{-(-size // devices) * devices}."
        )
    if off_policy is None:
        check_samples(recipe, devices)
    if config.averaging is None:
        return
    if not recipe.algorithm.by_gradients:
        raise ConfigError("an algorithm without gradients has nothing to average: use --sync step.")
    if off_policy is not None and off_policy.replay_on_host:
        raise ConfigError("replay_on_host is for --sync step without --flat-gradients.")


def check_samples(recipe: Recipe, devices: int) -> None:
    """Raises ConfigError where the minibatches of a rollout do not divide among devices."""
    minibatches = getattr(recipe.algorithm, "minibatches", 1)
    whole = getattr(recipe, "recurrent", "none") != "none"  # sequences are not split
    size = recipe.num_envs * (1 if whole else recipe.length) // minibatches
    if size % devices:
        raise ConfigError(
            f"minibatches of {size} {'sequences' if whole else 'steps'} do not divide among "
            f"{devices} devices; change --num-envs or --minibatches."
        )


def in_turn(config: RunConfig, recipe: Recipe) -> bool:
    """Whether several seeds are updated one after the other."""
    return config.num_seeds > 1 and better_in_turn(config, recipe)


def better_in_turn(config: RunConfig, recipe: Recipe) -> bool:
    """Whether runs of one program are to be updated one after the other."""
    if config.seeds_as == "auto":
        return recipe.seeds_in_turn and jax.default_backend() == "cpu"
    return config.seeds_as == "map"


def mode_of(config: RunConfig, algorithm: str, recipe: Recipe) -> str:
    """sync or async. Raises ConfigError where the algorithm cannot learn asynchronously."""
    tolerant = recipe.algorithm.tolerates_lag
    mode = config.mode
    if mode == "auto":
        made_for_it = tolerant and isinstance(recipe, OnPolicyRecipe)
        mode = "async" if config.actors and made_for_it and not config.clients else "sync"
        mode = "async" if config.replay_shards else mode
    if mode == "async" and not tolerant and config.replay_shards:
        raise ConfigError(
            f"{algorithm} cannot learn from rollouts of older policies: leave out --replay-shards."
        )
    if mode == "async" and not tolerant:
        raise ConfigError(
            f"{algorithm} cannot learn from rollouts of older policies: "
            "use --mode sync, or appo or impala."
        )
    if mode == "sync" and config.min_actors:
        raise ConfigError(
            f"mode sync waits for all actors: --actors {config.actors}, or --mode async with "
            "--actors MIN:MAX."
        )
    if mode == "sync" and config.max_policy_lag is not None:
        raise ConfigError("max_policy_lag is for --mode async: sync rollouts have no lag.")
    return mode


def at_least_one_env_per_worker(recipe: Recipe, workers: int) -> Recipe:
    """The recipe with an environment for each worker; updates per environment step stay."""
    if recipe.num_envs >= workers:
        return recipe
    more = {"num_envs": workers}
    if isinstance(recipe, OffPolicyRecipe):
        more["updates"] = math.ceil(recipe.updates * workers / recipe.num_envs)
    return recipe.override(more)


def exploring_apart(recipe: Recipe) -> Recipe:
    """The recipe with environments that explore unlike each other, if it has not said so already.

    Shares of random actions are those of Horgan et al. 2018, arXiv:1803.00933, section 4.1.
    """
    said = recipe.settings()
    if said.get("epsilon_spread") == 0 and said["epsilon_start"] > 0:
        epsilon = {"epsilon_start": EPSILON, "epsilon_end": EPSILON, "epsilon_spread": SPREAD}
        recipe = recipe.override(epsilon)
    return recipe.override({"noise_spread": NOISES}) if said.get("noise_spread") == 0 else recipe


def run_seeds(config: RunConfig) -> Seeds:
    """The seeds of a run: several are vmapped."""
    return Seeds(config.seeds, vmapped=config.num_seeds > 1)
