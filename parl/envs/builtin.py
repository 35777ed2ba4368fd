"""The built-in JAX environments, by name."""

import re
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from functools import partial
from typing import Any

from parl.core.errors import EnvError, nearest
from parl.core.settings import Setting, checked, kinds
from parl.envs.classic.acrobot import Acrobot
from parl.envs.classic.bit_flip import BitFlip
from parl.envs.classic.cartpole import CartPole, CartPoleMasked
from parl.envs.classic.mountain_car import MountainCarContinuous
from parl.envs.classic.pendulum import Pendulum, PendulumMasked
from parl.envs.classic.repeat_previous import RepeatPrevious
from parl.envs.multi.board_games import CONNECT_FOUR, TIC_TAC_TOE
from parl.envs.multi.foraging import Foraging
from parl.envs.multi.matrix_games import CLIMBING, MatrixGame, TwoStep, penalty
from parl.envs.multi.poker import KUHN, LEDUC
from parl.envs.multi.simple_speaker_listener import SimpleSpeakerListener
from parl.envs.multi.simple_spread import SimpleSpread
from parl.envs.multi.simple_tag import SimpleTag
from parl.envs.protocol import JaxEnv

JAX_ENVS: dict[str, Callable[..., JaxEnv]] = {
    "CartPole-v1": CartPole,
    "CartPoleMasked-v1": CartPoleMasked,
    "Pendulum-v1": Pendulum,
    "PendulumMasked-v1": PendulumMasked,
    "Acrobot-v1": Acrobot,
    "BitFlip-15": BitFlip,
    "MountainCarContinuous-v0": MountainCarContinuous,
    "RepeatPrevious": RepeatPrevious,
    "simple_spread": SimpleSpread,
    "simple_spread_continuous": partial(SimpleSpread, continuous=True),
    "simple_speaker_listener": SimpleSpeakerListener,
    "simple_speaker_listener_continuous": partial(SimpleSpeakerListener, continuous=True),
    "simple_tag": SimpleTag,
    "simple_tag_continuous": partial(SimpleTag, continuous=True),
    "foraging-8x8-2p-2f-coop": partial(Foraging, coop=True),
    "two_step": TwoStep,
    "climbing": partial(MatrixGame, "jax:climbing", CLIMBING),
    "penalty": partial(MatrixGame, "jax:penalty", penalty(-100.0)),
    "tic_tac_toe": lambda: TIC_TAC_TOE,
    "connect_four": lambda: CONNECT_FOUR,
    "kuhn_poker": lambda: KUHN,
    "leduc_poker": lambda: LEDUC,
}

BIT_FLIP = re.compile(r"BitFlip-(?P<bits>[1-9]\d{0,3})")
SPREAD = re.compile(r"simple_spread(?P<continuous>_continuous)?-(?P<agents>\d+)")
FORAGING = re.compile(
    r"foraging(-(?P<sight>\d+)s)?-(?P<size>\d+)x(?P=size)-(?P<players>\d+)p-(?P<foods>\d+)f"
    r"(?P<coop>-coop)?"
)


def make_builtin(name: str, /, **arguments: Any) -> JaxEnv:
    """The environment of this name, such as `simple_spread-8` or `foraging-2s-10x10-3p-3f`.

    Arguments are those of its class; whole numbers must be at least 1, others above 0. Raises
    EnvError for an unknown name or argument, and ConfigError for an invalid value.
    """
    try:
        make = maker(name)
        types = kinds_of(make)
        given = {
            key: checked(key, value, types[key], bounds_of(types[key])) if key in types else value
            for key, value in arguments.items()
        }
        return make(**given)
    except (TypeError, ValueError) as error:
        raise EnvError(f"jax:{name} could not be made: {error}") from error


def bounds_of(kind: Any) -> Setting:
    """The bounds of an argument of a type."""
    return Setting(low=0, above=True) if kind is float else Setting(low=1)


def kinds_of(make: Callable[..., JaxEnv]) -> Mapping[str, Any]:
    """The types of a maker's arguments, if it is a dataclass."""
    owner = make.func if isinstance(make, partial) else make
    return kinds(owner) if isinstance(owner, type) and is_dataclass(owner) else {}


def maker(name: str) -> Callable[..., JaxEnv]:
    """The maker of the environment of this name. Raises EnvError."""
    if name in JAX_ENVS:
        return JAX_ENVS[name]
    if found := BIT_FLIP.fullmatch(name):
        return partial(BitFlip, int(found["bits"]))
    if found := SPREAD.fullmatch(name):
        return partial(SimpleSpread, int(found["agents"]), bool(found["continuous"]))
    if found := FORAGING.fullmatch(name):
        size, players, foods = (int(found[part]) for part in ("size", "players", "foods"))
        sight = int(found["sight"]) if found["sight"] else None
        return partial(Foraging, size, players, foods, bool(found["coop"]), sight)
    hint = nearest(name, JAX_ENVS)
    raise EnvError(f"unknown environment 'jax:{name}'.{hint} Built in: {', '.join(JAX_ENVS)}.")
