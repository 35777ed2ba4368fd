"""Truncated quantile critics: the target drops the largest quantiles against overestimation.

Kuznetsov et al. 2020, arXiv:2005.04269.
"""

from parl.algorithms.sac import SAC
from parl.core.types import Array, static
from parl.ops.value_distributions import Quantiles, ValueDistribution, truncated_mixture


class TQC(SAC):
    """SAC whose critics return Quantiles [C, B, K]."""

    drop: int = static(default=2)  # quantiles dropped per critic

    def next_value(self, values: ValueDistribution) -> ValueDistribution:
        """The pooled quantiles of all critics without the largest, section 3.3."""
        assert isinstance(values, Quantiles), "TQC's critics return Quantiles"
        return truncated_mixture(values, self.drop)

    def policy_value(self, values: ValueDistribution) -> Array:
        """The mean of all quantiles, without truncation."""
        return values.mean.mean(0)
