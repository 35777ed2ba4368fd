"""A longer run: what becomes of schedules that were made for a shorter one."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from marks import quick

import parl
from parl.algorithms.wrappers.base import AlgorithmWrapper
from parl.core.errors import ConfigError
from parl.recipes import RECIPES, recipe_class
from parl.runs.build import resolve
from parl.runs.config import RunConfig
from parl.runs.schedules import explained, extended, restarted

ENVS = {"Discrete": "jax:CartPole-v1", "Box": "jax:Pendulum-v1"}
SMALL: dict[str, Any] = {
    "hidden": (8,), "num_envs": 4, "length": 4, "minibatches": 1, "epochs": 1, "updates": 2,
    "batch_size": 8, "warmup": 32, "capacity": 256, "width": 8, "actor_width": 8, "anneal": True,
}  # fmt: skip
SHORT, LONG = 256, 1024
FALLING = [
    name
    for name in RECIPES
    if "anneal" in recipe_class(name)().types()  # pyright: ignore
]
SCHEDULED = [*FALLING, "simbav2", "flashsac"]
KINDS = "ppo", "dqn", "qmix", "nfsp", "flashsac"  # one of each way to a schedule


def config(name: str, steps: int, **changes: Any) -> RunConfig:
    recipe: Any = recipe_class(name)
    kinds = {kind.__name__ for kind in recipe.serves}
    env = ENVS["Discrete" if "Discrete" in kinds else "Box"]
    env = "jax:simple_spread" if recipe.multi_agent else env
    settings = {k: v for k, v in SMALL.items() if k in recipe().types()}
    return RunConfig(name, env, steps=steps, settings=settings, **changes)


def rates(made: RunConfig, fractions: tuple[float, ...]) -> list[float]:
    """The learning rate after these fractions of LONG steps, from what the optimiser does."""
    parts = resolve(made)
    algorithm: Any = parts.learner.algorithm
    while isinstance(algorithm, AlgorithmWrapper):
        algorithm = algorithm.inner
    control = not hasattr(algorithm, "transformation")
    optimizer = algorithm.optimizer(1e-3) if control else algorithm.transformation
    per_update = 1 if control else algorithm.steps_per_update
    per_step = parts.layout.updates / (parts.layout.envs_per_iteration * parts.recipe.length)
    warmup = getattr(parts.recipe, "warmup", 0)
    found = []
    for fraction in fractions:
        count = round((max(fraction * LONG, warmup) - max(warmup, made.schedule_from)) * per_step)
        state = at_count(optimizer.init(jnp.zeros(())), count * per_update)
        first = optimizer.update(jnp.ones(()), optimizer.init(jnp.zeros(())), jnp.zeros(()))[0]
        found.append(float(optimizer.update(jnp.ones(()), state, jnp.zeros(()))[0] / first))
    return found


def is_schedule(x: Any) -> bool:
    return isinstance(x, optax.ScaleByScheduleState)


def at_count(state: Any, count: int) -> Any:
    """An optimiser's state whose schedules have made so many steps."""
    move = lambda x: x._replace(count=jnp.int32(count)) if is_schedule(x) else x
    return jax.tree.map(move, state, is_leaf=is_schedule)


@pytest.mark.parametrize("name", quick(SCHEDULED, *KINDS))
def test_a_stretched_schedule_is_that_of_a_fresh_run_of_the_length(name: str) -> None:
    fresh = resolve(config(name, LONG)).config
    longer = extended(resolve(config(name, SHORT)).config, LONG, None, SHORT)
    assert (longer.schedule_from, longer.schedule_steps) == (0, LONG)
    at = (0.25, 0.5, 1.0)
    assert rates(longer, at) == rates(fresh, at)
    final = 0.0 if name in FALLING else 0.5
    assert rates(longer, (1.0,)) == pytest.approx([final], abs=0.05)
    kept = extended(resolve(config(name, SHORT)).config, LONG, "keep", SHORT)
    assert rates(kept, (0.5, 1.0)) == pytest.approx([final, final], abs=0.05)
    anew = extended(resolve(config(name, SHORT)).config, LONG, "restart", SHORT)
    assert (anew.schedule_from, anew.schedule_steps) == (SHORT, LONG - SHORT)
    assert rates(anew, (0.25, 1.0)) == pytest.approx([1.0, final], abs=0.05)
    middle = (SHORT + LONG) / 2 / LONG
    assert rates(anew, (middle,)) == pytest.approx([(1 + final) / 2], abs=0.05)


