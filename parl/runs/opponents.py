"""Who plays the other sides of a game, as --opponent names it.

random   any legal action
self     the policy that learns: nothing is frozen, all agents learn
pool     frozen policies of the run's own past
RUN      the policy of another run on the same environment
"""

from pathlib import Path

import jax
import numpy as np

from parl.agents.learner import Learner
from parl.algorithms.wrappers.match import Uniform, sides_of
from parl.algorithms.wrappers.self_play import SelfPlay
from parl.core.errors import ConfigError, nearest
from parl.core.spec import EnvSpec
from parl.runs.evaluation import Player

KINDS = ("random", "self", "pool")
ADMISSIONS = 50  # to the pool in a run, if it is not said how many
POOL_EPSILON = 0.1  # share of random actions of the pool's policies
UNKNOWN_STEPS = 100  # of an episode without a time limit


def check(opponent: str, spec: EnvSpec) -> None:
    """Raises ConfigError where there is nobody to play against, or no such opponent."""
    if not spec.num_agents or spec.num_agents == 1:
        raise ConfigError(
            f"opponent {opponent} needs a game of several sides; {spec.id} has a single agent."
        )
    if not spec.has_sides:
        raise ConfigError(
            f"opponent {opponent} needs a game of several sides; the agents of {spec.id} are one "
            "team."
        )
    if opponent not in KINDS and not (Path(opponent) / "config.json").exists():
        raise ConfigError(
            f"opponent '{opponent}' is neither a run directory nor one of {', '.join(KINDS)}."
            f"{nearest(opponent, KINDS)}"
        )


def is_run(opponent: str) -> bool:
    """Whether an opponent is another run's policy."""
    return bool(opponent) and opponent not in KINDS


def plays_itself(opponent: str) -> bool:
    """Whether only the learner's own side is learned from: there is a SelfPlay around it."""
    return bool(opponent) and opponent != "self"


def random_player(spec: EnvSpec) -> Player:
    """The opponent without a policy."""
    return Player(Uniform(spec.action_space, spec.num_agents or 1), ())


def with_opponent(
    learner: Learner,
    opponent: str,
    spec: EnvSpec,
    rival: Player | None,
    pool_size: int,
    admit_every: int,
) -> Learner:
    """The learner that plays its own side only; `rival` is who plays the others, or None: it.

    `admit_every` counts rollouts.
    """
    if not plays_itself(opponent):
        return learner
    inner = learner.algorithm
    game = SelfPlay(
        inner,
        inner if rival is None else rival.algorithm,
        random_player(spec).algorithm,
        None if rival is None else jax.tree.map(lambda x: np.asarray(x)[None], rival.policy),
        sides=sides_of(spec),
        noise=POOL_EPSILON if rival is None else 0.0,
        pool_size=pool_size,
        matches=4 if rival is None else 1,
        match_steps=2 * (spec.max_steps or UNKNOWN_STEPS),
        admit_every=admit_every,
    )
    return learner.replace(algorithm=game)
