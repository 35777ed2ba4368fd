"""REDQ: randomised ensembles of critics, which allow many updates per step.

Chen et al. 2021, arXiv:2101.05982. DroQ, Hiraoka et al. 2022, arXiv:2110.02034, replaces the
ensemble by two critics with dropout, which is a choice of network. `policy_period` is the number of
critic updates per policy update.
"""

import jax

from parl.algorithms.sac import SAC
from parl.core.types import Array, Params, Step, static
from parl.ops.value_distributions import ValueDistribution


class REDQ(SAC):
    """SAC with targets from a random subset of critics, and a policy that uses all of them."""

    subset: int = static(default=2)  # critics used for a target, M in the paper

    def critic_values(
        self, params: Params, target: Params, batch: Step, next_action: Array, key: Array
    ) -> tuple[ValueDistribution, ValueDistribution, Params]:
        """As in SAC, but only `subset` of the target critics are evaluated: algorithm 1."""
        k_subset, key = jax.random.split(key)
        size = jax.tree.leaves(target)[0].shape[0]
        members = jax.random.choice(k_subset, size, (self.subset,), replace=False)
        target = jax.tree.map(lambda x: x[members], target)
        return super().critic_values(params, target, batch, next_action, key)

    def policy_value(self, values: ValueDistribution) -> Array:
        """The mean over all critics: algorithm 1."""
        return values.mean.mean(0)
