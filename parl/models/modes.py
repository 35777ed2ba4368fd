"""Runs a model in training mode; `model.apply` runs it in inference mode.

A model's `init` returns one tree that holds parameters and statistics. Statistics have no gradient,
so an optimiser does not change them: `train` returns their new values and `renew` inserts them. A
model without statistics, dropout, noise or weights of fixed norm behaves as with `apply`.

The model itself is asked which of this it has: statistics and dropout where its `apply` takes
`mutable` and `rngs`; in training, where its call has a parameter `train`, it is given train=True.
"""

import inspect
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp

from parl.core.errors import ConfigError
from parl.core.model import Model
from parl.core.types import Array, Params
from parl.models.norms import STATISTICS, unit

STREAMS = ("dropout", "noise", "tau")  # what a model may draw, each under a name of its own


def init(model: Model, key: Array, *inputs: Any, renewed: bool = False) -> Params:
    """Initial parameters and statistics; `renewed` says whether the caller updates statistics.

    Raises ConfigError if a model has variables that would be neither trained nor renewed.
    """
    params = model.init(key, *inputs)
    names = sorted(set(params) - {"params"}) if has_modes(model) else []
    if names and not (renewed and names == [STATISTICS] and renews(model, params, *inputs)):
        raise ConfigError(
            f"{type(model).__name__} has variables beside its parameters, {', '.join(names)}, that "
            "this algorithm would neither train nor renew; use LayerNorm or RMSNorm, or in the "
            "networks of sac, td3 and what is made of them parl.models.norms.BatchNorm."
        )
    return params


def renews(model: Model, params: Params, *inputs: Any) -> bool:
    """Whether `train` replaces all statistics."""
    new = lambda params, *inputs: train(model, params, *inputs, key=jax.random.key(0))[1]
    traced = jax.make_jaxpr(new)(params, *inputs).jaxpr
    return not {id(x) for x in traced.invars} & {id(x) for x in traced.outvars}


def train(model: Model, params: Params, *inputs: Any, key: Array) -> tuple[Any, Params]:
    """(outputs, new statistics) with draws and normalisation by the moments of these inputs."""
    if not has_modes(model):
        return model.apply(params, *inputs), {}
    asked: dict[str, Any] = {"train": True} if "train" in parameters_of(type(model)) else {}
    apply: Any = model.apply
    return apply(params, *inputs, mutable=STATISTICS, rngs=dict.fromkeys(STREAMS, key), **asked)


def perturb(model: Model, params: Params, *inputs: Any, key: Array) -> Any:
    """Outputs with draws of dropout, noise and levels, and normalisation by the running moments."""
    if not has_modes(model):
        return model.apply(params, *inputs)
    apply: Any = model.apply
    return apply(params, *inputs, rngs=dict.fromkeys(STREAMS, key))


def has_modes(model: Model) -> bool:
    """Whether a model's `apply` takes `mutable` and `rngs`, as those of flax.linen do.

    Any model may: then it is trained with statistics and dropout.
    """
    return {"mutable", "rngs"} <= parameters_of(type(model).apply)


@cache
def parameters_of(function: Any) -> frozenset[str]:
    """The names of what a function takes, or the call of a class."""
    call = function.__call__ if isinstance(function, type) else function
    return frozenset(inspect.signature(call).parameters)


def renew(params: Params, statistics: Params) -> Params:
    """Parameters with the statistics that `train` returned."""
    return {**params, **statistics} if statistics else params


def project(params: Params) -> Params:
    """Parameters with those of fixed norm projected back to it; all others are unchanged.

    `unit_kernel` [..., I, O] gets columns of norm 1; `unit_scale` and `unit_bias` of a layer
    together get the norm sqrt(features).
    """
    if not isinstance(params, dict):
        return params
    params = {name: project(part) for name, part in params.items()}
    if "unit_kernel" in params:
        params["unit_kernel"] = unit(params["unit_kernel"], axis=-2)
    names = [name for name in ("unit_scale", "unit_bias") if name in params]
    if names:
        size = params[names[0]].shape[-1]
        squares = sum((params[name] ** 2).sum(-1, keepdims=True) for name in names)
        factor = jnp.sqrt(size) * jax.lax.rsqrt(jnp.maximum(squares, 1e-16))
        params |= {name: params[name] * factor for name in names}
    return params


def decayed(params: Params) -> Params:
    """A mask of the leaves with weight decay: all arrays except statistics and scalars."""
    is_weight = lambda path, x: STATISTICS not in jax.tree_util.keystr(path) and jnp.ndim(x) > 0
    return jax.tree_util.tree_map_with_path(is_weight, params)
