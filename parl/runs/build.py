"""From a config to the objects of a run: environment, recipe, learner, execution."""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax

from parl.agents.execution.collector import Collector
from parl.agents.execution.fused import Fused
from parl.agents.execution.offline import Offline
from parl.agents.execution.pool import InlinePool
from parl.agents.execution.pooled import Pooled
from parl.agents.execution.protocol import Execution, Seeds, init_learner
from parl.agents.execution.streamed import Streamed
from parl.agents.execution.then_online import ThenOnline
from parl.agents.learner import FromData, Learner, LearnerState
from parl.core.algorithm import Algorithm
from parl.core.checkpoint import Checkpoint
from parl.core.errors import ConfigError, DamagedCheckpoint
from parl.core.finite import not_finite
from parl.core.seeding import env_seed
from parl.core.spec import EnvSpec, in_words
from parl.core.spec_json import spec_from_json, spec_to_json
from parl.datasets.reader import DataSet, open_data
from parl.envs.factory import EnvFactory, in_processes, make_factory, stored_factory
from parl.recipes import algorithm_name, make_recipe
from parl.recipes.auto import AUTO, pick
from parl.recipes.base import OffPolicyRecipe, OnPolicyRecipe, Recipe
from parl.runs.config import RunConfig
from parl.runs.data import check_learns, for_data, learner_on, packed
from parl.runs.directory import RunDir
from parl.runs.episodes import Rules
from parl.runs.evaluation import Contest, Evaluator, Player
from parl.runs.opponents import (
    ADMISSIONS,
    check,
    is_own,
    is_run,
    own_player,
    plays_itself,
    random_player,
    with_opponent,
)
from parl.runs.schedules import horizon
from parl.runs.sizes import check_memory
from parl.runs.teaching import with_teacher

# settings that a policy which only acts does without
BESIDE = ("opponent", "eval_env", "data", "record", "teacher")


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


class Parts(NamedTuple):
    """What a run is made of, before anything runs."""

    config: RunConfig  # with execution, mode and settings resolved
    factory: EnvFactory
    recipe: Recipe  # of the whole run
    layout: Layout
    learner: Learner
    judged: EnvFactory  # what policies are evaluated in
    rival: Player | None = None  # who plays the other sides, where that is not the learner
    data: DataSet | None = None  # what is learned from, beside or in place of the environment


def resolve(
    config: RunConfig, env: Any = None, algorithm: Any = None, opponent: Any = None
) -> Parts:
    """Checks a config against its environment and fills in what it leaves open.

    `env` is the user's own environment, where the config cannot make it from its id, or a factory
    that is made already; `algorithm` and `opponent` likewise.
    """
    config.check()
    factory = opened(config, env, plays=not config.without_env)
    chosen = config.algorithm if algorithm is None else algorithm
    algorithm, recipe = recipe_for(chosen, factory)
    data = open_data(config.data) if config.data else None
    if data is not None:
        check_learns(algorithm, recipe, config.data)
        recipe = for_data(recipe, config, data, factory.spec)
    recipe = at_least_one_env_per_worker(recipe.override(config.settings), max(config.actors, 1))
    if factory.fixed and "num_envs" not in config.settings:
        recipe = recipe.override({"num_envs": factory.fixed * max(config.actors, 1)})
    layout = layout_of(config, algorithm, recipe, factory)
    check_vector(config, layout, factory)
    rival = opponent_player(config, factory.spec, env, opponent)
    config = dataclasses.replace(
        with_defaults(config, factory),
        algorithm=algorithm,
        env=factory.id or factory.spec.id,
        spec=spec_to_json(factory.spec),
        own_env=not factory.id,
        execution=layout.execution,
        mode=layout.mode,
        settings=recipe.settings(),
    )
    learner = learner_on(learner_of(config, factory.spec, recipe, layout, rival), config)
    if config.teacher:
        teacher = load_player(config.teacher, config.env, env, config.teacher_checkpoint)
        learner = with_teacher(learner, config, teacher)
    check_memory(config, factory, learner, layout.envs_per_iteration, recipe.length)
    judged = judged_in(config, factory)
    return Parts(config, factory, recipe, layout, learner, judged, rival, data)


