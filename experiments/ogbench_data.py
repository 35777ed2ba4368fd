"""Makes a data set of an OGBench maze by its own controller, as `pointmaze-*-navigate` was made.

python experiments/ogbench_data.py ID DIR [--episodes 1000] [--steps 1001] [--noise 0.5] [--seed 0]

The controller walks to a random free cell by the way-points of the maze, with Gaussian noise in its
actions, and on arrival to another one (Park et al. 2024, arXiv:2410.20092). The goal of each step
is where it was heading; episodes are cut after --steps.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from tyro.conf import Positional

from parl.datasets.card import card_for
from parl.datasets.episode import Episode
from parl.datasets.writer import Writer
from parl.envs.adapters.ogbench_suite import make_ogbench
from parl.envs.factory import make_factory

GROUP = 100  # episodes of a file


@dataclass
class Flags:
    """A data set of a point maze."""

    id: Positional[str]  # such as ogbench:pointmaze-medium-v0
    out: Positional[Path]
    episodes: int = 1_000
    steps: int = 1_001
    noise: float = 0.5
    seed: int = 0


def walked(env: Any, steps: int, noise: float, rng: np.random.Generator) -> Episode:
    """One episode of the controller."""
    inner = env.env.unwrapped
    free = [inner.ij_to_xy(cell) for cell in np.argwhere(inner.maze_map == 0)]
    place = lambda: np.array(free[rng.integers(len(free))], np.float64)
    env.reset(seed=int(rng.integers(2**31)))
    inner.set_xy(place() + rng.uniform(-1, 1, 2))
    goal, xy = place(), inner.get_xy()
    seen, actions, rewards = [], [], []
    for _ in range(steps):
        seen.append((xy, goal))
        way = inner.get_oracle_subgoal(xy, goal)[0] - xy
        action = way / (np.linalg.norm(way) + 1e-6) + rng.normal(0, noise, 2)
        actions.append(np.clip(action, -1, 1))
        env.step(actions[-1])
        xy = inner.get_xy()
        rewards.append(env.compute_reward(xy, goal, {}))
        goal = place() if rewards[-1] else goal
    places, goals = (np.array(x, np.float32) for x in zip(*seen, (xy, seen[-1][1]), strict=True))
    obs = {"observation": places, "achieved_goal": places, "desired_goal": goals}
    cut = np.arange(steps) == steps - 1
    actions = np.array(actions, np.float32)
    return Episode(obs, actions, np.array(rewards, np.float32), np.zeros(steps, bool), cut)


def main(flags: Flags) -> None:
    """Writes the data set."""
    name = flags.id.removeprefix("ogbench:")
    env = make_ogbench(name, terminate_at_goal=False, max_episode_steps=10 * flags.steps)()
    about = {"run": "the maze's controller", "noise": flags.noise, "seed": flags.seed}
    with Writer(flags.out, card_for(make_factory(flags.id).spec, flags.id, policy=about)) as writer:
        while (left := flags.episodes - writer.card.episodes) > 0:
            rng = np.random.default_rng([flags.seed, writer.card.episodes])
            group = [walked(env, flags.steps, flags.noise, rng) for _ in range(min(GROUP, left))]
            writer.add(group)
            writer.flush()
    print(f"{writer.card.steps:,} steps of {writer.card.episodes:,} episodes in {flags.out}")


if __name__ == "__main__":
    main(tyro.cli(Flags))
