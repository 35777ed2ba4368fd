"""What is worth a line before a run starts, because it is not what one would expect."""

from parl.recipes.base import OffPolicyRecipe
from parl.runs.build import Parts


def rounding(parts: Parts) -> str:
    """That a run makes more steps than asked for, since rollouts are whole; else nothing."""
    steps, envs, length = parts.config.steps, parts.layout.envs_per_iteration, parts.recipe.length
    made = -(-steps // (envs * length)) * envs * length
    if made == steps:
        return ""
    return f"{steps:,} steps become {made:,}: rollouts are whole, {envs} x {length} steps each"


def long_warmup(parts: Parts) -> str:
    """That nothing will be learned, since the run ends before the warm-up does; else nothing."""
    steps, recipe = parts.config.steps, parts.recipe
    if not isinstance(recipe, OffPolicyRecipe) or steps > recipe.warmup:
        return ""
    return (
        f"the warm-up of {recipe.warmup:,} steps is not shorter than the run of {steps:,}: nothing "
        "will be learned; lower --warmup or raise --steps"
    )
