"""Networks written in flax.nnx behind the same Model protocol."""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from parl.core.errors import ConfigError
from parl.core.types import Array, Params


class NnxModel:
    """Adapts a flax.nnx module to `init` and `apply`.

    `make(rngs)` builds the module; its parameters become a pure dict of arrays, so that optimisers,
    checkpoints and actors treat it as any other model. Example: `NnxModel(lambda rngs:
    nnx.Linear(4, 2, rngs=rngs))`. Raises ConfigError for a module that has variables other than
    parameters, which nothing would update.
    """

    def __init__(self, make: Callable[[nnx.Rngs], nnx.Module]):
        self.make = make
        self.graph, state = nnx.split(nnx.eval_shape(lambda: make(nnx.Rngs(0))))
        variables = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, nnx.Variable))
        kinds = {type(x) for x in variables if not isinstance(x, nnx.Param)}
        if kinds:
            names = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise ConfigError(
                f"a flax.nnx module has variables that are not parameters, {names}, which would "
                "neither be trained nor renewed; do without BatchNorm and Dropout, or write the "
                "network in flax.linen."
            )

    def init(self, key: Array, *inputs: Any) -> Params:
        """A pure dict of arrays; `inputs` are ignored, since nnx modules know their sizes."""
        return nnx.to_pure_dict(nnx.state(self.make(nnx.Rngs(key))))

    def apply(self, params: Params, *inputs: Any, method: Any = None) -> Any:
        """Calls the module, or the method of that name, with these parameters."""
        state = nnx.state(nnx.eval_shape(lambda: self.make(nnx.Rngs(0))))
        nnx.replace_by_pure_dict(state, params)
        module = nnx.merge(self.graph, state)
        call = getattr(module, method) if isinstance(method, str) else module
        return call(*inputs)  # pyright: ignore[reportCallIssue]
