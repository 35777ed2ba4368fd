"""Environment factories, from an id or the user's own environment."""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from parl.core.errors import ConfigError, EnvError
from parl.core.spec import EnvSpec
from parl.envs import ids
from parl.envs.builtin import JAX_ENVS as JAX_ENVS
from parl.envs.goals import pure_goals
from parl.envs.jax_actions import own_actions
from parl.envs.jax_vector import JaxVectorEnv
from parl.envs.protocol import JaxEnv, VectorEnv
from parl.envs.suites import INTERPRETER, made, suite_of
from parl.envs.team import is_pettingzoo


class MakeVector(Protocol):
    """(num_envs, seed, index of the first in the run) -> environments."""

    def __call__(self, num_envs: int, seed: int, first: int = 0, /) -> VectorEnv: ...


@dataclass(frozen=True)
class EnvFactory:
    """Makes the environments of one run, in any process."""

    spec: EnvSpec
    vector: MakeVector
    jax: JaxEnv | None = None  # the environment itself, if it is pure JAX
    id: str = ""  # the id that makes it again; empty for an unnamed environment of the user
    rows: Callable[[int, int, int, int], VectorEnv] | None = None  # (count, seed, first, start)
    fixed: int | None = None  # number of environments, if the vector's size is fixed
    made: bool = False  # whether the vector already exists, so that there is only one
    stored: bool = False  # whether it is known by its spec alone and cannot be stepped
    elsewhere: bool = False  # whether its rows are stepped by another interpreter


def make_factory(env: Any, id: str = "") -> EnvFactory:
    """The factory for an id, a JaxEnv or a function that makes an environment.

    The function makes an environment of Gymnasium or PettingZoo, or a vector environment of
    Gymnasium, to which `num_envs` is passed if it takes it. A keyword `index` or `worker_index`
    receives the number of the environment in the run, for ports and files. An existing PettingZoo
    environment works too if it can be copied. The user's own environment may be given as
    'module:name' and gets the name `id` if given. An EnvFactory is returned unchanged. Raises
    EnvError for an unknown id, ConfigError for a name that cannot be found and MissingPackage for a
    suite that is not installed.
    """
    if isinstance(env, EnvFactory):
        return env
    if isinstance(env, str):
        return dataclasses.replace(from_id(env), id=env)
    return from_own(env, id)


def from_own(env: Any, id: str = "") -> EnvFactory:
    """The factory for a user's environment, named `id` or by its own name."""
    from parl.envs import own  # only now: they load Gymnasium
    from parl.envs.adapters.gymnasium_checks import MadeJax

    found, env = id or own.name_of(env), own.made_if_pure(env)
    again = found if id or ":" in found else ""
    if own.is_pure(env):
        return from_own_jax(env, again)
    if is_vector(env):
        return from_made_vector(env, found)
    if callable(env):
        try:
            return from_gymnasium(env, found)
        except MadeJax as found_jax:
            return from_own_jax(found_jax.env, again)
    if is_pettingzoo(env):
        from parl.envs.adapters.pettingzoo import copies_of, name_of

        return from_gymnasium(copies_of(env), id or name_of(env))
    raise EnvError(
        "env must be an id, a JaxEnv, a vector environment or a function that makes a Gymnasium "
        f"environment (not one that is made already), not {env!r}."
    )


def from_own_jax(env: JaxEnv, id: str) -> EnvFactory:
    """The factory around a user's pure JAX environment, checked first; `id` makes it again."""
    from parl.envs.jax_checks import checked

    return dataclasses.replace(from_jax(checked(env)), id=id)


def stored_factory(spec: EnvSpec, id: str) -> EnvFactory:
    """The factory of an environment that is known only by its spec and cannot be stepped."""

    def vector(num_envs: int, seed: int, first: int = 0) -> VectorEnv:
        raise EnvError(f"{id} was not made, so it cannot be stepped.")

    return EnvFactory(spec, vector, id=id, stored=True)


