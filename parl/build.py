"""From a config to the objects of a run: environment, recipe, learner, execution."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from parl.agents.distributed import InlinePool, Pooled
from parl.agents.execution import Execution, Seeds
from parl.agents.fused import Fused
from parl.agents.host import Collector
from parl.agents.learner import Learner
from parl.config import RunConfig
from parl.core.algorithm import Algorithm
from parl.core.errors import ConfigError
from parl.core.seeding import env_seed
from parl.envs.factory import EnvFactory, make_factory
from parl.recipes import make_recipe
from parl.recipes.base import Recipe


class Parts(NamedTuple):
    """What a run is made of, before anything runs."""

    config: RunConfig  # with execution and settings resolved
    factory: EnvFactory
    recipe: Recipe
    learner: Learner
    num_envs: int  # of one seed, over all workers


def resolve(config: RunConfig, env: Any = None) -> Parts:
    """Checks a config against its environment and fills in what it leaves open.

    `env` is the user's own environment, where the config cannot make it from its id.
    """
    config.check()
    factory = make_factory(config.env if env is None else env)
    recipe = make_recipe(config.algorithm, factory.spec).override(config.settings)
    workers = max(config.actors, 1)
    if recipe.num_envs < workers:
        recipe = recipe.override({"num_envs": workers})
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
    eval_every = config.eval_every or max(config.steps // 10, 1)
    config = dataclasses.replace(
        config,
        env=factory.spec.id if env is not None else config.env,
        execution=execution,
        eval_every=eval_every,
        checkpoint_every=config.checkpoint_every or eval_every,
        schedule_steps=config.schedule_steps or config.steps,
        settings=recipe.settings(),
    )
    learner = recipe.learner(factory.spec, config.schedule_steps, recipe.num_envs)
    return Parts(config, factory, recipe, learner, recipe.num_envs)


def run_seeds(config: RunConfig) -> Seeds:
    """The seeds of a run: several are vmapped."""
    return Seeds(config.seeds, vmapped=config.num_seeds > 1)


def make_execution(parts: Parts) -> Execution:
    """The run, ready to advance."""
    config, factory, recipe, learner, num_envs = parts
    seeds = run_seeds(config)
    if config.execution == "fused":
        assert factory.jax is not None
        return Fused(factory.jax, learner, seeds, num_envs, recipe.length)
    workers = max(config.actors, 1)
    share = num_envs // workers
    make = partial(make_collector, factory.vector, learner.algorithm, seeds, share)
    if config.execution == "ray":
        from parl.remote.pool import RolloutPool  # only now: it loads Ray

        pool = RolloutPool(make, workers, share, recipe.length, mode="sync", seed=config.seed)
    else:
        pool = InlinePool([make(0)], recipe.length)
    return Pooled(pool, factory.spec, learner, seeds, share, recipe.length)


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
