"""From the parts of a run to its execution: fused, host, Ray or data."""

from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

from parl.agents.execution.collector import Collector
from parl.agents.execution.fused import Fused
from parl.agents.execution.offline import Offline
from parl.agents.execution.pool import InlinePool
from parl.agents.execution.pooled import Pooled
from parl.agents.execution.protocol import Execution, Seeds, places
from parl.agents.execution.sharded import Form, Sharded, ShardedLearner
from parl.agents.execution.streamed import Streamed
from parl.agents.execution.then_online import ThenOnline
from parl.agents.learner import FromData, shapes
from parl.core.algorithm import Algorithm
from parl.core.checkpoint import Checkpoint
from parl.core.errors import ConfigError
from parl.core.seeding import env_seed
from parl.envs.factory import in_processes
from parl.recipes.base import OffPolicyRecipe
from parl.runs.build import Parts
from parl.runs.clients import make_federated
from parl.runs.config import profiled
from parl.runs.data import packed
from parl.runs.layout import run_seeds
from parl.runs.profile import FOLDER


def make_execution(
    parts: Parts,
    say: Callable[[str], None] = lambda phase: None,
    out: Path | None = None,
    warn: Callable[[str], None] = lambda text: None,
    latest: Callable[[], Checkpoint | None] = lambda: None,
) -> Execution:
    """The run, ready to advance; `say` is told what is waited for, `warn` what was lost.

    `out` is the run's directory, by which it is known on a cluster. `latest` gives its newest
    checkpoint, from which several learners go on where one of them dies.
    """
    check_goals(parts)
    check_room(parts)
    if parts.data is None:
        return make_online(parts, say, out, warn, latest=latest)
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


# what makes the execution of a run; studies that train several together have their own
making: ContextVar[Callable[..., Any]] = ContextVar("making", default=make_execution)


def check_goals(parts: Parts) -> None:
    """Raises ConfigError if goals are to be replaced and nobody knows what would be paid then."""
    spec = parts.factory.spec
    if not (isinstance(parts.recipe, OffPolicyRecipe) and parts.recipe.her) or spec.goals:
        return
    if parts.config.without_env:
        raise ConfigError(f"her needs the environment that judges goals: add --env {spec.id}.")
    raise ConfigError(
        f"her has to know what {spec.id} pays for another goal: it needs compute_reward("
        "achieved_goal, desired_goal, info), written in JAX or a rule of the goals' distance."
    )


def check_room(parts: Parts) -> None:
    """Raises ConfigError if a shard of replay cannot hold what a rollout actor brings."""
    learner = parts.learner
    if isinstance(learner, ShardedLearner):
        shape = parts.recipe.length, parts.layout.envs_per_worker
        learner.room(shapes(learner.algorithm, parts.factory.spec, *shape)[1])


def make_online(
    parts: Parts,
    say: Callable[[str], None],
    out: Path | None,
    warn: Callable[[str], None],
    data: Any = (),
    latest: Callable[[], Checkpoint | None] = lambda: None,
) -> Execution:
    """The run in its environments; `data` is the data set that its learner's state holds."""
    config, factory, layout, learner = parts.config, parts.factory, parts.layout, parts.learner
    seeds = run_seeds(config)
    shape = layout.envs_per_iteration, parts.recipe.length
    if config.clients:
        return make_federated(parts, say)
    if layout.execution == "fused":
        assert factory.jax is not None
        return Fused(factory.jax, learner, seeds, *shape, data)
    vector = factory.vector
    if config.env_workers:
        vector = in_processes(factory, config.env_workers, config.deadline, warn)
    make = collectors_of(parts, vector)
    if layout.execution == "host":
        pool = InlinePool([make(0)], parts.recipe.length)
        return Pooled(pool, factory.spec, learner, seeds, *shape, data)

    from parl.remote import connect  # only now: it loads Ray
    from parl.remote.occupants import introduce
    from parl.remote.tracing import Traced

    say("starting Ray" if config.address == "local" else f"joining Ray at {config.address}")
    connect(config.address, distributed_files=config.worker_files)
    introduce(f"{config.algorithm} on {config.env}", str(out.resolve()) if out else "")
    if config.learners > 1:
        from parl.runs.learners import group_of

        return group_of(parts, say, warn, latest)
    say(f"starting {layout.workers} rollout actor{'s' * (layout.workers > 1)}")
    traced = None
    if config.profile_worker is not None and out is not None:
        iterations = profiled(config.profile)
        traced = Traced(config.profile_worker, iterations, out / FOLDER, warn)
    return with_actors(parts, make, layout.workers, say, data, traced)


def with_actors(
    parts: Parts,
    make: Callable[[int], Collector],
    workers: int,
    say: Callable[[str], None] = lambda phase: None,
    data: Any = (),
    traced: Any = None,
) -> Pooled:
    """An execution with rollout actors, of which `make` makes what each holds."""
    from parl.remote import RolloutPool  # only now: it loads Ray

    config, layout, learner = parts.config, parts.layout, parts.learner
    share, spec, seeds = layout.envs_per_worker, parts.factory.spec, run_seeds(config)
    shape = layout.envs_per_iteration, parts.recipe.length
    form = None
    if isinstance(learner, ShardedLearner):
        form = Form.of(learner.algorithm, spec, parts.recipe.length, layout.envs_per_iteration)
    env = variables(config.worker_env)
    pool = RolloutPool(
        make,
        workers,
        share,
        parts.recipe.length,
        mode="async" if layout.mode == "async" else "sync",
        # a second one would be of an older policy, and gains little where it is learned from once
        max_in_flight=1 if form is None else 2,
        max_policy_lag=config.max_policy_lag,
        deadline=config.deadline or "auto",
        seed=config.seed,
        min_workers=max(-(-config.min_actors // config.learners), 1),
        env=env,
        say=say,
        traced=traced,
        leaves=form and form.observed,
    )
    run: Any = (learner, seeds, *shape, data, config.averaging)
    shards, fragments = None, layout.envs_per_iteration // share // config.learners
    try:
        if form is not None:
            from parl.runs.shards import shards_of  # only now: it loads Ray

            assert isinstance(learner, ShardedLearner)
            shards = shards_of(parts, say, env)
            execution = Sharded(pool, shards, form, fragments, spec, learner, seeds, *shape)
            shards.ready()
        elif layout.mode == "sync":
            execution = Pooled(pool, spec, *run)
        else:
            execution = Streamed(pool, fragments, spec, *run)
        pool.ready()
    except BaseException:
        pool.close()
        if shards is not None:
            shards.close()
        raise
    return execution


def variables(given: tuple[str, ...]) -> dict[str, str]:
    """Environment variables from KEY=VALUE. Raises ConfigError."""
    pairs = [text.partition("=") for text in given]
    for name, equals, value in pairs:
        if not equals or not name.isidentifier():
            raise ConfigError(f"worker_env is KEY=VALUE, not '{name}{equals}{value}'.")
    return {name: value for name, _, value in pairs}


def collectors_of(
    parts: Parts, vector: Callable[[int, int, int], Any]
) -> Callable[[int], Collector]:
    """What makes the collector of a worker, in the worker's process."""
    return partial(
        make_collector,
        vector,
        parts.learner.algorithm,
        run_seeds(parts.config),
        parts.layout.envs_per_worker,
        parts.config.info_names,
        parts.layout.workers,
    )


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
    place = places(num_envs, worker % workers * num_envs, workers * num_envs)
    return Collector(envs, algorithm, seeds, worker, log_info, place=place)
