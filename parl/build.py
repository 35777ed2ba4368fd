"""From a config to the objects of a run: environment, recipe, learner, execution."""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from parl.agents.distributed import Pooled
from parl.agents.execution import Execution, Seeds
from parl.agents.fused import Fused
from parl.agents.host import Collector
from parl.agents.learner import Learner
from parl.agents.pool import InlinePool
from parl.agents.streaming import Streamed
from parl.config import RunConfig
from parl.core.algorithm import Algorithm
from parl.core.errors import ConfigError
from parl.core.seeding import env_seed
from parl.envs.factory import EnvFactory, make_factory
from parl.recipes import make_recipe
from parl.recipes.auto import AUTO, pick
from parl.recipes.base import OffPolicyRecipe, OnPolicyRecipe, Recipe


class Parts(NamedTuple):
    """What a run is made of, before anything runs."""

    config: RunConfig  # with execution, mode and settings resolved
    factory: EnvFactory
    recipe: Recipe  # of one iteration; num_envs are those that one iteration learns from
    learner: Learner
    share: int  # environments of each worker


def resolve(config: RunConfig, env: Any = None) -> Parts:
    """Checks a config against its environment and fills in what it leaves open.

    `env` is the user's own environment, where the config cannot make it from its id.
    """
    config.check()
    factory = make_factory(config.env if env is None else env)
    config = dataclasses.replace(config, algorithm=algorithm_for(config.algorithm, factory))
    workers = max(config.actors, 1)
    recipe = make_recipe(config.algorithm, factory.spec).override(config.settings)
    recipe = one_for_each(recipe, workers)
    if recipe.num_envs % workers:
        raise ConfigError(
            f"{recipe.num_envs} environments do not divide among {workers} actors; "
            f"try --num-envs {recipe.num_envs // workers * workers}."
        )
    execution = config.execution
    if execution == "auto":
        execution = "ray" if config.actors else "fused" if factory.jax else "host"
    if execution == "fused" and factory.jax is None:
        raise ConfigError(
            f"fused execution needs an environment in JAX, which {factory.spec.id} is not; "
            "use --execution host."
        )
    mode = resolve_mode(config, recipe)
    eval_every = config.eval_every or max(config.steps // 10, 1)
    config = dataclasses.replace(
        config,
        env=factory.spec.id if env is not None else config.env,
        execution=execution,
        mode=mode,
        eval_every=eval_every,
        checkpoint_every=config.checkpoint_every or eval_every,
        schedule_steps=config.schedule_steps or config.steps,
        settings=recipe.settings(),
    )
    share = recipe.num_envs // workers
    if mode == "async":
        recipe = one_by_one(recipe, workers)
    learner = recipe.learner(factory.spec, config.schedule_steps, recipe.num_envs)
    return Parts(config, factory, recipe, learner, share)


def algorithm_for(name: str, factory: EnvFactory) -> str:
    """The algorithm of this name; for `auto` the one that the environment asks for."""
    return pick(factory.spec, factory.jax is not None).algorithm if name == AUTO else name


def resolve_mode(config: RunConfig, recipe: Recipe) -> str:
    """sync or async. Raises ConfigError where the algorithm cannot learn asynchronously."""
    tolerant = recipe.algorithm.tolerates_lag
    mode = config.mode
    if mode == "auto":
        made_for_it = tolerant and isinstance(recipe, OnPolicyRecipe)
        mode = "async" if config.actors and made_for_it else "sync"
    if mode == "async" and not tolerant:
        raise ConfigError(
            f"{config.algorithm} cannot learn from rollouts of older policies: "
            "use --mode sync, or appo or impala."
        )
    if mode == "sync" and config.max_policy_lag is not None:
        raise ConfigError("max_policy_lag is for --mode async: sync rollouts have no lag.")
    return mode


def one_for_each(recipe: Recipe, workers: int) -> Recipe:
    """The recipe with an environment for each worker; updates per environment step stay."""
    if recipe.num_envs >= workers:
        return recipe
    more = {"num_envs": workers}
    if isinstance(recipe, OffPolicyRecipe):
        more["updates"] = math.ceil(recipe.updates * workers / recipe.num_envs)
    return recipe.override(more)


def one_by_one(recipe: Recipe, workers: int) -> Recipe:
    """The recipe of an asynchronous iteration.

    Off-policy: as few workers' fragments as leave a whole number of updates, at best one; updates
    per environment step stay. On-policy: as many as there are workers, so that batches stay.
    """
    if not isinstance(recipe, OffPolicyRecipe):
        return recipe
    parts = math.gcd(recipe.updates, workers)
    return recipe.override(
        {"num_envs": recipe.num_envs // parts, "updates": recipe.updates // parts}
    )


def run_seeds(config: RunConfig) -> Seeds:
    """The seeds of a run: several are vmapped."""
    return Seeds(config.seeds, vmapped=config.num_seeds > 1)


def make_execution(parts: Parts) -> Execution:
    """The run, ready to advance."""
    config, factory, recipe, learner, share = parts
    seeds, workers = run_seeds(config), max(config.actors, 1)
    if config.execution == "fused":
        assert factory.jax is not None
        return Fused(factory.jax, learner, seeds, recipe.num_envs, recipe.length)
    make = partial(make_collector, factory.vector, learner.algorithm, seeds, share)
    shape = recipe.num_envs, recipe.length
    if config.execution == "host":
        pool = InlinePool([make(0)], recipe.length)
        return Pooled(pool, factory.spec, learner, seeds, *shape)

    from parl.remote import RolloutPool, connect  # only now: it loads Ray

    connect(config.address)
    pool = RolloutPool(
        make,
        workers,
        share,
        recipe.length,
        mode="async" if config.mode == "async" else "sync",
        max_in_flight=1,  # a second one would be of an older policy, and gains little
        max_policy_lag=config.max_policy_lag,
        seed=config.seed,
    )
    if config.mode == "sync":
        return Pooled(pool, factory.spec, learner, seeds, *shape)
    fragments = recipe.num_envs // share
    return Streamed(pool, fragments, factory.spec, learner, seeds, *shape)


def make_collector(
    vector: Callable[[int, int], Any],
    algorithm: Algorithm,
    seeds: Seeds,
    num_envs: int,
    worker: int,
) -> Collector:
    """What one worker holds; runs in the worker's process."""
    envs = [vector(num_envs, env_seed(seed, worker)) for seed in seeds.values]
    return Collector(envs, algorithm, seeds, worker)
