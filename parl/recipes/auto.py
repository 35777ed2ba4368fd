"""`auto`: picks the algorithm for an environment and gives the reason.

The choice depends only on the environment, so a command always means the same. It is based on the
results in experiments/RESULTS.md.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from parl.core.spec import Box, Discrete, EnvSpec
from parl.models.encoder import has_images
from parl.recipes.shared.control import has_short_episodes

AUTO = "auto"
TEAMS = ("mappo", "coma", "qmix", "vdn", "pqn_vdn")  # learn from the sum of rewards
FEW_ACTIONS = 4  # actions of joints: Hopper has 3, HalfCheetah 6
# Simulator steps cost far less than updates, so these settings take many steps and few, cheap
# updates. HalfCheetah reaches a return of 5,000 about six times sooner than with 256 units and one
# update per step.
CHEAP = MappingProxyType({"hidden": (128, 128), "actor_hidden": (128, 128), "num_envs": 8})


class Pick(NamedTuple):
    """The chosen algorithm, the reason, and changed settings."""

    algorithm: str
    why: str
    settings: Mapping[str, Any] = MappingProxyType({})  # those that differ from the recipe's

    def line(self, spec: EnvSpec) -> str:
        """One line for the user."""
        chosen = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        chosen = f"{self.algorithm} with {chosen}" if chosen else self.algorithm
        return f"auto: {chosen} for {spec.id}, because {self.why}"


def pick(spec: EnvSpec, in_jax: bool) -> Pick:
    """The algorithm for an environment; `in_jax`: its steps run in the compiled program."""
    actions, images = spec.action_space, has_images(spec.observation_space)
    if spec.has_sides:
        why = f"its {spec.num_agents} agents may be opponents, each with its own reward"
        return Pick("ippo", why)
    if spec.num_agents:
        return Pick("mappo", f"it has {spec.num_agents} agents and a global state")
    if isinstance(actions, Box):
        return for_images(actions) if images else for_torques(spec, actions)
    if isinstance(actions, Discrete) and images and not in_jax:
        return Pick("dqn", f"it has {actions} and images, which replay uses efficiently")
    speed = "its steps are compiled and cheap" if in_jax else "ppo learns it with few samples"
    return Pick("ppo", f"it has {actions} and {speed}")


def doubt(algorithm: str, spec: EnvSpec) -> str:
    """A warning if an algorithm for teams is used in a game that may have opponents, or ''."""
    if algorithm not in TEAMS or not spec.has_sides:
        return ""
    return (
        f"{algorithm} is for one team: it gives every agent of {spec.id} the sum of all rewards, "
        "which is always 0 in a zero-sum game; ippo learns from each agent's own reward."
    )


def for_torques(spec: EnvSpec, actions: Box) -> Pick:
    """The fastest measured algorithm for continuous actions on vector observations."""
    what = f"it has continuous actions, {actions}, on vectors"
    if actions.shape[-1] <= FEW_ACTIONS and not has_short_episodes(spec):
        return Pick("ppo", f"{what}, few enough for ppo to be fastest with many cheap steps")
    return Pick("crossq", f"{what}, which crossq learns with few updates", CHEAP)


def for_images(actions: Box) -> Pick:
    """The algorithm for continuous actions on images."""
    return Pick("ppo", f"it has continuous actions, {actions}, on images, too large for replay")