def judged_in(config: RunConfig, factory: EnvFactory) -> EnvFactory:
    """What policies are evaluated in. Raises ConfigError where they could not act there."""
    if config.eval_env == "train" and config.execution == "ray":
        raise ConfigError(
            "eval_env train is for host execution, rollout actors do not lend their environments: "
            "use --eval-env none or another environment."
        )
    if config.eval_env in ("", "none", "train"):
        return factory
    other = make_factory(config.eval_env)
    for what in ("observation_space", "action_space", "num_agents"):
        here, there = getattr(factory.spec, what), getattr(other.spec, what)
        if here != there:
            raise ConfigError(
                f"eval_env {config.eval_env} has another {what} than {factory.spec.id}: {there}, "
                f"not {here}."
            )
    return other


def opened(config: RunConfig, env: Any = None, plays: bool = True) -> EnvFactory:
    """The environment of a run, or `env` in its place, which must have the same spaces.

    Unless it `plays`, it is not made where the config says what it looks like.
    """
    stored = spec_from_json(config.spec, "config.json") if config.spec else None
    if env is None and stored is not None and not plays:
        return stored_factory(stored, config.env)
    if env is None and config.own_env:
        raise ConfigError(
            f"the run was made on an environment of your own, {config.env!r}: give it with env=..."
        )
    factory = make_factory(config.env if env is None else env)
    if stored is not None:
        check_same(factory.spec, stored)
    return factory