def test_what_is_said_of_an_extension() -> None:
    before = resolve(config("ppo", SHORT)).config
    recipe = resolve(before).recipe
    said = lambda schedule: explained(
        before, extended(before, LONG, schedule, SHORT), recipe, SHORT
    )
    assert said("stretch") == (
        "extended from 256 to 1,024 steps: its schedule is stretched over 1,024 steps, so the "
        "learning rate goes from 75% to 0% of its first."
    )
    assert "over 768 steps, so the learning rate goes from 100% to 0%" in said("restart")
    assert said("keep").endswith("so the learning rate stays at 0 and nothing more is learned.")
    assert explained(before, before, recipe, SHORT) == ""
    constant = recipe.override({"anneal": False})
    assert explained(before, extended(before, LONG, None, SHORT), constant, SHORT) == (
        "extended from 256 to 1,024 steps: the learning rate is constant."
    )


def test_a_second_extension_goes_on_from_where_the_schedule_began() -> None:
    anew = extended(config("ppo", SHORT, schedule_steps=SHORT), LONG, "restart", SHORT)
    longer = extended(anew, 2 * LONG, "stretch", LONG)
    assert (longer.schedule_from, longer.schedule_steps) == (SHORT, 2 * LONG - SHORT)


@pytest.mark.parametrize("schedule", ["stretch", "keep"])
def test_a_schedule_for_a_run_that_is_not_longer_is_refused(schedule: str) -> None:
    with pytest.raises(ConfigError, match="for a longer run"):
        extended(config("ppo", SHORT), None, schedule, SHORT)


def test_only_schedules_begin_anew() -> None:
    optimizer = optax.adam(optax.linear_schedule(1.0, 0.0, 10))
    state: Any = optimizer.update(jnp.ones(3), optimizer.init(jnp.ones(3)))[1]
    both: Any = restarted(state)
    (adam, scale), (adam_before, scale_before) = both, state
    assert int(scale.count) == 0 and int(scale_before.count) == 1
    assert int(adam.count) == 1 and np.array_equal(adam.mu, adam_before.mu)


def trained(name: str, out: Path) -> parl.Run:
    made = config(name, SHORT)
    given = {"steps": SHORT, "eval_episodes": 1, "eval_every": 2000}
    return parl.train(name, made.env, out, quiet=True, **given, **made.settings)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEDULED)
def test_more_training_trains(name: str, tmp_path: Path) -> None:
    run = trained(name, tmp_path / "run")
    shutil.copytree(run.path, tmp_path / "copy")
    longer = parl.resume(run.path, LONG, quiet=True)
    anew = parl.resume(tmp_path / "copy", LONG, quiet=True, schedule="restart")
    assert longer.result["env_steps"] == anew.result["env_steps"] >= LONG
    digests = {done.result["params_sha256"] for done in (run, longer, anew)}
    assert len(digests) == 3
    written = json.loads((tmp_path / "copy" / "config.json").read_text())
    assert written["schedule_from"] == run.result["env_steps"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ppo", "dqn", "flashsac"])
@pytest.mark.parametrize("schedule", ["stretch", "restart", "keep"])
def test_an_extended_run_that_is_interrupted_stays_what_it_is(name, schedule, tmp_path) -> None:
    run = trained(name, tmp_path / "run")
    whole = parl.resume(run.path, LONG, quiet=True, schedule=schedule)
    for file in (run.path / "checkpoints").iterdir():
        if file.name.isdecimal() and int(file.name) > run.result["env_steps"]:
            shutil.rmtree(file)
    again = parl.resume(run.path, quiet=True)
    assert again.result["params_sha256"] == whole.result["params_sha256"]
    if name == "ppo":  # nothing moves but what is learned
        stands = whole.result["params_sha256"] == run.result["params_sha256"]
        assert stands == (schedule == "keep")


@pytest.mark.slow
def test_an_extended_cartpole_reaches_what_the_fresh_run_reaches(tmp_path: Path) -> None:
    short: dict[str, Any] = {"steps": 20_480}
    long: dict[str, Any] = {"steps": 102_400}
    fresh = parl.train("ppo", "jax:CartPole-v1", tmp_path / "fresh", quiet=True, **long)
    run = parl.train("ppo", "jax:CartPole-v1", tmp_path / "run", quiet=True, **short)
    longer = parl.resume(run.path, **long, quiet=True)
    assert longer.result["return_mean"] >= 475 and fresh.result["return_mean"] >= 475
