"""Multi-layer perceptrons."""

from collections.abc import Callable

import flax.linen as nn

from parl.core.types import Array

Activation = Callable[[Array], Array]


class MLP(nn.Module):
    """Linear layers, each followed by the activation: [..., I] -> [..., hidden[-1]].

    With `layer_norm` the activation is of normalised features.
    """

    hidden: tuple[int, ...]
    activation: Activation = nn.relu
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    linear: Callable[..., nn.Module] = nn.Dense
    layer_norm: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for size in self.hidden:
            x = self.linear(size, kernel_init=self.kernel_init)(x)
            x = self.activation(nn.LayerNorm()(x) if self.layer_norm else x)
        return x


def normalised_relu(x: Array) -> Array:
    """Layer norm of the positive parts [..., F] over F: an activation of an MLP."""
    return nn.LayerNorm()(nn.relu(x))