def from_id(id: str) -> EnvFactory:
    """The factory for an id such as 'HalfCheetah-v5' or 'jax:CartPole-v1?max_steps=200'."""
    suite = suite_of(id)
    name, arguments = ids.split(id.removeprefix(suite.prefix) if suite else id)
    if suite is not None and suite.prefix == INTERPRETER:
        from parl.envs.adapters.interpreter import from_interpreter

        return from_interpreter(id, name, arguments)
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
    goals = pure_goals(env, env.spec)
    spec, env = own_actions(env)
    spec = dataclasses.replace(spec, goals=goals)
    return EnvFactory(spec, partial(jax_vector, env), env)


def with_simulator(factory: EnvFactory) -> EnvFactory:
    """The factory of the same game with its rules in the spec, where only that is lacking."""
    add = getattr(factory.jax, "with_simulator", None)
    return dataclasses.replace(from_jax(add()), id=factory.id) if add else factory


def from_gymnasium_id(id: str, name: str, arguments: dict[str, Any]) -> EnvFactory:
    """The factory for a registered Gymnasium environment, made with these arguments."""
    from parl.envs.adapters.gymnasium_make import make_gymnasium  # only now: it loads Gymnasium

    return from_gymnasium(make_gymnasium(name, **arguments), id)


def from_gymnasium(make: Callable[..., Any], id: str) -> EnvFactory:
    """The factory around a function that makes a Gymnasium environment, or a vector of them.

    Without an id, the name is the class of the environment. Raises MadeJax where the function makes
    a pure JAX environment.
    """
    from parl.envs.adapters.gymnasium import GymnasiumVectorEnv
    from parl.envs.adapters.gymnasium_checks import MadeVector
    from parl.envs.adapters.gymnasium_interface import class_name
    from parl.envs.adapters.gymnasium_vector import takes_count

    if takes_count(make):
        return from_vector(make, id)
    try:
        probe = GymnasiumVectorEnv(make, 1, 0, id or None)
    except MadeVector as found:
        return from_vector(make, id, found.env)
    name = id or class_name(probe.envs[0])
    probe.close()
    rows = partial(gymnasium_rows, make, name)
    spec = dataclasses.replace(probe.spec, id=name)
    return EnvFactory(spec, partial(all_rows, rows), rows=rows)


def randomized(factory: EnvFactory, texts: Sequence[str]) -> EnvFactory:
    """The factory with parameters drawn at each reset, each from its NAME=LOW:HIGH.

    Raises ConfigError for other texts or where environments are not single ones, and EnvError where
    they have no such parameters.
    """
    if not texts:
        return factory
    from parl.envs.jax_vector import checked_parameters
    from parl.envs.randomized import Randomized, ranges_of

    ranges = ranges_of(texts)
    if factory.jax is not None:
        for bound in ("low", "high"):
            checked_parameters(factory.jax, {each.name: getattr(each, bound) for each in ranges})
        env = Randomized(factory.jax, ranges)
        return dataclasses.replace(factory, jax=env, vector=partial(jax_vector, env))
    if factory.rows is None:
        raise ConfigError(
            f"randomize draws parameters of single environments, and {factory.spec.id} is a vector "
            "of them: draw them in its own reset."
        )
    rows = partial(randomized_rows, factory.rows, ranges)
    rows(1, 0, 0, 0).reset()  # an unknown parameter is an error now
    return with_rows(factory, rows)


def with_rows(factory: EnvFactory, rows: Any) -> EnvFactory:
    """The factory with other rows, in this process or in that of their interpreter."""
    factory = dataclasses.replace(factory, vector=partial(all_rows, rows), rows=rows)
    if not factory.elsewhere:
        return factory
    warn = lambda text: print(f"WARNING: {text}", file=sys.stderr)
    return dataclasses.replace(factory, vector=in_processes(factory, 1, None, warn))


