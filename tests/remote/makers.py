"""Makers of workers and policies for the tests of parl.remote; workers import them from here."""

from functools import partial

import jax
import numpy as np

from parl.agents.execution import Seeds
from parl.agents.host import Collector
from parl.core.seeding import env_seed
from parl.envs.cartpole import CartPole
from parl.envs.gymnasium import GymnasiumVectorEnv, make_gymnasium
from parl.envs.jax_vector import JaxVectorEnv
from parl.recipes import make_recipe


def make_env(id, num_envs, seed):
    if id == "jax:CartPole-v1":
        return JaxVectorEnv(CartPole(), num_envs, seed)
    return GymnasiumVectorEnv(make_gymnasium(id), num_envs, seed)


def learner(id):
    spec = make_env(id, 1, 0).spec
    recipe = make_recipe("ppo", spec).override({"hidden": (8,)})
    return recipe.learner(spec, 1000, 8).algorithm, spec


def make_policy(id, seed=0):
    algorithm, spec = learner(id)
    return algorithm.policy(jax.jit(lambda key: algorithm.init(key, spec))(jax.random.key(seed)))


def build(id, num_envs, index):
    algorithm, _ = learner(id)
    return Collector([make_env(id, num_envs, env_seed(0, index))], algorithm, Seeds((0,)), index)


def worker_maker(id, num_envs=3):
    return partial(build, id, num_envs)


def assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)
