"""From an environment's id, or the user's own environment, to something that can be stepped."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from parl.core.errors import EnvError
from parl.core.spec import EnvSpec
from parl.envs import ids
from parl.envs.builtin import JAX_ENVS as JAX_ENVS
from parl.envs.jax_actions import own_actions
from parl.envs.jax_vector import JaxVectorEnv
from parl.envs.protocol import JaxEnv, VectorEnv
from parl.envs.suites import made, suite_of
from parl.envs.team import is_pettingzoo


@dataclass(frozen=True)
class EnvFactory:
    """Makes the environments of one run, wherever they are to be stepped."""

    spec: EnvSpec
    vector: Callable[[int, int, int], VectorEnv]  # (num_envs, seed, index of the first)
    jax: JaxEnv | None = None  # the environment itself, where it is pure JAX
    id: str = ""  # what makes it again; empty for the user's own


def make_factory(env: Any, id: str = "") -> EnvFactory:
    """The factory for an id, a JaxEnv, or a function that makes an environment; or as it is.

    Such a function makes one of Gymnasium or PettingZoo; if it takes a keyword `index` or
    `worker_index`, that is the number of the environment in the run, for ports and files. Of
    PettingZoo an environment that is made already will do, too, if it can be copied. The user's own
    may be named by 'module:name', and is called `id` if given. Raises EnvError for an unknown id,
    ConfigError for a name that leads nowhere and MissingPackage for a suite that is not installed.
    """
    if isinstance(env, EnvFactory):
        return env
    if isinstance(env, str):
        return dataclasses.replace(from_id(env), id=env)
    return from_own(env, id)


def from_own(env: Any, id: str = "") -> EnvFactory:
    """The factory for an environment of the user's own, called `id` or by its own name."""
    from parl.envs import own  # only now: it loads Gymnasium

    found, env = id or own.name_of(env), own.made_if_pure(env)
    if own.is_pure(env):
        from parl.envs.jax_checks import checked

        factory = from_jax(checked(env))
        return dataclasses.replace(factory, id=found) if id or ":" in found else factory
    if callable(env):
        return from_gymnasium(env, found)
    if is_pettingzoo(env):
        from parl.envs.adapters.pettingzoo import copies_of, name_of

        return from_gymnasium(copies_of(env), id or name_of(env))
    raise EnvError(
        "env must be an id, a JaxEnv or a function that makes a Gymnasium environment (not one "
        f"that is made already), not {env!r}."
    )


def stored_factory(spec: EnvSpec, id: str) -> EnvFactory:
    """The factory of an environment that is only known by its spec, and cannot be stepped."""

    def vector(num_envs: int, seed: int, first: int = 0) -> VectorEnv:
        raise EnvError(f"{id} was not made, so it cannot be stepped.")

    return EnvFactory(spec, vector, id=id)


def from_id(id: str) -> EnvFactory:
    """The factory for an id such as 'HalfCheetah-v5' or 'jax:CartPole-v1?max_steps=200'."""
    suite = suite_of(id)
    name, arguments = ids.split(id.removeprefix(suite.prefix) if suite else id)
    if suite is not None:
        env = made(suite, id, name, arguments)
        if not suite.ours:
            return from_own(env, id)
        return from_gymnasium(env, id) if callable(env) else from_jax(env)
    from parl.envs import own  # only now: it loads Gymnasium

    found = own.named(name)
    if found is None:
        return from_gymnasium_id(id, name, arguments)
    return from_own(own.with_arguments(found, arguments, id), id)


def from_jax(env: JaxEnv) -> EnvFactory:
    """The factory around a pure JAX environment."""
    spec, env = own_actions(env)

    def vector(num_envs: int, seed: int, first: int = 0) -> VectorEnv:
        return JaxVectorEnv(env, num_envs, seed)

    return EnvFactory(spec, vector, env)


def from_gymnasium_id(id: str, name: str, arguments: dict[str, Any]) -> EnvFactory:
    """The factory for a registered Gymnasium environment, made with these arguments."""
    from parl.envs.adapters.gymnasium import make_gymnasium  # only now: it loads Gymnasium

    return from_gymnasium(make_gymnasium(name, **arguments), id)


def from_gymnasium(make: Callable[[], Any], id: str) -> EnvFactory:
    """The factory around a function that makes a Gymnasium environment.

    Without an id it is called by the class of what is made.
    """
    from parl.envs.adapters.gymnasium import GymnasiumVectorEnv, class_name

    probe = GymnasiumVectorEnv(make, 1, 0, id or None)
    name = id or class_name(probe.envs[0])
    probe.close()

    def vector(num_envs: int, seed: int, first: int = 0) -> VectorEnv:
        return GymnasiumVectorEnv(make, num_envs, seed, name, first)

    return EnvFactory(dataclasses.replace(probe.spec, id=name), vector)
