"""Networks. Only these modules import flax.linen and flax.nnx."""

from parl.models.cnn import NatureCNN
from parl.models.control import Critic, DeterministicPolicy, SquashedNormalPolicy
from parl.models.encoder import Encoder
from parl.models.ensemble import Ensemble
from parl.models.heads import (
    CategoricalPolicy,
    DiscreteValues,
    ImplicitValues,
    NormalPolicy,
    PolicyValue,
    TanhNormalPolicy,
    Value,
    orthogonal_torso,
    policy_head,
)
from parl.models.mlp import MLP
from parl.models.noisy import NoisyDense
from parl.models.per_agent import Agents
from parl.models.recurrent import CELLS, Recurrent, cell_output
from parl.models.torsos import BatchNormMLP, DropoutMLP, FlashTorso, SimBa, SimBaV2

ActionValue = Critic  # its name of 0.1

__all__ = [
    "CELLS",
    "MLP",
    "ActionValue",
    "Agents",
    "BatchNormMLP",
    "CategoricalPolicy",
    "Critic",
    "DeterministicPolicy",
    "DiscreteValues",
    "DropoutMLP",
    "Encoder",
    "Ensemble",
    "FlashTorso",
    "ImplicitValues",
    "NatureCNN",
    "NoisyDense",
    "NormalPolicy",
    "PolicyValue",
    "Recurrent",
    "SimBa",
    "SimBaV2",
    "SquashedNormalPolicy",
    "TanhNormalPolicy",
    "Value",
    "cell_output",
    "orthogonal_torso",
    "policy_head",
]
