"""From a config to the objects of a run: environment, recipe, learner, execution."""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax

from parl.agents.distributed import Pooled
from parl.agents.execution import Execution, Seeds, init_learner
from parl.agents.fused import Fused
from parl.agents.host import Collector
from parl.agents.learner import Learner, LearnerState
from parl.agents.pool import InlinePool
from parl.agents.streaming import Streamed
from parl.config import RunConfig
from parl.core.algorithm import Algorithm
from parl.core.errors import ConfigError
from parl.core.seeding import env_seed
from parl.core.spec import EnvSpec
from parl.envs.factory import EnvFactory, make_factory
from parl.evaluation import Contest, Evaluator, Player
from parl.opponents import ADMISSIONS, check, is_run, plays_itself, random_player, with_opponent
from parl.recipes import make_recipe
from parl.recipes.auto import AUTO, pick
from parl.recipes.base import OffPolicyRecipe, OnPolicyRecipe, Recipe
from parl.run_dir import RunDir


class Parts(NamedTuple):
    """What a run is made of, before anything runs."""

    config: RunConfig  # with execution, mode and settings resolved
    factory: EnvFactory
    recipe: Recipe  # of one iteration; num_envs are those that one iteration learns from
    learner: Learner
    share: int  # environments of each worker
    rival: Player | None = None  # who plays the other sides, where that is not the learner


def resolve(config: RunConfig, env: Any = None) -> Parts:
    """Checks a config against its environment and fills in what it leaves open.

    `env` is the user's own environment, where the config cannot make it from its id.
    """
    config.check()
    factory = make_factory(config.env if env is None else env)
    algorithm, recipe = recipe_for(config.algorithm, factory)
    config = dataclasses.replace(config, algorithm=algorithm)
    workers = max(config.actors, 1)
    recipe = one_for_each(recipe.override(config.settings), workers)
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
    rival = rival_of(config, factory.spec, env)
    config = dataclasses.replace(
        filled_in(config, factory),
        env=factory.spec.id if env is not None else config.env,
        execution=execution,
        mode=mode,
        settings=recipe.settings(),
    )
    share = recipe.num_envs // workers
    if mode == "async":
        recipe = one_by_one(recipe, workers)
    learner = recipe.learner(factory.spec, config.schedule_steps, recipe.num_envs)
    rollouts = max(config.admit_every // (recipe.num_envs * recipe.length), 1)
    learner = with_opponent(
        learner, config.opponent, factory.spec, rival, config.pool_size, rollouts
    )
    return Parts(config, factory, recipe, learner, share, rival)


def filled_in(config: RunConfig, factory: EnvFactory) -> RunConfig:
    """The config with what follows from the length of the run and from its environment."""
    eval_every = config.eval_every or max(config.steps // 10, 1)
    schedule_steps = config.schedule_steps or config.steps
    absolute = config.absolute_episodes
    if absolute is None:  # a custom of multi-agent evaluation, which takes its time
        absolute = 10 * config.eval_episodes if factory.spec.num_agents else 0
    opponent = config.opponent
    return dataclasses.replace(
        config,
        eval_every=eval_every,
        absolute_episodes=absolute,
        checkpoint_every=config.checkpoint_every or eval_every,
        opponent=str(Path(opponent).resolve()) if is_run(opponent) else opponent,
        admit_every=config.admit_every or max(schedule_steps // ADMISSIONS, 1),
        schedule_steps=schedule_steps,
    )


def rival_of(config: RunConfig, spec: EnvSpec, env: Any = None) -> Player | None:
    """Who plays the other sides where that is always the same one. Raises ConfigError."""
    if not config.opponent:
        return None
    check(config.opponent, spec)
    if is_run(config.opponent):
        return load_player(config.opponent, config.env, env)
    return random_player(spec) if config.opponent == "random" else None


def load_player(path: str | Path, env_id: str, env: Any = None) -> Player:
    """The policy of a run, of its first seed. Raises ConfigError if it plays something else."""
    run = RunDir(path)
    played = run.config().env
    if played != env_id:
        raise ConfigError(f"{path} is a run on {played}, not on {env_id}: it cannot play there.")
    parts, state = load_state(run, env)
    algorithm = parts.learner.algorithm
    policy = algorithm.policy(run_seeds(parts.config).take(state.train, 0))
    return Player(algorithm, jax.device_get(policy))


def load_state(run: RunDir, env: Any = None) -> tuple[Parts, LearnerState]:
    """A run's parts and its newest learner state, without replay and without opponents.

    `env` is another environment of the same spaces, or the user's own.
    """
    config = run.config()
    found = run.latest(config.run_id)
    alone = dataclasses.replace(config, opponent="", execution="auto" if env else config.execution)
    parts = resolve(alone, env)
    recipe, spec = parts.recipe, parts.factory.spec
    seeds = run_seeds(config)
    state = init_learner(parts.learner, spec, seeds, recipe.length, recipe.num_envs)
    wrapped = "/inner" if plays_itself(config.opponent) else ""
    config = dataclasses.replace(parts.config, env=config.env, opponent=config.opponent)
    parts = parts._replace(config=config)
    return parts, LearnerState(found.restore(f"run/learner/train{wrapped}", state.train))


def make_evaluator(parts: Parts, algorithm: Algorithm, episodes: int) -> Evaluator | Contest:
    """Plays greedy episodes; where the run has opponents, against a run's policy or at random."""
    if not parts.config.opponent:
        return Evaluator(parts.factory, algorithm, episodes)
    rival = parts.rival or random_player(parts.factory.spec)
    return Contest(parts.factory, algorithm, episodes, rival)


def recipe_for(name: str, factory: EnvFactory) -> tuple[str, Recipe]:
    """An algorithm and its settings for an environment; for `auto` those it asks for."""
    if name != AUTO:
        return name, make_recipe(name, factory.spec)
    picked = pick(factory.spec, factory.jax is not None)
    recipe = make_recipe(picked.algorithm, factory.spec)
    return picked.algorithm, recipe.override(picked.settings)


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
    config, factory, recipe, learner, share, _ = parts
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
