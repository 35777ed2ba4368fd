"""ReBRAC as in Tarasov et al. 2023, app. B: deep layer-normalised critics, batches of 1,024.

As in the authors' code, critics normalise after the activation, and the last layers begin small.

Their penalties of actor and critic are of the data: on HalfCheetah 0.001 and 0.01 for medium, 0.01
and 0.001 for medium-replay. Data of one policy alone want more: 0.05 and 0.01 there.
"""

from dataclasses import dataclass

from parl.agents.learner import OffPolicy
from parl.agents.replay.sampling import NextAction
from parl.algorithms.rebrac import ReBRAC
from parl.core.algorithm import Algorithm
from parl.core.errors import ConfigError
from parl.core.model import Model
from parl.core.spec import EnvSpec
from parl.models import MLP, Critic, Ensemble
from parl.models.control import UNIFORM, WITHIN_1E3, WITHIN_3E3, DeterministicPolicy
from parl.models.mlp import normalised_relu
from parl.recipes.shared.control import uniform_torso
from parl.recipes.td3_bc import TD3BCRecipe

PAPER = ReBRAC(learning_rate=1e-3, critic_learning_rate=1e-3)


@dataclass(frozen=True)
class ReBRACRecipe(TD3BCRecipe):
    """Behaviour-regularised actor-critic."""

    algorithm: ReBRAC = PAPER
    hidden: tuple[int, ...] = (256, 256, 256)
    batch_size: int = 1_024
    normalize_obs: bool = False

    def networks(self, spec: EnvSpec) -> tuple[Model, Model]:
        space, torso = spec.observation_space, uniform_torso(self.hidden)
        actor = DeterministicPolicy(space, spec.action.shape[-1], torso, WITHIN_1E3)
        normalised = MLP(self.hidden, normalised_relu, UNIFORM)
        return actor, Ensemble(Critic(space, normalised, linear=WITHIN_3E3), self.num_critics)

    def off_policy(self, algorithm: Algorithm, groups: tuple[int, ...] = ()) -> OffPolicy:
        if self.n_step > 1:
            raise ConfigError("rebrac compares single steps with the data: use --n-step 1.")
        learner = super().off_policy(algorithm, groups)
        return learner.replace(replay=NextAction(learner.replay))
