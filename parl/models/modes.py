"""Ways to run a model: frozen is `model.apply`; here is the rest of what training needs.

What a model's `init` returns is one tree, parameters and statistics together. Statistics have no
gradient, so that an optimiser leaves them alone; `train` brings their new values and `renew` puts
them in. A model without statistics, dropout or weights of fixed norm runs as by `apply`.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from parl.core.model import Model
from parl.core.types import Array, Params
from parl.models.norms import STATISTICS, unit


def train(model: Model, params: Params, *inputs: Any, key: Array) -> tuple[Any, Params]:
    """(outputs, new statistics) with dropout, and normalised by the moments of these inputs."""
    if not isinstance(model, nn.Module):
        return model.apply(params, *inputs), {}
    return model.apply(params, *inputs, mutable=STATISTICS, rngs={"dropout": key})


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
