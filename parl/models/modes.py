"""Ways to run a model: frozen is `model.apply`; here is the rest of what training needs.

What a model's `init` returns is one tree, parameters and statistics together. Statistics have no
gradient, so that an optimiser leaves them alone; `train` brings their new values and `renew` puts
them in. A model without statistics, dropout or weights of fixed norm runs as by `apply`.

In training, a model whose call has a parameter `train` is given train=True.
"""

import inspect
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from parl.core.errors import ConfigError
from parl.core.model import Model
from parl.core.types import Array, Params
from parl.models.norms import STATISTICS, unit


def init(model: Model, key: Array, *inputs: Any, renewed: bool = False) -> Params:
    """Initial parameters, and statistics where the caller has them `renewed` by `train`.

    Raises ConfigError where a model has variables that would neither be trained nor renewed.
    """
    params = model.init(key, *inputs)
    names = sorted(set(params) - {"params"}) if isinstance(model, nn.Module) else []
    if names and not (renewed and names == [STATISTICS] and renews(model, params, *inputs)):
        raise ConfigError(
            f"{type(model).__name__} has variables beside its parameters, {', '.join(names)}, that "
            "this algorithm would neither train nor renew; use LayerNorm or RMSNorm, or in the "
            "networks of sac, td3 and what is made of them parl.models.norms.BatchNorm."
        )
    return params


def renews(model: Model, params: Params, *inputs: Any) -> bool:
    """Whether all statistics are others after `train`."""
    new = lambda params, *inputs: train(model, params, *inputs, key=jax.random.key(0))[1]
    traced = jax.make_jaxpr(new)(params, *inputs).jaxpr
    return not {id(x) for x in traced.invars} & {id(x) for x in traced.outvars}


def train(model: Model, params: Params, *inputs: Any, key: Array) -> tuple[Any, Params]:
    """(outputs, new statistics) with dropout, and normalised by the moments of these inputs."""
    if not isinstance(model, nn.Module):
        return model.apply(params, *inputs), {}
    asks = "train" in inspect.signature(type(model).__call__).parameters
    asked: dict[str, Any] = {"train": True} if asks else {}
    return model.apply(params, *inputs, mutable=STATISTICS, rngs={"dropout": key}, **asked)


def perturb(model: Model, params: Params, *inputs: Any, key: Array) -> Any:
    """Outputs with dropout, and normalised by the running moments."""
    if not isinstance(model, nn.Module):
        return model.apply(params, *inputs)
    return model.apply(params, *inputs, rngs={"dropout": key})


def renew(params: Params, statistics: Params) -> Params:
    """Parameters with the statistics that `train` returned."""
    return {**params, **statistics} if statistics else params


def project(params: Params) -> Params:
    """Parameters with those of fixed norm brought back to it; all others as they are.

    `unit_kernel` [..., I, O] gets columns of norm 1; `unit_scale` and `unit_bias` of one layer get
    the norm sqrt(features) together.
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
    """Which leaves weight decay applies to: all arrays but statistics and single numbers."""
    is_weight = lambda path, x: STATISTICS not in jax.tree_util.keystr(path) and jnp.ndim(x) > 0
    return jax.tree_util.tree_map_with_path(is_weight, params)
