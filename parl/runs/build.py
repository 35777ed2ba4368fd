"""From a config to the objects of a run: environment, recipe, learner, execution."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax

from parl import ops
from parl.agents.execution.protocol import init_learner
from parl.agents.execution.sharded import ShardedLearner
from parl.agents.learner import Learner, LearnerState, OffPolicy
from parl.agents.replay.sampling import out_of_order
from parl.core.algorithm import Algorithm
from parl.core.checkpoint import Checkpoint
from parl.core.errors import ConfigError, DamagedCheckpoint
from parl.core.finite import not_finite
from parl.core.spec import EnvSpec, in_words
from parl.core.spec_json import spec_from_json, spec_to_json
from parl.core.store import place_of
from parl.datasets.reader import DataSet, open_data
from parl.envs.factory import (
    EnvFactory,
    make_factory,
    randomized,
    stored_factory,
    with_simulator,
)
from parl.envs.rewards import with_rewards_shown
from parl.recipes import algorithm_name, make_recipe, needs_simulator, sees_reward
from parl.recipes.auto import AUTO, pick
from parl.recipes.base import Recipe
from parl.runs.config import RunConfig
from parl.runs.data import check_learns, for_data, learner_on
from parl.runs.directory import RunDir
from parl.runs.episodes import Rules
from parl.runs.evaluation import Apart, Contest, Evaluator, Player
from parl.runs.layout import (
    Layout,
    at_least_one_env_per_worker,
    check_vector,
    exploring_apart,
    in_turn,
    layout_of,
    run_seeds,
)
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
from parl.runs.proximal import with_proximal
from parl.runs.schedules import horizon
from parl.runs.sizes import check_memory
from parl.runs.teaching import with_teacher

# settings that a policy which only acts does without
BESIDE = ("opponent", "eval_env", "data", "record", "teacher", "init_from")


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
    config = dataclasses.replace(config, opponent=config.opponent or recipe.opponent)
    data = open_data(config.data) if config.data else None
    if data is not None:
        check_learns(algorithm, recipe, config.data)
        recipe = for_data(recipe, config, data, factory.spec)
    if config.replay_shards:
        recipe = exploring_apart(recipe)
    recipe = at_least_one_env_per_worker(recipe.override(config.settings), config.workers)
    if factory.fixed and "num_envs" not in config.settings:
        recipe = recipe.override({"num_envs": factory.fixed * config.workers})
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
    learner = with_proximal(learner, config.proximal)
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
    if needs_simulator(config.algorithm):
        other = with_rules(other, factory.id)
    if sees_reward(config.algorithm):
        other = with_rewards_shown(other)
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

    Unless it `plays`, it is not made where the config says what it looks like; but a search plays
    with its rules.
    """
    searches = needs_simulator(config.algorithm)
    stored = spec_from_json(config.spec, "config.json") if config.spec else None
    if env is None and stored is not None and not (plays or searches):
        factory = stored_factory(stored, config.env)
        return with_rewards_shown(factory) if sees_reward(config.algorithm) else factory
    if env is None and config.own_env:
        raise ConfigError(
            f"the run was made on an environment of your own, {config.env!r}: give it with env=..."
        )
    factory = make_factory(config.env if env is None else env)
    if searches:
        factory = with_rules(factory, config.env)
    if sees_reward(config.algorithm):
        factory = with_rewards_shown(factory)
    if stored is not None:
        check_same(factory.spec, stored)
    return randomized(factory, config.randomize)


def with_rules(factory: EnvFactory, id: str) -> EnvFactory:
    """The factory with the rules of its game, or else with those of the game `id`."""
    factory = with_simulator(factory)
    return dataclasses.replace(factory, spec=ruled(factory.spec, id))


def ruled(spec: EnvSpec, id: str) -> EnvSpec:
    """The spec with the rules of the game `id`, unless it has rules.

    The same game of another package, or of a file, has none, but shows the players the same.
    """
    if spec.simulator is not None or not id:
        return spec
    return dataclasses.replace(spec, simulator=with_simulator(make_factory(id)).spec.simulator)


