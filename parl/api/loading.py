"""Policies of runs: evaluated, or loaded as agents."""

import dataclasses
from pathlib import Path
from typing import Any

from parl.core.errors import ConfigError
from parl.core.settings import Setting, checked
from parl.face import Agent
from parl.runs.build import Parts, load_state, make_evaluators, opponent_player
from parl.runs.directory import RunDir
from parl.runs.episodes import Rules
from parl.runs.evaluation import Evaluation
from parl.runs.fetch import run_path
from parl.runs.layout import run_seeds
from parl.runs.opponents import own_opponent
from parl.runs.preparation import prepare
from parl.runs.schedules import horizon


def evaluate(
    path: str | Path,
    episodes: int = 10,
    seed: int = 0,
    env: Any = None,
    opponent: Any = None,
    sample: bool = False,
    max_steps: int | None = None,
    algorithm: Any = None,
    checkpoint: str | int = "latest",
    log_info: str | None = None,
) -> Evaluation:
    """Episodes of a run's policy: returns [episodes], or [K, episodes] for K seeds.

    The policy is that of the checkpoint called latest, best, or by its environment steps.
    `env` may be another environment of the same spaces than the run's own, such as PettingZoo's
    version of one of ours. `opponent` is random, another run or one of the user's own, in place of
    the run's. Actions are the likeliest, or drawn with `sample`. An episode is cut after
    `max_steps`; not given, that is the environment's time limit, or 10,000 steps where it has none.
    `log_info` names numbers of the environment's info in place of the run's. `algorithm` is needed
    where the run was started with an object of the user's own.
    """
    episodes = checked("episodes", episodes, int, Setting(low=1))
    seed = checked("seed", seed, int, Setting(low=0))
    max_steps = checked("max_steps", max_steps, int | None, Setting(low=1))
    sample = checked("sample", sample, bool)
    prepare()
    parts, state = load_state(RunDir(path), env, algorithm, checkpoint)
    rival, name = own_opponent(opponent)
    if opponent is not None:
        parts = parts._replace(config=dataclasses.replace(parts.config, opponent=name))
    own, seeds = parts.learner.algorithm, parts.config.num_seeds
    if log_info is not None:
        parts = parts._replace(config=dataclasses.replace(parts.config, log_info=log_info))
    rules = Rules(max_steps, parts.config.info_names, sample)
    parts = parts._replace(rival=opponent_player(parts.config, parts.factory.spec, env, rival))
    evaluator = make_evaluators(parts, own, episodes, rules)
    take = run_seeds(parts.config).take
    games: list[Any] = [
        evaluator(own.policy(take(state.algorithm_state, k)), seed + k) for k in range(seeds)
    ]
    return evaluator.summary(games)


def load(
    path: str | Path,
    seed_index: int = 0,
    env: Any = None,
    algorithm: Any = None,
    checkpoint: str | int = "latest",
) -> Agent:
    """The agent of a run, of one of its checkpoints, or of a directory that `Agent.save` wrote.

    `seed_index` picks one of the seeds of a run with several, `checkpoint` is as in `evaluate`. The
    environment is not made: what it looks like is stored; `env` is another one of the same spaces,
    or that of a run of an older version. `algorithm` is needed where the run was started with an
    object of the user's own.
    """
    seed_index = checked("seed_index", seed_index, int)
    prepare()
    place = run_path(path).absolute()
    if place.parent.name == "checkpoints" and (place.parents[1] / "config.json").exists():
        name = int(place.name) if place.name.isdecimal() else place.name
        return load(place.parents[1], seed_index, env, algorithm, name)
    if not (place / "config.json").exists():
        if seed_index:
            raise ConfigError(f"{path} is no run: a saved agent has no seed_index {seed_index}.")
        return Agent.restore(path, algorithm, env=env)
    parts, state = load_state(RunDir(path), env, algorithm, checkpoint, plays=False)
    count = parts.config.num_seeds
    if not 0 <= seed_index < count:
        raise ConfigError(
            f"{path} has {count} seed{'s' * (count > 1)}, so seed_index must be from 0 to "
            f"{count - 1}, not {seed_index}."
        )
    train = run_seeds(parts.config).take(state.algorithm_state, seed_index)
    agent = Agent.around(
        parts.learner, kept_config(parts), parts.factory.spec, parts.config.seed + seed_index
    )
    return agent.with_algorithm_state(train)


def kept_config(parts: Parts) -> dict[str, Any]:
    """The description of a run that an agent keeps, from which it can be rebuilt."""
    return {
        "algorithm": parts.config.algorithm,
        "env": parts.config.env,
        "settings": parts.recipe.settings() | parts.layout.settings(parts.recipe),
        "steps": horizon(parts.config, parts.recipe),
    }
