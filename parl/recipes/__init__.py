"""Recipes by the name of their algorithm, built-in or the user's own.

A new built-in algorithm is one more line of RECIPES. A user's algorithm is a recipe class, an
algorithm or a learner, given as an object or by a name such as my_lab.sac:MySAC.
"""

import importlib
from typing import Any

from parl.agents.learner import OffPolicy, OnPolicy
from parl.core.algorithm import Algorithm
from parl.core.errors import ConfigError, SpaceError, nearest
from parl.core.loading import OBJECT, called, is_path, load
from parl.core.spec import EnvSpec
from parl.recipes.base import Recipe
from parl.recipes.own import recipe_around

RECIPES = {
    "ppo": "parl.recipes.ppo.PPORecipe",
    "sac": "parl.recipes.sac.SACRecipe",
    "td3": "parl.recipes.td3.TD3Recipe",
    "ddpg": "parl.recipes.ddpg.DDPGRecipe",
    "d4pg": "parl.recipes.d4pg.D4PGRecipe",
    "oac": "parl.recipes.oac.OACRecipe",
    "tqc": "parl.recipes.tqc.TQCRecipe",
    "redq": "parl.recipes.redq.REDQRecipe",
    "droq": "parl.recipes.droq.DroQRecipe",
    "crossq": "parl.recipes.crossq.CrossQRecipe",
    "simba": "parl.recipes.simba.SimBaRecipe",
    "simbav2": "parl.recipes.simbav2.SimBaV2Recipe",
    "flashsac": "parl.recipes.flashsac.FlashSACRecipe",
    "tdmpc2": "parl.recipes.tdmpc2.TDMPC2Recipe",
    "dqn": "parl.recipes.dqn.DQNRecipe",
    "qrdqn": "parl.recipes.qrdqn.QRDQNRecipe",
    "c51": "parl.recipes.c51.C51Recipe",
    "iqn": "parl.recipes.iqn.IQNRecipe",
    "rainbow": "parl.recipes.rainbow.RainbowRecipe",
    "munchausen": "parl.recipes.munchausen.MunchausenRecipe",
    "r2d2": "parl.recipes.r2d2.R2D2Recipe",
    "pqn": "parl.recipes.pqn.PQNRecipe",
    "dsac": "parl.recipes.dsac.DSACRecipe",
    "muzero": "parl.recipes.muzero.MuZeroRecipe",
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
    "az": "parl.recipes.az.AZRecipe",
    "mmd": "parl.recipes.mmd.MMDRecipe",
    "nfsp": "parl.recipes.nfsp.NFSPRecipe",
    "psro": "parl.recipes.psro.PSRORecipe",
    "bc": "parl.recipes.bc.BCRecipe",
    "dagger": "parl.recipes.dagger.DAggerRecipe",
    "td3_bc": "parl.recipes.td3_bc.TD3BCRecipe",
    "awac": "parl.recipes.awac.AWACRecipe",
    "implicit_q": "parl.recipes.implicit_q.ImplicitQRecipe",
    "cql": "parl.recipes.cql.CQLRecipe",
    "rebrac": "parl.recipes.rebrac.ReBRACRecipe",
    "rlpd": "parl.recipes.rlpd.RLPDRecipe",
    "dt": "parl.recipes.dt.DTRecipe",
}

KINDS = {"Box": "continuous (Box)", "Discrete": "discrete", "MultiDiscrete": "MultiDiscrete"}


# Names of algorithms in other libraries, and the command for them here.
ELSEWHERE = {
    "dueling_dqn": "dqn --dueling",
    "d3qn": "dqn --dueling",
    "double_dqn": "dqn, which is double",
    "ddqn": "dqn, which is double",
    "per": "dqn --priority 0.5",
    "her": "dqn --her, sac --her or td3 --her",
    "noisy_dqn": "dqn --noisy --epsilon-start 0 --epsilon-end 0",
    "qr_dqn": "qrdqn",
    "m_dqn": "munchausen",
    "m_iqn": "munchausen --values implicit",
    "sac_discrete": "dsac",
    "discrete_sac": "dsac",
    "a3c": "impala --actors 2, or a2c",
    "trpo": "ppo",
    "ppo2": "ppo",
    "recurrent_ppo": "ppo --recurrent lstm",
    "drqn": "r2d2",
    "recurrent_dqn": "r2d2",
    "reinforce": "pg",
    "vpg": "pg",
    "openai_es": "es",
    "rnad": "mmd --magnet-every 100 --transform-rewards",
    "deep_nash": "mmd --magnet-every 100 --transform-rewards",
    "alphazero": "az",
    "alpha_zero": "az",
    "gumbel_alphazero": "az",
    "gumbel_muzero": "muzero",
    "efficientzero": "muzero",
    "decision_transformer": "dt",
}


# Algorithms that share a name in the literature: what each error adds.
NAMESAKES = {
    "iql": " The IQL that learns from data is implicit_q.",
    "implicit_q": " The IQL of several agents is iql.",
}


