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
    "ippo": "parl.recipes.ippo.IPPORecipe",
    "mappo": "parl.recipes.mappo.MAPPORecipe",
    "iql": "parl.recipes.qmix.IQLRecipe",
    "vdn": "parl.recipes.qmix.VDNRecipe",
    "qmix": "parl.recipes.qmix.QMIXRecipe",
    "pqn_vdn": "parl.recipes.pqn_vdn.PQNVDNRecipe",
    "maddpg": "parl.recipes.maddpg.MADDPGRecipe",
    "matd3": "parl.recipes.matd3.MATD3Recipe",
    "coma": "parl.recipes.coma.COMARecipe",
}

KINDS = {"Box": "continuous (Box)", "Discrete": "discrete", "MultiDiscrete": "MultiDiscrete"}


def recipe_class(name: str) -> type[Recipe]:
    """The recipe of an algorithm. Raises ConfigError for an unknown name."""
    if name not in RECIPES:
        known = [*RECIPES, "auto"]
        hint = nearest(name, known)
        raise ConfigError(f"unknown algorithm '{name}'.{hint} Known: {', '.join(known)}.")
    module, _, attribute = RECIPES[name].rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def make_recipe(name: str, spec: EnvSpec) -> Recipe:
    """An algorithm's recipe with its settings for an environment.

    Raises SpaceError where the algorithm cannot serve the environment's agents or actions.
    """
    recipe, env = recipe_class(name), spec.id.removeprefix("jax:")
    if fits(recipe, spec):
        return recipe.for_env(spec)
    able = ", ".join(sorted(k for k in RECIPES if fits(recipe_class(k), spec)))
    if recipe.multi_agent != bool(spec.num_agents):
        kind = "several agents" if recipe.multi_agent else "one agent"
        agents = f"{spec.num_agents} of them" if spec.num_agents else "a single one"
        raise SpaceError(f"{name} is for {kind}; {env} has {agents}. Try: {able}.")
    kinds = " or ".join(KINDS[kind.__name__] for kind in recipe.serves)
    raise SpaceError(
        f"{name} needs a {kinds} action space; {env} has {spec.action_space}. Try: {able}."
    )


def fits(recipe: type[Recipe], spec: EnvSpec) -> bool:
    """Whether an algorithm serves an environment's number of agents and its actions."""
    return recipe.multi_agent == bool(spec.num_agents) and isinstance(
        spec.action_space, recipe.serves
    )
