"""Recipes by the name of their algorithm. A new algorithm is one more line of RECIPES."""

import importlib

from parl.core.errors import ConfigError, SpaceError, nearest
from parl.core.spec import EnvSpec
from parl.recipes.base import Recipe

RECIPES = {
    "ppo": "parl.recipes.ppo.PPORecipe",
    "sac": "parl.recipes.sac.SACRecipe",
    "td3": "parl.recipes.td3.TD3Recipe",
    "ddpg": "parl.recipes.ddpg.DDPGRecipe",
    "oac": "parl.recipes.oac.OACRecipe",
    "tqc": "parl.recipes.tqc.TQCRecipe",
    "redq": "parl.recipes.redq.REDQRecipe",
    "droq": "parl.recipes.droq.DroQRecipe",
    "crossq": "parl.recipes.crossq.CrossQRecipe",
    "simba": "parl.recipes.simba.SimBaRecipe",
    "simbav2": "parl.recipes.simbav2.SimBaV2Recipe",
    "flashsac": "parl.recipes.flashsac.FlashSACRecipe",
    "dqn": "parl.recipes.dqn.DQNRecipe",
    "pg": "parl.recipes.pg.PGRecipe",
    "a2c": "parl.recipes.a2c.A2CRecipe",
    "impala": "parl.recipes.impala.IMPALARecipe",
    "appo": "parl.recipes.appo.APPORecipe",
    "es": "parl.recipes.es.ESRecipe",
}

KINDS = {"Box": "continuous (Box)", "Discrete": "discrete", "MultiDiscrete": "MultiDiscrete"}


def recipe_class(name: str) -> type[Recipe]:
    """The recipe of an algorithm. Raises ConfigError for an unknown name."""
    if name not in RECIPES:
        known = ", ".join(RECIPES)
        raise ConfigError(f"unknown algorithm '{name}'.{nearest(name, RECIPES)} Known: {known}.")
    module, _, attribute = RECIPES[name].rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def make_recipe(name: str, spec: EnvSpec) -> Recipe:
    """An algorithm's recipe with its settings for an environment.

    Raises SpaceError where the algorithm cannot serve the environment's actions.
    """
    recipe = recipe_class(name)
    if isinstance(spec.action_space, recipe.serves):
        return recipe.for_env(spec)
    kinds = " or ".join(KINDS[kind.__name__] for kind in recipe.serves)
    able = [k for k in RECIPES if isinstance(spec.action_space, recipe_class(k).serves)]
    raise SpaceError(
        f"{name} needs a {kinds} action space; {spec.id.removeprefix('jax:')} has "
        f"{spec.action_space}. Try: {', '.join(sorted(able))}."
    )