def randomized_rows(rows: Any, ranges: Any, *place: int) -> VectorEnv:
    """Rows of a vector of Gymnasium environments, with parameters drawn at each reset."""
    from parl.envs.adapters.gymnasium_randomized import randomize

    return randomize(rows(*place), ranges)


def all_rows(rows: Any, num_envs: int, seed: int, first: int = 0) -> VectorEnv:
    """All rows of a vector, in one process."""
    return rows(num_envs, seed, first, 0)


def jax_vector(env: JaxEnv, num_envs: int, seed: int, first: int = 0) -> VectorEnv:
    """The vector of a pure environment."""
    return JaxVectorEnv(env, num_envs, seed)


def gymnasium_rows(
    make: Callable[[], Any], id: str, count: int, seed: int, first: int, start: int
) -> VectorEnv:
    """`count` environments, starting at index `start` in the vector of a seed.

    `first` is the index in the run of the vector's first environment. Used by processes that share
    a vector.
    """
    from parl.envs.adapters.gymnasium import GymnasiumVectorEnv

    return GymnasiumVectorEnv(make, count, seed, id, first + start, start)


def from_vector(make: Callable[..., Any], id: str, made: Any = None) -> EnvFactory:
    """The factory around a function that makes a vector environment of Gymnasium.

    If the function takes no `num_envs`, the vector has a fixed size. `made` is one that it already
    made.
    """
    from parl.envs.adapters import gymnasium_vector as adapter

    env = made or adapter.made(make, 1, id or "the vector environment")
    name = id or adapter.class_name(env)
    probe = adapter.AdaptedVectorEnv(env, 0, name)
    fixed = None if adapter.takes_count(make) else probe.num_envs
    probe.close()

    def vector(num_envs: int, seed: int, first: int = 0) -> VectorEnv:
        return adapter.AdaptedVectorEnv(adapter.made(make, num_envs, name), seed, name)

    return EnvFactory(probe.spec, vector, fixed=fixed)


def from_made_vector(env: Any, id: str) -> EnvFactory:
    """The factory around an existing vector environment, which can be used once."""
    from parl.envs.adapters import gymnasium_vector as adapter

    name = adapter.class_name(env) if id == type(env).__name__ else id
    left = [adapter.AdaptedVectorEnv(env, 0, name)]

    def vector(num_envs: int, seed: int, first: int = 0) -> VectorEnv:
        if not left:
            raise EnvError(
                f"{name} is a vector environment that is made already and in use: give a function "
                "that makes it, such as lambda num_envs: gymnasium.make_vec(..., num_envs)."
            )
        return left.pop()

    return EnvFactory(left[0].spec, vector, fixed=env.num_envs, made=True)


def is_vector(env: Any) -> bool:
    """Whether this is a vector environment of Gymnasium."""
    import gymnasium

    return isinstance(env, gymnasium.vector.VectorEnv)


def in_processes(
    factory: EnvFactory,
    workers: int,
    deadline: float | None,
    say: Callable[[str], None] = lambda text: None,
) -> Any:
    """The `vector` function of a factory whose environments are stepped by `workers` processes.

    `say` is told where one of these is started again.
    """
    rows, spec, elsewhere = factory.rows, factory.spec, factory.elsewhere
    assert rows is not None

    def vector(num_envs: int, seed: int, first: int = 0) -> VectorEnv:
        from parl.envs.processes import ProcessVectorEnv  # only now: few runs need it

        start = None
        if elsewhere:
            from parl.envs.adapters.interpreter import Beside

            start = Beside
        make = partial(placed, rows, seed, first)
        return ProcessVectorEnv(make, spec, num_envs, workers, deadline, say, start)

    return vector


def placed(rows: Any, seed: int, first: int, count: int, start: int) -> VectorEnv:
    """Makes rows of a vector in the process that steps them."""
    return rows(count, seed, first, start)
