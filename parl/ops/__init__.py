"""Pure functions over arrays: returns, distributions, values, trees, statistics."""

from parl.ops.distributions import Categorical, Distribution, MultiCategorical, Normal, TanhNormal
from parl.ops.noise import Colored, OrnsteinUhlenbeck, Repeated, White
from parl.ops.random import permutation
from parl.ops.returns import VTrace, gae, lambda_returns, n_step, retrace, vtrace
from parl.ops.statistics import iqm, stratified_bootstrap
from parl.ops.tree import expand_like, over_agents, where_first
from parl.ops.value_distributions import (
    Histogram,
    HLGauss,
    Point,
    Quantiles,
    TwoHot,
    ValueDistribution,
)
from parl.ops.values import (
    epsilon_greedy,
    huber,
    legal_actions,
    mask_illegal,
    select,
    uniform_action,
)

__all__ = [
    "Categorical",
    "Colored",
    "Distribution",
    "HLGauss",
    "Histogram",
    "MultiCategorical",
    "Normal",
    "OrnsteinUhlenbeck",
    "Point",
    "Quantiles",
    "Repeated",
    "TanhNormal",
    "TwoHot",
    "VTrace",
    "ValueDistribution",
    "White",
    "epsilon_greedy",
    "expand_like",
    "gae",
    "huber",
    "iqm",
    "lambda_returns",
    "legal_actions",
    "mask_illegal",
    "n_step",
    "over_agents",
    "permutation",
    "retrace",
    "select",
    "stratified_bootstrap",
    "uniform_action",
    "vtrace",
    "where_first",
]
