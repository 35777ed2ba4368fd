"""Several networks of the same shape, evaluated as one."""

from typing import Any

import flax.linen as nn
import jax

from parl.models.modes import STREAMS
from parl.models.norms import STATISTICS


class Ensemble(nn.Module):
    """`size` independent copies of `member`: outputs get a leading axis, [size, ...].

    The parameters are stacked, so the copies run as one batched matrix product. If given the
    stacked parameters of fewer members than `size`, it evaluates only those.
    """

    member: nn.Module
    size: int = 2

    @nn.compact
    def __call__(self, *inputs: Any) -> Any:
        stacked = jax.tree.leaves(self.variables.get("params", {}))
        vmapped = nn.vmap(
            lambda member, *x: member(*x),
            variable_axes={"params": 0, STATISTICS: 0},
            split_rngs=dict.fromkeys(("params", *STREAMS), True),
            in_axes=None,  # pyright: ignore[reportArgumentType]
            axis_size=stacked[0].shape[0] if stacked else self.size,
        )
        return vmapped(self.member, *inputs)
