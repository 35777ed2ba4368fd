"""From an environment's id, or the user's own environment, to something that can be stepped."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from parl.core.errors import EnvError, MissingPackage, nearest
from parl.core.spec import EnvSpec
from parl.envs.acrobot import Acrobot
from parl.envs.cartpole import CartPole, CartPoleMasked
from parl.envs.jax_vector import JaxVectorEnv
from parl.envs.mountain_car import MountainCarContinuous
from parl.envs.pendulum import Pendulum
from parl.envs.protocol import JaxEnv, VectorEnv

JAX_ENVS: dict[str, Callable[[], JaxEnv]] = {
    "CartPole-v1": CartPole,
    "CartPoleMasked-v1": CartPoleMasked,
    "Pendulum-v1": Pendulum,
    "Acrobot-v1": Acrobot,
    "MountainCarContinuous-v0": MountainCarContinuous,
}


class Suite(NamedTuple):
    """A family of environments behind one prefix."""

    prefix: str
    title: str
    module: str  # what must be importable
    pip: str  # what to install
    served: bool  # whether PARL can step it yet


SUITES = [
    Suite("", "Gymnasium", "gymnasium", "gymnasium", True),
    Suite("jax:", "built-in, pure JAX", "jax", "jax", True),
    Suite("pz:", "PettingZoo", "pettingzoo", "pettingzoo", False),
    Suite("ale:", "Atari", "ale_py", "'gymnasium[atari]'", True),
    Suite("dmc:", "DeepMind Control", "dm_control", "dm_control", False),
    Suite("brax:", "Brax", "brax", "brax", False),
    Suite("jaxmarl:", "JaxMARL", "jaxmarl", "jaxmarl", False),
]


@dataclass(frozen=True)
class EnvFactory:
    """Makes the environments of one run, wherever they are to be stepped."""

    spec: EnvSpec
    vector: Callable[[int, int], VectorEnv]  # (num_envs, seed)
    jax: JaxEnv | None = None  # the environment itself, where it is pure JAX


def make_factory(env: Any) -> EnvFactory:
    """The factory for an id, a JaxEnv, or a function that makes a Gymnasium environment.

    Raises EnvError for an unknown id and MissingPackage for a suite that is not installed.
    """
    if isinstance(env, str):
        return from_id(env)
    if isinstance(getattr(env, "spec", None), EnvSpec):
        return from_jax(env)
    if callable(env):
        return from_gymnasium(env, getattr(env, "__name__", type(env).__name__))
    raise EnvError(
        "env must be an id, a JaxEnv or a function that makes a Gymnasium environment (not one "
        f"that is made already), not {env!r}."
    )


def from_id(id: str) -> EnvFactory:
    """The factory for an id such as 'HalfCheetah-v5' or 'jax:CartPole-v1'."""
    prefix, colon, name = id.partition(":")
    suite = next((suite for suite in SUITES if suite.prefix == prefix + colon and colon), None)
    if suite is None:
        return from_gymnasium_id(id)
    if importlib.util.find_spec(suite.module) is None:
        raise MissingPackage(
            f"{id} needs {suite.title}, which is not installed: pip install {suite.pip}"
        )
    if suite.prefix == "jax:":
        if name not in JAX_ENVS:
            hint = nearest(name, JAX_ENVS)
            raise EnvError(f"unknown environment '{id}'.{hint} Built in: {', '.join(JAX_ENVS)}.")
        return from_jax(JAX_ENVS[name]())
    if suite.prefix == "ale:":
        return from_gymnasium_id(f"ALE/{name}")
    raise EnvError(f"{id}: environments of {suite.title} cannot be stepped by this version.")


def from_jax(env: JaxEnv) -> EnvFactory:
    """The factory around a pure JAX environment."""
    return EnvFactory(env.spec, partial(JaxVectorEnv, env), env)


def from_gymnasium_id(id: str) -> EnvFactory:
    """The factory for a registered Gymnasium environment."""
    from parl.envs.gymnasium import make_gymnasium  # only now: it loads Gymnasium

    return from_gymnasium(make_gymnasium(id), id)


def from_gymnasium(make: Callable[[], Any], id: str) -> EnvFactory:
    """The factory around a function that makes a Gymnasium environment."""
    from parl.envs.gymnasium import GymnasiumVectorEnv

    def vector(num_envs: int, seed: int) -> VectorEnv:
        return GymnasiumVectorEnv(make, num_envs, seed, id)

    probe = vector(1, 0)
    probe.close()
    return EnvFactory(probe.spec, vector)
