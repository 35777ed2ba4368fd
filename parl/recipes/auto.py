"""`auto`: the algorithm that an environment asks for, and why.

The pick depends on nothing but the environment, so that a command means the same every time. What
it rests on are the results in experiments/RESULTS.md.
"""

from typing import NamedTuple

from parl.core.spec import Box, Discrete, EnvSpec
from parl.models.encoder import has_images

AUTO = "auto"


class Pick(NamedTuple):
    """What was picked."""

    algorithm: str
    why: str

    def line(self, spec: EnvSpec) -> str:
        """What to tell the user."""
        return f"auto: {self.algorithm} for {spec.id}, because {self.why}"


def pick(spec: EnvSpec, in_jax: bool) -> Pick:
    """The algorithm for an environment; `in_jax`: its steps are part of the compiled program."""
    actions, images = spec.action_space, has_images(spec.observation_space)
    if spec.num_agents:
        return Pick("mappo", f"it has {spec.num_agents} agents and tells the state of all")
    if isinstance(actions, Box):
        return for_images(actions) if images else for_torques(actions)
    if isinstance(actions, Discrete) and images and not in_jax:
        return Pick("dqn", f"it has {actions} and images, of which a replay makes the most")
    speed = "its steps are compiled and cheap" if in_jax else "it is learned soon and steadily"
    return Pick("ppo", f"it has {actions} and {speed}")


def for_torques(actions: Box) -> Pick:
    """The best of the measured algorithms for continuous actions on vectors."""
    return Pick("sac", f"it has continuous actions, {actions}, on vectors, which few steps teach")


def for_images(actions: Box) -> Pick:
    """The algorithm for continuous actions on images."""
    return Pick("ppo", f"it has continuous actions, {actions}, on images, too large for a replay")
