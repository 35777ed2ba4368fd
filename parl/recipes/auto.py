"""`auto`: the algorithm that an environment asks for, and why.

The pick depends on nothing but the environment, so that a command means the same every time. What
it rests on are the results in experiments/RESULTS.md.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from parl.core.spec import Box, Discrete, EnvSpec
from parl.models.encoder import has_images
from parl.recipes.shared.control import has_short_episodes

AUTO = "auto"
TEAMS = ("mappo", "coma", "qmix", "vdn", "pqn_vdn")  # learn from what all agents are paid together
FEW_ACTIONS = 4  # actions of joints: Hopper has 3, HalfCheetah 6
# Steps of a simulator cost far less than updates: so many of the former, few and cheap ones of the
# latter. On HalfCheetah a return of 5,000 comes about six times as soon as with 256 units and one
# update a step.
CHEAP = MappingProxyType({"hidden": (128, 128), "actor_hidden": (128, 128), "num_envs": 8})


class Pick(NamedTuple):
    """What was picked."""

    algorithm: str
    why: str
    settings: Mapping[str, Any] = MappingProxyType({})  # where they are not the recipe's own

    def line(self, spec: EnvSpec) -> str:
        """What to tell the user."""
        chosen = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        chosen = f"{self.algorithm} with {chosen}" if chosen else self.algorithm
        return f"auto: {chosen} for {spec.id}, because {self.why}"


def pick(spec: EnvSpec, in_jax: bool) -> Pick:
    """The algorithm for an environment; `in_jax`: its steps are part of the compiled program."""
    actions, images = spec.action_space, has_images(spec.observation_space)
    if spec.has_sides:
        why = f"its {spec.num_agents} agents may be on several sides, each paid its own"
        return Pick("ippo", why)
    if spec.num_agents:
        return Pick("mappo", f"it has {spec.num_agents} agents and tells the state of all")
    if isinstance(actions, Box):
        return for_images(actions) if images else for_torques(spec, actions)
    if isinstance(actions, Discrete) and images and not in_jax:
        return Pick("dqn", f"it has {actions} and images, of which a replay makes the most")
    speed = "its steps are compiled and cheap" if in_jax else "it is learned soon and steadily"
    return Pick("ppo", f"it has {actions} and {speed}")


def doubt(algorithm: str, spec: EnvSpec) -> str:
    """A sentence where an algorithm for teams is to play a game that may have several sides."""
    if algorithm not in TEAMS or not spec.has_sides:
        return ""
    return (
        f"{algorithm} is for one team: it pays every agent of {spec.id} what all are paid "
        "together, which is always 0 where one side wins what another loses; ippo learns each "
        "side's own."
    )


def for_torques(spec: EnvSpec, actions: Box) -> Pick:
    """The soonest at a high return of those measured for continuous actions on vectors."""
    what = f"it has continuous actions, {actions}, on vectors"
    if actions.shape[-1] <= FEW_ACTIONS and not has_short_episodes(spec):
        return Pick("ppo", f"{what}, few enough to be learned soonest from many cheap steps")
    return Pick("crossq", f"{what}, which few updates teach", CHEAP)


def for_images(actions: Box) -> Pick:
    """The algorithm for continuous actions on images."""
    return Pick("ppo", f"it has continuous actions, {actions}, on images, too large for a replay")
