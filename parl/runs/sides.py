"""Whether a game is for a team: its algorithms learn from what all are paid together."""

import numpy as np

from parl.core.errors import ConfigError
from parl.core.spec import Box
from parl.envs.factory import EnvFactory
from parl.recipes.auto import doubt
from parl.runs.episodes import Rules
from parl.runs.evaluation import Evaluator
from parl.runs.opponents import random_player

EPISODES = 12  # of random play that are looked at
STEPS = 200  # of each at most
CLOSE = 1e-4  # of the largest return: sums as near as this are the same


def check_team(algorithm: str, factory: EnvFactory, opponent: str = "") -> str:
    """A remark where an algorithm for teams gets a game that may have several sides, else nothing.

    Raises ConfigError where it cannot learn that game: there are opponents, or what one agent wins
    others lose, which random play shows.
    """
    remark = doubt(algorithm, factory.spec)
    if not remark:
        return ""
    if opponent:
        raise ConfigError(
            f"{algorithm} is for one team, which has no opponents: use ippo with --opponent, or "
            f"{algorithm} without."
        )
    returns = random_returns(factory)
    if is_divided(returns):
        raise ConfigError(
            f"{algorithm} is for one team, but what one agent of {factory.spec.id} wins others "
            f"lose, so that there is nothing to learn from what all are paid together: use "
            f"{fitting(factory)}, which learn each agent's own."
        )
    return "" if (returns == returns[:, :1]).all() else remark  # all are paid the same


def fitting(factory: EnvFactory) -> str:
    """The algorithms to take instead."""
    return "ippo or maddpg" if isinstance(factory.spec.action_space, Box) else "ippo or iql"


def random_returns(factory: EnvFactory) -> np.ndarray:
    """The returns [E, N] of the agents in some episodes of random play."""
    player = random_player(factory.spec)
    rules = Rules(max_steps=STEPS, sample=True)
    return Evaluator(factory, player.algorithm, EPISODES, rules)(player.policy, 0).returns


def is_divided(returns: np.ndarray) -> bool:
    """Whether agents divide the same sum in all episodes [E, N], and not all equally."""
    largest = np.abs(returns).max()
    sums, shares = returns.sum(-1), np.ptp(returns, axis=-1)
    return bool(np.ptp(sums) <= CLOSE * largest < shares.max())
