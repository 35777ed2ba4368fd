"""Networks: the only importers of flax.linen and flax.nnx."""

from parl.models.cnn import NatureCNN
from parl.models.encoder import Encoder
from parl.models.ensemble import Ensemble
from parl.models.heads import (
    ActionValue,
    CategoricalPolicy,
    DiscreteValues,
    NormalPolicy,
    TanhNormalPolicy,
    Value,
    orthogonal_torso,
)
from parl.models.mlp import MLP

__all__ = [
    "MLP",
    "ActionValue",
    "CategoricalPolicy",
    "DiscreteValues",
    "Encoder",
    "Ensemble",
    "NatureCNN",
    "NormalPolicy",
    "TanhNormalPolicy",
    "Value",
    "orthogonal_torso",
]
