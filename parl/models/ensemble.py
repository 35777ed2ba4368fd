"""Several networks of one shape, evaluated as one."""

from typing import Any

import flax.linen as nn

from parl.core.types import Array


class Ensemble(nn.Module):
    """`size` independent copies of `member`: outputs get a leading axis, [size, ...].

    The parameters are stacked, so that the copies are one batched matrix product.
    """

    member: nn.Module
    size: int = 2

    @nn.compact
    def __call__(self, *inputs: Any) -> Array:
        vmapped = nn.vmap(
            lambda member, *x: member(*x),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=None,  # pyright: ignore[reportArgumentType]
            axis_size=self.size,
        )
        return vmapped(self.member, *inputs)
