"""Notes printed before a run starts, about settings with unexpected effects."""

from parl.recipes.base import OffPolicyRecipe
from parl.runs.build import Parts


def rounding(parts: Parts) -> str:
    """A note if the run makes more steps than requested because rollouts are whole, or ''."""
    steps, envs, length = parts.config.steps, parts.layout.envs_per_iteration, parts.recipe.length
    made = -(-steps // (envs * length)) * envs * length
    if made == steps:
        return ""
    return f"{steps:,} steps become {made:,}: rollouts are whole, {envs} x {length} steps each"


def long_warmup(parts: Parts) -> str:
    """A note if the run ends before its warm-up does and nothing is learned, or ''."""
    steps, recipe = parts.config.steps, parts.recipe
    if not isinstance(recipe, OffPolicyRecipe) or steps > recipe.warmup:
        return ""
    return (
        f"the warm-up of {recipe.warmup:,} steps is not shorter than the run of {steps:,}: nothing "
        "will be learned; lower --warmup or raise --steps"
    )
