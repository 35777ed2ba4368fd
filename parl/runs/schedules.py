"""Schedules of a run that is extended beyond its original length."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from parl.core.errors import ConfigError
from parl.core.settings import Setting, checked
from parl.recipes.base import OffPolicyRecipe, Recipe
from parl.runs.config import RunConfig

SCHEDULES = ("stretch", "restart", "keep")


def extended(config: RunConfig, steps: int | None, schedule: str | None, at: int) -> RunConfig:
    """The config of a run that goes on to `steps`, from a checkpoint at step `at`.

    Schedules are stretched over the whole run (the default), restarted for the added steps, or
    kept. Raises ConfigError.
    """
    if schedule is not None:
        schedule = checked("schedule", schedule, str, Setting(choices=SCHEDULES))
    if steps is not None:
        steps = dataclasses.replace(config, steps=steps).steps  # checked
    if steps is None or steps <= config.steps:
        if schedule is not None:
            raise ConfigError(
                f"schedule {schedule} is for a longer run: give more --steps than {config.steps:,}."
            )
        return config if steps is None else dataclasses.replace(config, steps=steps)
    spans = {
        "stretch": (config.schedule_from, steps - config.schedule_from),
        "restart": (at, steps - at),
        "keep": (config.schedule_from, config.schedule_steps),
    }
    start, span = spans[schedule or "stretch"]
    return dataclasses.replace(config, steps=steps, schedule_from=start, schedule_steps=span)


def explained(before: RunConfig, after: RunConfig, recipe: Recipe, at: int) -> str:
    """A line on how an extension affects the learning rate; empty without an extension."""
    if after.steps <= before.steps:
        return ""
    line = f"extended from {before.steps:,} to {after.steps:,} steps: "
    if recipe.final_rate == 1.0:
        return line + "the learning rate is constant."
    now, end = (
        rate_at(recipe, step - after.schedule_from, after.schedule_steps)
        for step in (at, after.steps)
    )
    if after.schedule_steps == before.schedule_steps:
        what = f"its schedule stays that of {before.schedule_steps:,} steps (keep)"
    elif after.schedule_from == before.schedule_from:
        what = f"its schedule is stretched over {after.schedule_steps:,} steps"
    else:
        what = f"its schedule starts anew, over {after.schedule_steps:,} steps"
    rates = f"goes from {now:.0%} to {end:.0%} of its first"
    rates = rates if end or now else "stays at 0 and nothing more is learned"
    return f"{line}{what}, so the learning rate {rates}."


def rate_at(recipe: Recipe, step: int, span: int) -> float:
    """The learning rate after `step` of `span` steps, as a share of the first."""
    return 1.0 - (1.0 - recipe.final_rate) * min(max(step, 0) / span, 1.0)


def horizon(config: RunConfig, recipe: Recipe) -> int:
    """Environment steps for which a recipe computes its schedules.

    Recipes subtract the warm-up, so it is added for a schedule that starts after the warm-up.
    """
    warmup = recipe.warmup if isinstance(recipe, OffPolicyRecipe) else 0
    return config.schedule_steps + min(warmup, config.schedule_from)


def restarted(state: Any) -> Any:
    """A learner's state with the step counts of its optimisers' schedules reset to 0."""
    counts = lambda x: isinstance(x, optax.ScaleByScheduleState)
    anew = lambda x: x._replace(count=jnp.zeros_like(x.count)) if counts(x) else x
    return jax.tree.map(anew, state, is_leaf=counts)