def check_same(spec: EnvSpec, stored: EnvSpec) -> None:
    """Raises ConfigError where an environment has other spaces than the one that was learned."""
    for what in ("observation_space", "action_space", "num_agents"):
        new, old = getattr(spec, what), getattr(stored, what)
        if new != old:
            raise ConfigError(
                f"{spec.id} has other spaces and does not fit a policy of {stored.id}: its "
                f"{what.replace('_', ' ')} is {in_words(new)} in place of {in_words(old)}."
            )


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
    execution, workers = config.execution, max(config.actors, 1)
    if recipe.num_envs % workers:
        raise ConfigError(
            f"{recipe.num_envs} environments do not divide among {workers} actors; "
            f"try --num-envs {recipe.num_envs // workers * workers}."
        )
    if execution == "auto":
        execution = "ray" if config.actors else "fused" if factory.jax else "host"
    if execution == "fused" and factory.jax is None:
        raise ConfigError(
            f"fused execution needs an environment in JAX, which {factory.spec.id} is not; "
            "use --execution host."
        )
    mode = mode_of(config, algorithm, recipe)
    updates = recipe.updates if isinstance(recipe, OffPolicyRecipe) else 1
    parts = 1  # into which an iteration is divided
    if mode == "async" and isinstance(recipe, OffPolicyRecipe):
        # as few workers' fragments as leave a whole number of updates, at best one; on-policy
        # batches stay
        parts = math.gcd(updates, workers)
    envs = recipe.num_envs
    return Layout(execution, mode, workers, envs // workers, envs // parts, updates // parts)


def in_turn(config: RunConfig, recipe: Recipe) -> bool:
    """Whether several seeds are updated one after the other."""
    if config.seeds_as == "auto":
        return config.num_seeds > 1 and recipe.seeds_in_turn and jax.default_backend() == "cpu"
    return config.seeds_as == "map"


def learner_of(
    config: RunConfig, spec: EnvSpec, recipe: Recipe, layout: Layout, rival: Player | None
) -> Learner:
    """The learner of one iteration, with its opponents."""
    envs = layout.envs_per_iteration
    if envs != recipe.num_envs:
        recipe = recipe.override(layout.settings(recipe))
    learner = recipe.learner(spec, horizon(config, recipe), envs)
    learner = learner.replace(in_turn=in_turn(config, recipe))
    rollouts = max(config.admit_every // (envs * recipe.length), 1)
    return with_opponent(learner, config.opponent, spec, rival, config.pool_size, rollouts)


def with_defaults(config: RunConfig, factory: EnvFactory) -> RunConfig:
    """The config with what follows from the length of the run and from its environment."""
    eval_every = config.eval_every or max(config.steps // 10, 1)
    schedule_steps = config.schedule_steps or config.steps
    absolute = config.absolute_episodes
    if absolute is None and not factory.spec.num_agents:
        absolute = 0
    elif absolute is None and config.eval_episodes is not None:
        absolute = 10 * config.eval_episodes  # a custom of multi-agent evaluation
    opponent = config.opponent
    return dataclasses.replace(
        config,
        eval_every=eval_every,
        eval_env=config.eval_env or ("train" if factory.made else ""),
        absolute_episodes=absolute,
        checkpoint_every=config.checkpoint_every or eval_every,
        opponent=str(Path(opponent).resolve()) if is_run(opponent) else opponent,
        teacher=str(Path(config.teacher).resolve()) if config.teacher else "",
        admit_every=config.admit_every or max(schedule_steps // ADMISSIONS, 1),
        schedule_steps=schedule_steps,
    )


def opponent_player(
    config: RunConfig, spec: EnvSpec, env: Any = None, own: Any = None
) -> Player | None:
    """Who plays the other sides where that is always the same one. Raises ConfigError.

    `own` is the user's own opponent, where the config has but its name.
    """
    if own is not None and not is_own(config.opponent):
        raise ConfigError(f"the run plays against {config.opponent or 'nobody'}, not {own!r:.60}.")
    if not config.opponent:
        return None
    check(config.opponent, spec)
    if is_own(config.opponent):
        return own_player(config.opponent if own is None else own, spec)
    if is_run(config.opponent):
        return load_player(config.opponent, config.env, env)
    return random_player(spec) if config.opponent == "random" else None


def load_player(
    path: str | Path, env_id: str, env: Any = None, checkpoint: str | int = "latest"
) -> Player:
    """The policy of a run, of its first seed. Raises ConfigError if it plays something else."""
    run = RunDir(path)
    played = run.config().env
    if played != env_id:
        raise ConfigError(f"{path} is a run on {played}, not on {env_id}: it cannot play there.")
    parts, state = load_state(run, env, checkpoint=checkpoint, plays=False)
    algorithm = parts.learner.algorithm
    policy = algorithm.policy(run_seeds(parts.config).take(state.algorithm_state, 0))
    return Player(algorithm, jax.device_get(policy))


def load_state(
    run: RunDir,
    env: Any = None,
    algorithm: Any = None,
    checkpoint: str | int = "latest",
    plays: bool = True,
) -> tuple[Parts, LearnerState]:
    """A run's parts and its learner state, without replay and without opponents.

    `env` is another environment of the same spaces, or the user's own, as `algorithm` is; see
    `opened` for `plays`.
    """
    config = run.config()
    factory = opened(config, env, plays)
    execution = config.execution if env is None and plays else "auto"
    beside = dict.fromkeys(BESIDE, "")
    alone = dataclasses.replace(config, execution=execution, env_workers=0, **beside)
    parts = resolve(alone, factory, algorithm)
    recipe, spec = parts.recipe, parts.factory.spec
    seeds = run_seeds(config)
    shape = recipe.length, parts.layout.envs_per_iteration
    state = init_learner(parts.learner, spec, seeds, *shape)
    wrapped = "/inner" if plays_itself(config.opponent) else ""
    config = dataclasses.replace(parts.config, env=config.env, opponent=config.opponent)
    parts = parts._replace(config=config)

    def restored(found: Checkpoint) -> Any:
        train = found.restore(f"run/learner/algorithm_state{wrapped}", state.algorithm_state)
        if bad := not_finite(train):
            raise DamagedCheckpoint(f"{found.path} has NaN or infinity in '{bad}'.")
        return train

    return parts, LearnerState(run.use(config.run_id, checkpoint, restored, replay=False))


def make_evaluator(
    parts: Parts, algorithm: Algorithm, episodes: int, rules: Rules
) -> Evaluator | Contest:
    """Plays episodes; where the run has opponents, against a run's policy or at random."""
    if not parts.config.opponent:
        return Evaluator(parts.judged, algorithm, episodes, rules)
    rival = parts.rival or random_player(parts.factory.spec)
    return Contest(parts.judged, algorithm, episodes, rival, rules=rules)


def recipe_for(chosen: Any, factory: EnvFactory) -> tuple[str, Recipe]:
    """An algorithm's name and its settings for an environment; for `auto` those it asks for."""
    if not isinstance(chosen, str) or chosen != AUTO:
        return algorithm_name(chosen), make_recipe(chosen, factory.spec)
    picked = pick(factory.spec, factory.jax is not None)
    recipe = make_recipe(picked.algorithm, factory.spec)
    return picked.algorithm, recipe.override(picked.settings)


def mode_of(config: RunConfig, algorithm: str, recipe: Recipe) -> str:
    """sync or async. Raises ConfigError where the algorithm cannot learn asynchronously."""
    tolerant = recipe.algorithm.tolerates_lag
    mode = config.mode
    if mode == "auto":
        made_for_it = tolerant and isinstance(recipe, OnPolicyRecipe)
        mode = "async" if config.actors and made_for_it else "sync"
    if mode == "async" and not tolerant:
        raise ConfigError(
            f"{algorithm} cannot learn from rollouts of older policies: "
            "use --mode sync, or appo or impala."
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


def run_seeds(config: RunConfig) -> Seeds:
    """The seeds of a run: several are vmapped."""
    return Seeds(config.seeds, vmapped=config.num_seeds > 1)


def make_execution(
    parts: Parts,
    say: Callable[[str], None] = lambda phase: None,
    out: Path | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> Execution:
    """The run, ready to advance; `say` is told what is waited for, `warn` what was lost.

    `out` is the run's directory, by which it is known on a cluster.
    """
    if parts.data is None:
        return make_online(parts, say, out, warn)
    say("reading the data")
    config, seeds, spec, learner = (
        parts.config,
        run_seeds(parts.config),
        parts.factory.spec,
        parts.learner,
    )
    assert isinstance(learner, FromData)
    size = parts.layout.envs_per_iteration * parts.recipe.length
    data = packed(parts.data, spec, learner.algorithm, out)
    offline = Offline(spec, learner.replace(share=1.0, updates=size), seeds, data)
    if not config.online_steps:
        return offline
    online = make_online(parts, say, out, warn, offline.state.data)
    return ThenOnline(offline, online, -(-config.data_steps // size))


def make_online(
    parts: Parts,
    say: Callable[[str], None],
    out: Path | None,
    warn: Callable[[str], None],
    data: Any = (),
) -> Execution:
    """The run in its environments; `data` is the data set that its learner's state holds."""
    config, factory, layout, learner = parts.config, parts.factory, parts.layout, parts.learner
    seeds, share = run_seeds(config), layout.envs_per_worker
    shape = layout.envs_per_iteration, parts.recipe.length
    if layout.execution == "fused":
        assert factory.jax is not None
        return Fused(factory.jax, learner, seeds, *shape, data)
    vector = factory.vector
    if config.env_workers:
        vector = in_processes(factory, config.env_workers, config.deadline, warn)
    make = partial(
        make_collector,
        vector,
        learner.algorithm,
        seeds,
        share,
        config.info_names,
        layout.workers,
    )
    if layout.execution == "host":
        pool = InlinePool([make(0)], parts.recipe.length)
        return Pooled(pool, factory.spec, learner, seeds, *shape, data)

    from parl.remote import RolloutPool, connect  # only now: it loads Ray
    from parl.remote.occupants import introduce

    say("starting Ray" if config.address == "local" else f"joining Ray at {config.address}")
    connect(config.address)
    introduce(f"{config.algorithm} on {config.env}", str(out.resolve()) if out else "")
    say(f"starting {layout.workers} rollout actor{'s' * (layout.workers > 1)}")
    pool = RolloutPool(
        make,
        layout.workers,
        share,
        parts.recipe.length,
        mode="async" if layout.mode == "async" else "sync",
        max_in_flight=1,  # a second one would be of an older policy, and gains little
        max_policy_lag=config.max_policy_lag,
        deadline=config.deadline or "auto",
        seed=config.seed,
        say=say,
    )
    try:
        if layout.mode == "sync":
            execution = Pooled(pool, factory.spec, learner, seeds, *shape, data)
        else:
            fragments = layout.envs_per_iteration // share
            execution = Streamed(pool, fragments, factory.spec, learner, seeds, *shape, data)
        pool.ready()
    except BaseException:
        pool.close()
        raise
    return execution


def make_collector(
    vector: Callable[[int, int, int], Any],
    algorithm: Algorithm,
    seeds: Seeds,
    num_envs: int,
    log_info: tuple[str, ...],
    workers: int,
    worker: int,
) -> Collector:
    """What one worker holds; runs in the worker's process.

    `worker` counts on where a worker is replaced, the indices of its environments do not.
    """
    envs = [
        vector(num_envs, env_seed(seed, worker), (k * workers + worker % workers) * num_envs)
        for k, seed in enumerate(seeds.values)
    ]
    return Collector(envs, algorithm, seeds, worker, log_info)
