"""Observations that show what the last action was paid, for policies that are asked for a return.

The number stands as `last_reward` [..., 1] beside the entries of a dict, and other observations
become a dict with them as `obs`. It is 0 at the start of an episode.
"""

from typing import Any

from parl.core.spec import Box

LAST_REWARD, OBS = "last_reward", "obs"


def shows_reward(tree: Any) -> bool:
    """Whether observations, or those of a space, show the last reward."""
    return isinstance(tree, dict) and LAST_REWARD in tree


def showing_reward(space: Any) -> dict[str, Any]:
    """The space of the observations with the last reward."""
    return with_reward(space, Box((1,)))


def with_reward(obs: Any, reward: Any) -> dict[str, Any]:
    """Observations [..., *O] with the last reward [..., 1]."""
    return (obs if isinstance(obs, dict) else {OBS: obs}) | {LAST_REWARD: reward}


def apart(obs: Any) -> tuple[Any, Any]:
    """The inverse: (observations [..., *O], rewards [..., 1] or None where none are shown).

    Of spaces, too.
    """
    if not shows_reward(obs):
        return obs, None
    own = {name: part for name, part in obs.items() if name != LAST_REWARD}
    return own[OBS] if own.keys() == {OBS} else own, obs[LAST_REWARD]
