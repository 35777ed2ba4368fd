"""Policies of many kinds to export, with random numbers in place of training.

Nothing is compiled for them: the shapes of a policy are traced, its numbers are drawn.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend.core import jaxpr_as_fun

import parl
from parl.core.actions import number_map
from parl.core.rewards import showing_reward
from parl.deploy.artefact import Parts, Settings, Source, parts_of
from parl.envs.factory import make_factory
from parl.models.recurrent import CELLS
from parl.recipes import fits, make_recipe, recipe_class

POSITIVE = ("var", "m2", "count", "scale", "std", "batches")


def drawn(algorithm: Any, spec: parl.EnvSpec, seed: int = 0) -> Any:
    """A policy of random numbers, of the shapes that the algorithm gives it."""
    key = jax.random.key(0)
    shapes = jax.eval_shape(lambda key: algorithm.policy(algorithm.init(key, spec)), key)
    rng = np.random.default_rng(seed)

    def draw(path: Any, x: Any) -> np.ndarray:
        # as wide as a network's are: sums of many inputs would be too large to compare closely
        wide = min(0.4, 1.4 / np.sqrt(np.prod(x.shape[:-1]))) if x.ndim > 1 else 0.1
        numbers = wide * rng.standard_normal(x.shape)
        name = jax.tree_util.keystr(path[-1:]).lower()
        if any(word in name for word in POSITIVE):
            numbers = 0.5 + np.abs(numbers)
        return (numbers if x.dtype.kind == "f" else 3 + 0 * numbers).astype(x.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def source(algorithm: Any, spec: parl.EnvSpec) -> Source:
    """An algorithm with a random policy."""
    return Source(algorithm, drawn(algorithm, spec), spec, None, {})


def of_recipe(name: str, env: Any, **settings: Any) -> Source:
    """That of a recipe for an environment, an id or a spec, with small networks."""
    spec = env if isinstance(env, parl.EnvSpec) else make_factory(env).spec
    recipe = make_recipe(name, spec)
    small = {"hidden": (8, 8), "actor_hidden": (8, 8), "width": 8, "actor_width": 8}
    small |= {"noise_size": 100, "blocks": 1, "actor_blocks": 1}
    small |= {"layers": 1, "window": 3} if name == "dt" else {}
    known = recipe.types()
    recipe = recipe.override({n: x for n, x in small.items() if n in known} | settings)
    return source(recipe.learner(spec, 0, recipe.num_envs).algorithm, spec)


def box_spec(low: Any, high: Any, shape: tuple[int, ...] = (3,), dtype: str = "float32") -> Any:
    """An environment of vectors whose actions have these bounds."""
    space, action_map = number_map(low, high, shape, np.dtype(dtype))
    return parl.EnvSpec("bounds", parl.Box((5,)), space, action_map=action_map)


PROGRAMS: dict[str, Any] = {}  # compiled, by the text of what was traced


def shared(call: Callable[..., Any]) -> Callable[..., Any]:
    """A function as a program that it shares with those that differ in their constants alone."""
    traced: dict[Any, Any] = {}  # (program, constants) by the shapes of the arguments

    def program(*given: Any) -> Any:
        shapes = tuple((x.shape, x.dtype) for x in given)
        if shapes not in traced:
            closed = jax.make_jaxpr(call)(*given)
            run = lambda consts, given: jaxpr_as_fun(closed.replace(consts=consts))(*given)
            traced[shapes] = PROGRAMS.setdefault(str(closed), jax.jit(run)), closed.consts
        run, consts = traced[shapes]
        return run(consts, given)

    return program


def parts(found: Source, **settings: Any) -> Parts:
    """The programs of a policy."""
    return parts_of(found, Settings(**settings))


IMAGE = parl.Box((12, 12, 3), "uint8", 0, 255)
LARGE = parl.Box((36, 36, 2), "uint8", 0, 255)
DICT = {"image": IMAGE, "place": parl.Box((4,)), "kind": parl.Discrete(3)}
MASKED = {"view": parl.Box((5,)), "legal": parl.Box((6,), "bool")}
PENDULUM, CARTPOLE, SPREAD = "jax:Pendulum-v1", "jax:CartPole-v1", "jax:simple_spread"
CONTINUOUS = "jax:simple_spread_continuous"

BOX = "ppo a2c pg impala appo es sac ddpg d4pg td3 oac tqc redq droq crossq simba simbav2 flashsac"
CHOICES = "ppo a2c pg impala appo es dqn qrdqn c51 iqn rainbow munchausen pqn dsac muzero"
AGENTS = "ippo mappo iql vdn qmix pqn_vdn coma maddpg matd3"


def seen(space: Any, actions: Any) -> parl.EnvSpec:
    """An environment of these spaces."""
    return parl.EnvSpec("seen", space, actions)


# name: (recipe, environment, settings)
CASES: dict[str, tuple[str, Any, dict[str, Any]]] = {
    **{f"{name} Box": (name, PENDULUM, {}) for name in BOX.split()},
    **{f"{name} Discrete": (name, CARTPOLE, {}) for name in CHOICES.split()},
    **{f"{name} agents": (name, SPREAD, {}) for name in AGENTS.split()},
    "mappo Box agents": ("mappo", CONTINUOUS, {}),
    "maddpg Box agents": ("maddpg", CONTINUOUS, {}),
    "ippo own parameters": ("ippo", SPREAD, {"sharing": "none"}),
    "mappo groups": ("mappo", "jax:simple_tag", {"sharing": "group"}),
    "mappo gru groups": ("mappo", "jax:simple_tag", {"sharing": "group", "recurrent": "gru"}),
    "qmix gru": ("qmix", SPREAD, {"recurrent": "gru"}),
    "tdmpc2 Box": ("tdmpc2", PENDULUM, {"latent": 8}),
    "dt": ("dt", seen(showing_reward(parl.Box((3,))), parl.Box((2,))), {}),
    "az turns": ("az", "jax:tic_tac_toe", {}),
    "ippo turns": ("ippo", "jax:tic_tac_toe", {}),
    "ppo gru": ("ppo", "jax:CartPoleMasked-v1", {"recurrent": "gru"}),
    "ppo lstm": ("ppo", "jax:CartPoleMasked-v1", {"recurrent": "lstm"}),
    "ppo MultiDiscrete": ("ppo", seen(parl.Box((4,)), parl.MultiDiscrete((2, 3, 4))), {}),
    "ppo mask": ("ppo", seen(MASKED, parl.Discrete(6)), {}),
    "ppo lru": ("ppo", "jax:CartPoleMasked-v1", {"recurrent": "lru"}),
    "r2d2": ("r2d2", "jax:CartPoleMasked-v1", {}),
    "sac lru": ("sac", "jax:PendulumMasked-v1", {"recurrent": "lru"}),
    "pqn gru": ("pqn", CARTPOLE, {"recurrent": "gru"}),
    "rainbow grid": ("rainbow", seen(parl.Box((10, 10, 2), "bool"), parl.Discrete(3)), {}),
    "dqn mask": ("dqn", seen(MASKED, parl.Discrete(6)), {}),
    "ppo MultiDiscrete mask": ("ppo", seen(MASKED, parl.MultiDiscrete((2, 4))), {}),
    "ppo image": ("ppo", seen(IMAGE, parl.Discrete(3)), {}),
    "dqn large image": ("dqn", seen(LARGE, parl.Discrete(3)), {}),
    "ppo dict with image": ("ppo", seen(DICT, parl.Discrete(3)), {}),
    "ppo normalized": ("ppo", PENDULUM, {"normalize_obs": True}),
    "sac normalized": ("sac", PENDULUM, {"normalize_obs": True}),
    "ppo bounds": ("ppo", box_spec([-2, -np.inf, 0], [2, 3, np.inf]), {}),
}


# --- every recipe on every kind that it serves ------------------------------------------------

KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "Discrete": (seen(parl.Box((4,)), parl.Discrete(3)), {}),
    "Box": (box_spec([-2, -np.inf, 0], [2, 3, np.inf]), {}),
    "MultiDiscrete": (seen(parl.Box((4,)), parl.MultiDiscrete((2, 3))), {}),
    "mask": (seen(MASKED, parl.Discrete(6)), {}),
    "dict with image": (seen(DICT, parl.Discrete(3)), {}),
    "image": (seen(IMAGE, parl.Box((2,), low=-1.0, high=1.0)), {}),
    "agents": (SPREAD, {}),
    "turns": ("jax:tic_tac_toe", {}),
    "agents with numbers": (CONTINUOUS, {}),
    "groups": ("jax:simple_tag", {"sharing": "group"}),
    "normalized": (seen(parl.Box((4,)), parl.Discrete(3)), {"normalize_obs": True}),
    "normalized numbers": (PENDULUM, {"normalize_obs": True}),
    **{f"{cell}": (CARTPOLE, {"recurrent": cell}) for cell in CELLS},
    **{f"{cell} agents": (SPREAD, {"recurrent": cell}) for cell in CELLS},
    **{f"{cell} numbers": (PENDULUM, {"recurrent": cell}) for cell in CELLS},
}


def served(name: str) -> dict[str, Source]:
    """A policy of a recipe for each kind that it serves."""
    recipe, found = recipe_class(name), {}
    for kind, (env, settings) in KINDS.items():
        spec = env if isinstance(env, parl.EnvSpec) else make_factory(env).spec
        if not fits(recipe, spec):
            continue
        known = recipe.for_env(spec).types().keys()
        whole = {"minibatches": 1} if "minibatches" in known else {}  # fits any number of sequences
        if settings.keys() <= known:
            found[kind] = of_recipe(name, spec, **settings, **whole)
    return found