def plain_name(name: str) -> str:
    """The canonical name of an algorithm, such as ppo for PPO; other names are unchanged."""
    lower = name.lower().replace("-", "_")
    return lower if lower in RECIPES or lower == "auto" else name


def recipe_class(name: str) -> type[Recipe]:
    """The recipe of an algorithm. Raises ConfigError for an unknown name."""
    name = plain_name(name)
    if name.endswith(OBJECT):
        raise ConfigError(
            f"{name} is an algorithm of your own: give it again, as in parl.load(path, "
            "algorithm=...)."
        )
    if is_path(name):
        found = load(name)
        if isinstance(found, type) and issubclass(found, Recipe):
            return found
        raise ConfigError(f"{name} is not the class of a recipe.")
    if name not in RECIPES:
        known = [*RECIPES, "auto"]
        ours = ELSEWHERE.get(name.lower().replace("-", "_"))
        hint = f" Use {ours}." if ours else nearest(name, known)
        raise ConfigError(f"unknown algorithm '{name}'.{hint} Known: {', '.join(known)}.")
    module, _, attribute = RECIPES[name].rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def needs_simulator(name: str) -> bool:
    """Whether the algorithm of this name searches with a game's rules."""
    name = plain_name(name)
    return name in RECIPES and recipe_class(name).needs_simulator


def sees_reward(name: Any) -> bool:
    """Whether the algorithm of this name acts on the last reward."""
    name = plain_name(name) if isinstance(name, str) else name
    return name in RECIPES and recipe_class(name).sees_reward


def algorithm_name(chosen: Any) -> str:
    """The name of an algorithm in config.json; for an object it is the class name with ()."""
    if isinstance(chosen, str):
        return plain_name(chosen)
    own = chosen.algorithm if isinstance(chosen, OnPolicy | OffPolicy) else chosen
    return called(own) if isinstance(own, type) else type(own).__name__ + OBJECT


def make_recipe(chosen: Any, spec: EnvSpec) -> Recipe:
    """The recipe of an algorithm with its settings for an environment.

    `chosen` is a built-in name, module:attribute, a recipe or its class, an algorithm or a learner.
    Raises ConfigError for anything else, and SpaceError if the algorithm does not support the
    environment's agents or actions.
    """
    own = load(chosen) if isinstance(chosen, str) and is_path(chosen) else chosen
    if isinstance(own, Algorithm | OnPolicy | OffPolicy):
        return recipe_around(own, spec, {name: recipe_class(name) for name in RECIPES})
    recipe: Any = recipe_class(own) if isinstance(own, str) else own
    name = algorithm_name(chosen)
    kind = recipe if isinstance(recipe, type) else type(recipe)
    if not issubclass(kind, Recipe):
        raise ConfigError(
            f"{name} is not an algorithm: give one of {', '.join(RECIPES)}, auto, a Recipe, an "
            "Algorithm with its networks, or a Learner around one."
        )
    check_fit(name, kind, spec)
    return recipe.for_env(spec) if isinstance(recipe, type) else recipe


def check_fit(name: str, recipe: type[Recipe], spec: EnvSpec) -> None:
    """Raises SpaceError if an algorithm does not support an environment."""
    if suits(recipe, spec) and (is_duel(spec) or not recipe.for_two):
        return
    env = spec.id.removeprefix("jax:")
    if suits(recipe, spec):
        raise SpaceError(
            f"{name} is for two players in turns; {env} is no such game: use ippo or mmd."
        )
    meant = NAMESAKES.get(name, "")
    able = ", ".join(sorted(k for k in RECIPES if fits(recipe_class(k), spec)))
    if recipe.multi_agent != bool(spec.num_agents):
        kind = "several agents" if recipe.multi_agent else "one agent"
        agents = f"{spec.num_agents} of them" if spec.num_agents else "a single one"
        raise SpaceError(f"{name} is for {kind}; {env} has {agents}.{meant} Try: {able}.")
    kinds = " or ".join(KINDS[kind.__name__] for kind in recipe.serves)
    raise SpaceError(
        f"{name} needs a {kinds} action space; {env} has {spec.action_space}. Try: {able}."
    )


def fits(recipe: type[Recipe], spec: EnvSpec) -> bool:
    """Whether an algorithm supports an environment."""
    ruled = spec.simulator is not None or not recipe.needs_simulator
    return ruled and (is_duel(spec) or not recipe.for_two) and suits(recipe, spec)


def is_duel(spec: EnvSpec) -> bool:
    """Whether an environment is a game of two players in turns."""
    return spec.num_agents == 2 and spec.takes_turns


def suits(recipe: type[Recipe], spec: EnvSpec) -> bool:
    """Whether an algorithm supports an environment's number of agents and its actions."""
    return recipe.multi_agent == bool(spec.num_agents) and isinstance(
        spec.action_space, recipe.serves
    )
