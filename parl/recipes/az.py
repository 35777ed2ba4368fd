"""Gumbel AlphaZero, with few simulations, as in Danihelka et al. 2022, section 5.

Rollouts are longer than games where their length is known, so that most moves learn from how their
game ended.

What differs from the paper: the rules of the game take the place of a learned model, as in
AlphaZero, and networks are dense. AdamW learns at a constant rate. A tenth of the moves are drawn
uniformly, and what a search has found stands for the outcome before one. The values of a
position's moves are not stretched to their full range, which noise would fill.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import jax

from parl.agents.learner import Learner
from parl.algorithms.az import AZ
from parl.core.errors import SpaceError
from parl.core.model import Model
from parl.core.spec import Box, Discrete, EnvSpec
from parl.models import PolicyValue
from parl.models.heads import orthogonal_torso
from parl.recipes.base import OffPolicyRecipe

SETTINGS = AZ()
LONG = 128  # moves of a rollout where games may be long
PLAYERS = 2


def no_rules(spec: EnvSpec) -> SpaceError:
    """The error of an environment that has no rules to search with."""
    return SpaceError(
        f"az searches with the rules of a game of two players who move in turn, which {spec.id} "
        "does not give: use jax:tic_tac_toe, jax:connect_four, pgx:othello or the like, or ippo."
    )


@dataclass(frozen=True)
class AZRecipe(OffPolicyRecipe):
    """Gumbel AlphaZero, for games of two players whose rules are known."""

    serves: ClassVar[tuple[type, ...]] = (Discrete,)
    derived: ClassVar[tuple[str, ...]] = ("n_step", "priority", "her", "her_share", "warmup")
    multi_agent: ClassVar[bool] = True
    needs_simulator: ClassVar[bool] = True
    takes_data: ClassVar[bool] = False
    opponent: ClassVar[str] = "self"

    algorithm: AZ = SETTINGS
    hidden: tuple[int, ...] = (128, 128)
    num_envs: int = 64
    length: int = 32
    updates: int = 16
    batch_size: int = 256
    warmup: int = 0
    capacity: int = 50_000  # moves

    @classmethod
    def for_env(cls, spec: EnvSpec) -> Self:
        if not spec.takes_turns or spec.num_agents != PLAYERS:
            raise no_rules(spec)
        return cls(length=min(2 * (spec.max_steps or LONG), LONG))

    def learner(self, spec: EnvSpec, steps: int, num_envs: int) -> Learner:
        model, simulator = self.network(spec), spec.simulator
        if simulator is None:
            raise no_rules(spec)
        return self.off_policy(self.algorithm.replace(model=model, simulator=simulator))

    def network(self, spec: EnvSpec) -> Model:
        """The network of what one player sees."""
        space: Any = spec.observation_space
        actions: Any = spec.action_space
        seen = {"view": Box(space["view"].shape[1:])}
        return PolicyValue(seen, actions, orthogonal_torso(self.hidden, jax.nn.relu))
