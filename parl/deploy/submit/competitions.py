"""What competitions take: a table.

Sizes, times and layouts are those of the organisers' starting kits and of their packages, as they
stood in November 2026; an organiser may change them, so look before you send.
"""

from collections.abc import Callable
from typing import NamedTuple

from parl.core.errors import ConfigError, nearest
from parl.deploy.submit import packages
from parl.deploy.submit.packages import Package, Parts

MB = 1 << 20
GB = 1 << 30


class Competition(NamedTuple):
    """One competition, or one game of a platform."""

    name: str
    package: Callable[[Parts], Package]
    seconds: float  # that an action may take
    first: float  # likewise the first one of a process
    num_bytes: int  # that the package may have
    memory: int  # bytes that the process may use
    provides: tuple[str, ...]  # packages beside NumPy that code may import there
    upload: str  # the command that sends {file}
    adapted: bool = True  # whether it shows something else than our environment does
    game: str = ""  # of the platform
    module: str = ""  # that the real environment needs


# seconds of an action, by the games of kaggle-environments 1.33.2
KAGGLE = {
    "connectx": 2.0,
    "hungry_geese": 1.0,
    "rps": 1.0,
    "mab": 0.25,
    "halite": 3.0,
    "kore_fleets": 3.0,
    "lux_ai_2021": 3.0,
    "orbit_wars": 1.0,
    "reinforce_tactics": 5.0,
}
OVERAGE = 60.0  # seconds of a game beyond those of its actions, which Kaggle grants once

PLAIN = Competition(
    "plain", packages.plain, 1.0, 10.0, 1 * GB, 2 * GB, (),
    "nothing is to be sent: copy {file} to where it runs", adapted=False, module="gymnasium",
)  # fmt: skip
LUX = Competition(
    "lux-s3", packages.lux, 3.0, OVERAGE, 100 * MB, 2 * GB, ("scipy",),
    "kaggle competitions submit -c lux-ai-season-3 -f {file} -m MESSAGE",
)  # fmt: skip
GRID = Competition(
    "l2rpn", packages.grid, 5.0, 60.0, 300 * MB, 8 * GB, ("grid2op", "lightsim2grid", "scipy"),
    "upload {file} on the competition's page at codabench.org (My Submissions)", module="grid2op",
    game="rte_case14_realistic",
)  # fmt: skip
MYO = Competition(
    "myochallenge", packages.myo, 1.0, 60.0, 1 * GB, 4 * GB,
    ("utils", "grpc", "gymnasium", "evaluation_pb2", "evaluation_pb2_grpc"),
    "unpack {file} into the organisers' repository; docker build -f docker/agent/Dockerfile_parl . "
    "-t parl_agent; evalai push parl_agent:latest --phase PHASE",
)  # fmt: skip
POKE = Competition(
    "pokeagent", packages.poke, 5.0, 60.0, 1 * GB, 4 * GB, ("poke_env",),
    "unpack {file} and run: python main.py --server ADDRESS --user NAME",
)  # fmt: skip
OTHERS = {each.name: each for each in (PLAIN, LUX, GRID, MYO, POKE)}


def competition(name: str) -> Competition:
    """The competition of this name; of Kaggle kaggle:GAME. Raises ConfigError for others."""
    if name in OTHERS:
        return OTHERS[name]
    platform, colon, game = name.partition(":")
    known = [*OTHERS, "kaggle:connectx"]
    if platform != "kaggle" or not colon or not game.isidentifier():
        hint = nearest(name, known)
        raise ConfigError(
            f"there is no competition '{name}'.{hint} Known: {', '.join(OTHERS)}, kaggle:GAME "
            f"such as kaggle:{', kaggle:'.join(list(KAGGLE)[:2])}."
        )
    return Competition(
        name, packages.kaggle, KAGGLE.get(game, 1.0), OVERAGE, 100 * MB, 2 * GB, ("scipy",),
        f"kaggle competitions submit -c {game.replace('_', '-')} -f {{file}} -m MESSAGE",
        game=game, module="kaggle_environments",
    )  # fmt: skip
