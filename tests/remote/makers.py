"""Makers of workers and policies for the tests of parl.remote; workers import them from here."""

from functools import partial
from typing import Any

import jax
import numpy as np

from parl.agents.execution.collector import Collector, CollectorState, Fragment
from parl.agents.execution.ended import nothing
from parl.agents.execution.protocol import Seeds
from parl.core.errors import EnvError
from parl.core.seeding import env_seed
from parl.core.spec import Box, EnvSpec
from parl.core.types import Rollout, Step
from parl.envs.adapters.gymnasium import GymnasiumVectorEnv
from parl.envs.adapters.gymnasium_make import make_gymnasium
from parl.envs.classic.cartpole import CartPole
from parl.envs.jax_vector import JaxVectorEnv
from parl.envs.protocol import EnvState, Transition
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


class ToyEnv:
    """Random numbers of a seed; fails at one step of every life if told so. No JAX, so quick."""

    spec = EnvSpec("Toy-v0", Box((2,)), Box((1,)))

    def __init__(self, num_envs, seed, fault=None, at=0):
        self.num_envs, self.fault, self.left = num_envs, fault, at
        self.random = np.random.default_rng(seed)
        self.time = 0

    def reset(self):
        return self.random.normal(size=(self.num_envs, 2)).astype(np.float32)

    def step(self, action):
        self.left -= 1
        self.time += 1
        obs = self.reset()
        if self.left < 0 and self.fault == "raise":
            raise ZeroDivisionError("the simulator divided by zero")
        if self.left < 0 and self.fault == "nan":
            obs = np.full_like(obs, np.nan)
        if self.left < 0 and self.fault == "shape":
            obs = obs[:, :1]
        no = np.zeros(self.num_envs, bool)
        return Transition(obs, obs.sum(-1), no, no, obs)

    def get_state(self):
        return EnvState({}, {"random": self.random.bit_generator.state, "time": self.time}, True)

    def set_state(self, state):
        self.random.bit_generator.state = state.meta["random"]
        self.time = state.meta["time"]

    def close(self):
        self.closed = True


class PaidEnv(ToyEnv):
    """Pays a parameter at each step, which its state does not hold."""

    pay = 1.0

    def step(self, action):
        new = super().step(action)
        return new._replace(reward=np.full(self.num_envs, self.pay, np.float32))

    def change(self, parameters):
        self.pay = parameters["pay"]


class ToyCollector:
    """As much of a Collector as a pool needs; acts by a policy that is one number."""

    seeds = Seeds((0,))

    def __init__(self, env):
        self.envs, self.num_envs = [env], env.num_envs
        self.obs = env.reset()

    def collect(self, policy, length, random=False):
        steps = []
        for _ in range(length):
            action = self.obs[:, :1] * np.float32(0 if random else policy)
            new = self.envs[0].step(action)
            flags = new.terminated, new.truncated
            steps.append(Step(self.obs, action, new.reward, new.reward, new.next_obs, *flags, {}))
            self.obs = new.obs
        stacked = jax.tree.map(lambda *x: np.stack(x), *steps)
        return Fragment(Rollout(stacked, ()), nothing())

    def get_state(self):
        arrays = {"obs": self.obs, "time": np.asarray(self.envs[0].time)}
        return CollectorState(arrays, [self.envs[0].get_state()])

    def set_state(self, state):
        self.obs = state.arrays["obs"]
        self.envs[0].set_state(state.envs[0])

    def change(self, parameters):
        self.envs[0].change(parameters)

    def close(self):
        self.envs[0].close()


def build_toy(num_envs, fault, at, broken_worker, index):
    broken = broken_worker is None or index == broken_worker or index > 1
    return ToyCollector(ToyEnv(num_envs, index, fault if broken else None, at))


def toy_maker(num_envs=3, fault=None, at=5, broken_worker=None) -> Any:
    return partial(build_toy, num_envs, fault, at, broken_worker)


def build_paid(index) -> Any:
    return ToyCollector(PaidEnv(3, index))


def build_bad(index):
    raise EnvError("unknown environment 'Cartpole'.")
