"""Checks a user's pure JAX environment by tracing it before it is compiled."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from parl.core.errors import EnvError, told
from parl.core.spec import Box, EnvSpec, Space, has_bounds, image_axes
from parl.core.types import Array
from parl.envs.protocol import JaxEnv

FORM = "step(state, action, key) has to return (state, obs, reward, terminated, truncated)"


def checked(env: Any) -> JaxEnv:
    """The environment if it is valid, with masks converted to the form of its spec.

    Raises EnvError for the first fault.
    """
    spec: EnvSpec = env.spec
    for name in ("reset", "step"):
        if not callable(getattr(env, name, None)):
            raise EnvError(f"{spec.id} has no {name}: {FORM}, and reset(key) (state, obs).")
    check_images(spec.id, spec.observation_space)
    key = jax.random.key(0)
    state, obs = traced(env, "reset", 2, key)
    if any(form(obs[name]) != form(like) for name, like in flags_of(spec, obs)):
        return checked(WithFlags(env))
    check_like(spec.id, "reset gives the observation", obs, example(spec.obs), "its spec has")
    action = example(spec.action)
    after, seen, reward, *flags = traced(env, "step", 5, state, action, key)
    check_like(spec.id, "step gives the observation", seen, example(spec.obs), "its spec has")
    check_like(spec.id, "step gives the state", after, state, "reset gives")
    if reward.shape != spec.agent_shape or not jnp.issubdtype(reward.dtype, jnp.floating):
        raise EnvError(
            f"{spec.id}: step gives the reward {described(reward)}; it has to be "
            f"float32{list(spec.agent_shape)}."
        )
    for name, flag in zip(("terminated", "truncated"), flags, strict=True):
        if flag.shape not in ((), spec.agent_shape) or flag.dtype != bool:
            raise EnvError(f"{spec.id}: step gives {name} {described(flag)}; it has to be bool[].")
    return env


def example(batch: Any) -> Any:
    """Shapes and dtypes of one entry of a batch."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), batch)


def described(x: Any) -> str:
    """Dtype and shape as text, such as float32[3]."""
    return f"{x.dtype}{list(x.shape)}"


def traced(env: Any, name: str, count: int, *arguments: Any) -> Any:
    """The shapes that a function of the environment returns. Raises EnvError if it is not pure."""
    id, function = env.spec.id, getattr(env, name)
    (shapes, program), before = trace(id, name, function, arguments), attributes(env)
    if kept := [key for key, value in before.items() if holds_tracers(value)]:
        raise impure(id, name, f"keeps self.{kept[0]}")
    again = trace(id, name, function, arguments)[1]
    changed = [key for key, value in attributes(env).items() if value is not before.get(key, value)]
    if changed or again != program:
        raise impure(id, name, f"changes self.{changed[0]}" if changed else "is another each time")
    if not isinstance(shapes, tuple) or len(shapes) != count:
        given = f"{len(shapes)} values" if isinstance(shapes, tuple) else "one value"
        raise EnvError(
            f"{id}: {name} gives {given} in place of {count}; {FORM}, and reset(key) (state, obs)."
        )
    return shapes


def impure(id: str, name: str, what: str) -> EnvError:
    """The error of a function that depends on more than its arguments."""
    return EnvError(
        f"{id} is not pure: {name} {what}. All that changes belongs into the state, "
        "and all that is random comes from the key."
    )


def trace(id: str, name: str, function: Callable[..., Any], arguments: Any) -> tuple[Any, str]:
    """(the shapes that a function returns, its program as text). Raises EnvError."""
    try:
        program, shapes = jax.make_jaxpr(lambda *x: function(*x), return_shape=True)(*arguments)
        consts = [np.asarray(x).tobytes() for x in program.consts if not is_key(x)]
        return shapes, f"{program} {consts}"
    except (Exception, SystemExit) as error:
        hint = ""
        if type(error) is TypeError and "positional argument" in str(error):
            hint = f" ({FORM}, reset(key) (state, obs))"
        raise EnvError(f"{id} raised {told(error, f' in {name}')}{hint}") from error


