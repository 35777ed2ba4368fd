"""Pure functions over arrays: returns, distributions, values, trees, statistics."""

from parl.ops.agents import (
    Transitions,
    active_agents,
    between_turns,
    masked,
    mean,
    mean_of_team,
    standardize,
    team_reward,
)
from parl.ops.distributions import Categorical, Distribution, MultiCategorical, Normal, TanhNormal
from parl.ops.noise import Colored, OrnsteinUhlenbeck, Repeated, White
from parl.ops.random import permutation
from parl.ops.ratings import elo, expected_score, matchmaking
from parl.ops.returns import VTrace, gae, lambda_returns, n_step, retrace, vtrace
from parl.ops.statistics import iqm, stratified_bootstrap, t_interval
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
    is_stuck,
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
    "Transitions",
    "TwoHot",
    "VTrace",
    "ValueDistribution",
    "White",
    "active_agents",
    "between_turns",
    "elo",
    "epsilon_greedy",
    "expand_like",
    "expected_score",
    "gae",
    "huber",
    "iqm",
    "is_stuck",
    "lambda_returns",
    "legal_actions",
    "mask_illegal",
    "masked",
    "matchmaking",
    "mean",
    "mean_of_team",
    "n_step",
    "over_agents",
    "permutation",
    "retrace",
    "select",
    "standardize",
    "stratified_bootstrap",
    "t_interval",
    "team_reward",
    "uniform_action",
    "vtrace",
    "where_first",
]
