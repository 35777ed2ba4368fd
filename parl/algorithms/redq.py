"""Randomised ensembles of critics, which stand many updates per step.

REDQ: Chen et al. 2021, arXiv:2101.05982. DroQ, Hiraoka et al. 2022, arXiv:2110.02034, is the same
with two critics that have dropout in place of many: a choice of network. Many updates for one of
the policy are `policy_period`.
"""

import jax

from parl.algorithms.sac import SAC
from parl.core.types import Array, Params, Step, static
from parl.ops.value_distributions import ValueDistribution


class REDQ(SAC):
    """SAC with a target of few critics, drawn anew at each update, and a policy of all."""

    subset: int = static(default=2)  # critics of a target, M in the paper

    def critic_values(
        self, params: Params, target: Params, batch: Step, next_action: Array, key: Array
    ) -> tuple[ValueDistribution, ValueDistribution, Params]:
        """As SAC's, but only `subset` of the target critics are evaluated: algorithm 1."""
        k_subset, key = jax.random.split(key)
        size = jax.tree.leaves(target)[0].shape[0]
        members = jax.random.choice(k_subset, size, (self.subset,), replace=False)
        target = jax.tree.map(lambda x: x[members], target)
        return super().critic_values(params, target, batch, next_action, key)

    def policy_value(self, values: ValueDistribution) -> Array:
        """The mean over all critics: algorithm 1."""
        return values.mean.mean(0)