def is_key(x: Any) -> bool:
    """Whether an array holds typed random keys."""
    return jnp.issubdtype(jnp.result_type(x), jax.dtypes.prng_key)


def attributes(env: Any) -> dict[str, Any]:
    """The attributes of an object by name."""
    return dict(getattr(env, "__dict__", {}))


def holds_tracers(value: Any) -> bool:
    """Whether a value, or one nested in lists or tuples, is a tracer."""
    if isinstance(value, list | tuple):
        return any(map(holds_tracers, value))
    return isinstance(value, Tracer)


def check_like(id: str, what: str, given: Any, wanted: Any, source: str) -> None:
    """Raises EnvError where two trees differ in structure, shapes or types."""
    if jax.tree.structure(given) != jax.tree.structure(wanted):
        texts = [str(jax.tree.map(described, tree)) for tree in (given, wanted)]
        raise EnvError(f"{id}: {what} {texts[0]:.100} where {source} {texts[1]:.100}.")
    pairs = zip(jax.tree.leaves_with_path(given), jax.tree.leaves(wanted), strict=True)
    for (path, x), y in pairs:
        if (x.shape, x.dtype) != (y.shape, y.dtype):
            place = jax.tree_util.keystr(path)
            place = f"{place} " if place else ""
            raise EnvError(f"{id}: {what} {place}{described(x)} where {source} {described(y)}.")


def check_images(id: str, space: Space) -> None:
    """Raises EnvError for images of floats up to 255, which no network would scale."""
    if isinstance(space, dict):
        for part in space.values():
            check_images(id, part)
        return
    bright = isinstance(space, Box) and space.dtype == "float32" and has_bounds(space, (0, 255))
    if bright and image_axes(Box(space.shape, low=0, high=1)):
        raise EnvError(
            f"{id} has images of floats in 0 .. 255: give bytes (uint8), or fractions in 0 .. 1 in "
            "a Box with these bounds."
        )


def flags_of(spec: EnvSpec, obs: Any) -> list[tuple[str, Any]]:
    """(name, expected leaf) of single-agent observations whose form the spec may have changed.

    These are the mask, and boolean flags that networks see as numbers.
    """
    if spec.num_agents is not None or not isinstance(obs, dict):
        return []
    like: Any = spec.obs if isinstance(spec.obs, dict) else {}
    names = [
        name for name in ("legal", "alive") if name in obs and hasattr(like.get(name), "dtype")
    ]
    masks = ("legal",) if spec.has_mask else ()
    return [(name, like[name][0]) for name in names if name in masks or obs[name].dtype == bool]


def form(x: Any) -> tuple[Any, Any]:
    """(shape, dtype)."""
    return x.shape, x.dtype


class WithFlags:
    """Converts the observations `legal` and `alive` to the form of the spec."""

    def __init__(self, env: JaxEnv):
        self.env, self.spec = env, env.spec

    def reset(self, key: Array) -> tuple[Any, Any]:
        """Delegates to the environment."""
        state, obs = self.env.reset(key)
        return state, self.seen(obs)

    def step(self, state: Any, action: Array, key: Array) -> tuple[Any, Any, Array, Array, Array]:
        """Delegates to the environment."""
        state, obs, reward, terminated, truncated = self.env.step(state, action, key)
        return state, self.seen(obs), reward, terminated, truncated

    def seen(self, obs: Any) -> Any:
        """The observation with its flags."""
        for name, like in flags_of(self.spec, jax.tree.map(jnp.asarray, obs)):
            given = jnp.asarray(obs[name])
            if given.size != like.size:
                raise EnvError(
                    f"{self.spec.id}: the observation '{name}' is {described(given)}; it needs "
                    f"{like.size} numbers."
                )
            obs = obs | {name: given.reshape(like.shape).astype(like.dtype)}
        return obs