def check_same(spec: EnvSpec, stored: EnvSpec) -> None:
    """Raises ConfigError where an environment has other spaces than the one that was learned."""
    for what in ("observation_space", "action_space", "num_agents"):
        new, old = getattr(spec, what), getattr(stored, what)
        if new != old:
            raise ConfigError(
                f"{spec.id} has other spaces and does not fit a policy of {stored.id}: its "
                f"{what.replace('_', ' ')} is {in_words(new)} in place of {in_words(old)}."
            )


def learner_of(
    config: RunConfig, spec: EnvSpec, recipe: Recipe, layout: Layout, rival: Player | None
) -> Learner:
    """The learner of one iteration, with its opponents."""
    envs = layout.envs_per_iteration
    if envs != recipe.num_envs:
        recipe = recipe.override(layout.settings(recipe))
    learner = recipe.with_goals(recipe.learner(spec, horizon(config, recipe), envs), spec)
    learner = learner.replace(in_turn=in_turn(config, recipe))
    if layout.mode == "async" and isinstance(learner, OffPolicy):
        learner = learner.replace(replay=out_of_order(learner.replay))
    if config.replay_shards:
        assert isinstance(learner, OffPolicy)
        learner = ShardedLearner.of(learner, config.replay_shards)
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
        opponent=place_of(opponent) if is_run(opponent) else opponent,
        teacher=place_of(config.teacher) if config.teacher else "",
        init_from=place_of(config.init_from) if config.init_from else "",
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
    beside: dict[str, Any] = dict.fromkeys(BESIDE, "")
    # `factory` is randomised already, and a policy is pulled nowhere
    beside |= {"env_workers": 0, "randomize": (), "proximal": 0.0}
    alone = dataclasses.replace(config, execution=execution, **beside)
    parts = resolve(alone, factory, algorithm)
    recipe, spec = parts.recipe, parts.factory.spec
    seeds = run_seeds(config)
    shape = recipe.length, parts.layout.envs_per_iteration
    state = init_learner(with_proximal(parts.learner, config.proximal), spec, seeds, *shape)
    wrapped = "/inner" if plays_itself(config.opponent) else ""
    config = dataclasses.replace(parts.config, env=config.env, opponent=config.opponent)
    parts = parts._replace(config=config)

    def restored(found: Checkpoint) -> Any:
        train = found.restore(f"run/learner/algorithm_state{wrapped}", state.algorithm_state)
        if bad := not_finite(train):
            raise DamagedCheckpoint(f"{found.path} has NaN or infinity in '{bad}'.")
        return ops.without_centers(train)

    return parts, LearnerState(run.use(config.run_id, checkpoint, restored, replay=False))


def make_evaluator(
    parts: Parts, algorithm: Algorithm, episodes: int, rules: Rules
) -> Evaluator | Contest:
    """Plays episodes; where the run has opponents, against a run's policy or at random."""
    if not parts.config.opponent:
        return Evaluator(parts.judged, algorithm, episodes, rules)
    rival = parts.rival or random_player(parts.factory.spec)
    return Contest(parts.judged, algorithm, episodes, rival, rules=rules)


def make_evaluators(
    parts: Parts, algorithm: Algorithm, episodes: int, rules: Rules
) -> Evaluator | Contest | Apart:
    """As `make_evaluator`; where the policy searches, its network alone is evaluated, too."""
    searching = make_evaluator(parts, algorithm, episodes, rules)
    if algorithm.network is None:
        return searching
    return Apart(searching, make_evaluator(parts, algorithm.network, episodes, rules))


def recipe_for(chosen: Any, factory: EnvFactory) -> tuple[str, Recipe]:
    """An algorithm's name and its settings for an environment; for `auto` those it asks for."""
    if not isinstance(chosen, str) or chosen != AUTO:
        return algorithm_name(chosen), make_recipe(chosen, factory.spec)
    picked = pick(factory.spec, factory.jax is not None)
    recipe = make_recipe(picked.algorithm, factory.spec)
    return picked.algorithm, recipe.override(picked.settings)
