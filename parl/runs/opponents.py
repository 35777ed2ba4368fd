"""Opponents in games, as named by --opponent.

random   uniformly random legal actions
self     the learning policy: nothing is frozen, all agents learn
pool     frozen past policies of the run
RUN      the policy of another run on the same environment
OWN      module:attribute, or an object: an Agent, an Algorithm or its class, or a pure function of
         (obs [B, ...] of all agents, key) that gives their actions [B, N]
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from parl.agents.agent import LearnerAgent
from parl.agents.learner import Learner
from parl.algorithms.psro import PSRO
from parl.algorithms.wrappers.match import Scripted, Uniform, sides_of
from parl.algorithms.wrappers.self_play import SelfPlay
from parl.core.algorithm import Algorithm
from parl.core.errors import ConfigError, nearest, told
from parl.core.loading import OBJECT, called, is_path, load
from parl.core.spec import EnvSpec, example
from parl.runs.evaluation import Player
from parl.runs.fetch import run_path

KINDS = ("random", "self", "pool")
ADMISSIONS = 50  # default number of admissions to the pool in a run
POOL_EPSILON = 0.1  # share of random actions of the pool's policies
UNKNOWN_STEPS = 100  # of an episode without a time limit


def check(opponent: str, spec: EnvSpec) -> None:
    """Raises ConfigError for a game without opponents or an unknown opponent."""
    if not spec.num_agents or spec.num_agents == 1:
        raise ConfigError(
            f"opponent {opponent} needs a game of several sides; {spec.id} has a single agent."
        )
    if not spec.has_sides:
        raise ConfigError(
            f"opponent {opponent} needs a game of several sides; the agents of {spec.id} are one "
            "team."
        )
    if is_run(opponent) and not (run_path(opponent) / "config.json").exists():
        raise ConfigError(
            f"opponent '{opponent}' is neither a run directory nor module:attribute nor one of "
            f"{', '.join(KINDS)}."
            f"{nearest(opponent, KINDS)}"
        )


def is_run(opponent: str) -> bool:
    """Whether an opponent is another run's policy."""
    return bool(opponent) and opponent not in KINDS and not is_own(opponent)


def is_own(opponent: str) -> bool:
    """Whether an opponent is the user's own: module:attribute, or the name of an object."""
    if opponent.endswith(OBJECT):
        return True
    return is_path(opponent) and not Path(opponent).exists()


def own_opponent(opponent: Any) -> tuple[Any, str]:
    """(the user's opponent object or None, its name)."""
    if opponent is None or isinstance(opponent, str | Path):
        return None, str(opponent or "")
    return opponent, called(opponent)


def own_player(opponent: Any, spec: EnvSpec) -> Player:
    """The player for module:attribute or an object. Raises ConfigError."""
    if isinstance(opponent, str) and opponent.endswith(OBJECT):
        raise ConfigError(
            f"the run plays against an opponent of your own, {opponent}: give it again with "
            "opponent=..."
        )
    own: Any = load(opponent) if isinstance(opponent, str) else opponent
    if isinstance(own, Player):
        return own
    if isinstance(own, LearnerAgent):
        return Player(own.algorithm, own.get_weights())
    try:
        return checked_player(own() if isinstance(own, type) else own, spec)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"opponent {opponent!r:.60} cannot play {spec.id}: {told(error)}") from (
            error
        )


def checked_player(own: Any, spec: EnvSpec) -> Player:
    """The player of an algorithm or function, with the form of its actions checked."""
    if isinstance(own, Algorithm):
        learns = type(own).init is not Algorithm.init
        player = Player(own, own.policy(own.init(jax.random.key(0), spec) if learns else ()))
    elif callable(own):
        function: Any = own
        player = Player(Scripted(function), ())
    else:
        raise ConfigError(
            f"opponent {own!r:.60} is not a player: give an Agent, an Algorithm or a pure function "
            "of (obs, key)."
        )
    given, due = (actions_of(each, spec) for each in (player, random_player(spec)))
    if (given.shape, given.dtype) != (due.shape, due.dtype):
        raise ConfigError(
            f"opponent {own!r:.60} gives actions {given.dtype}{list(given.shape)}; {spec.id} takes "
            f"{due.dtype}{list(due.shape)}."
        )
    return Player(player.algorithm, jax.device_get(player.policy))


def actions_of(player: Player, spec: EnvSpec) -> Any:
    """Shape and type of a player's actions for one environment, traced."""
    obs = jax.tree.map(jnp.asarray, example(spec.observation_space, (1,)))
    act, memory = player.algorithm.act, player.algorithm.memory((1,))
    play = lambda policy, obs, memory, key: act(policy, obs, memory, key, explore=True)[0]
    return jax.eval_shape(play, player.policy, obs, memory, jax.random.key(0))


def plays_itself(opponent: str) -> bool:
    """Whether the learner is wrapped in SelfPlay and learns only from its own side."""
    return bool(opponent) and opponent != "self"


def random_player(spec: EnvSpec) -> Player:
    """The opponent that acts at random."""
    return Player(Uniform(spec.action_space, spec.num_agents or 1), ())


def with_opponent(
    learner: Learner,
    opponent: str,
    spec: EnvSpec,
    rival: Player | None,
    pool_size: int,
    admit_every: int,
) -> Learner:
    """The learner wrapped to play one side; `rival` plays the others (None: its past policies).

    `admit_every` counts rollouts.
    """
    if not plays_itself(opponent):
        return learner
    if isinstance(learner.algorithm, PSRO):
        raise ConfigError("psro has pools of opponents of its own: leave out --opponent.")
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
