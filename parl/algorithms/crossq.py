"""CrossQ: batch normalisation in the critics, and no target network.

Bhatt et al. 2024, arXiv:1902.05605. The networks must use batch (re)normalisation.
"""

from typing import Any

from parl.algorithms.sac import SAC, SACState
from parl.algorithms.shared.critics import joint_pass
from parl.core.spec import EnvSpec
from parl.core.types import Array, Params, Step
from parl.ops.value_distributions import ValueDistribution


class CrossQ(SAC):
    """SAC without target critics: current and next actions are evaluated in one batch."""

    def init(self, key: Array, spec: EnvSpec) -> SACState:
        return super().init(key, spec).replace(target=())

    def critic_values(
        self, params: Params, target: Params, batch: Step, next_action: Array, key: Array
    ) -> tuple[ValueDistribution, ValueDistribution, Params]:
        """One pass of the critics for both, section 3; the next values carry no gradient."""
        return joint_pass(self.critic, params, batch, next_action, key)

    def update_target(self, target: Params, params: Params) -> Any:
        """There is no target."""
        return ()
