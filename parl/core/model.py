"""The protocol of a network. Any flax.linen Module satisfies it; models/ adapts flax.nnx.

Two things a model may have beside. `memory(batch_shape)`, its recurrent memory where an episode
opens: then it is called with (obs [T, B, *O], first [T, B], memory [B, ...]) and gives (outputs
[T, B, ...], memories [T, B, ...]). And an `apply` that also takes `mutable` and `rngs`, as those of
flax.linen do: then it is trained with dropout and statistics, see models/modes.py.
"""

from typing import Any, Protocol

from parl.core.types import Array, Params


class Model(Protocol):
    """A pure function of parameters and inputs."""

    def init(self, key: Array, /, *inputs: Any) -> Params:
        """Parameters for inputs of these shapes."""
        ...

    def apply(self, params: Params, /, *inputs: Any, method: Any = None) -> Any:
        """The outputs; `method` names another method of the module than its call."""
        ...
