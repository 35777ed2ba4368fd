"""The protocol of a network. Any flax.linen Module satisfies it; models/ adapts flax.nnx."""

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
