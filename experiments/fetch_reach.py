"""How soon FetchReach can be reached: runs beside a controller that knows the task.

    python experiments/fetch_reach.py RUN [RUN ...] --episodes 300

The controller moves straight to the goal at full speed. All play the same episodes; each step
before the goal costs 1.
"""

from pathlib import Path
from typing import Any

import gymnasium as gym
import gymnasium_robotics  # pyright: ignore[reportMissingImports]
import numpy as np
import tyro

import parl

GAIN = 40.0  # of the distance in metres; actions end at -1 and 1
FIRST_SEED = 100_000


def straight(obs: dict[str, Any]) -> np.ndarray:
    """Full speed towards the goal, the gripper [1] left alone."""
    move = GAIN * (obs["desired_goal"] - obs["achieved_goal"])
    return np.append(np.clip(move, -1.0, 1.0), 0.0).astype(np.float32)


def main(runs: tyro.conf.Positional[list[Path]], /, episodes: int = 300) -> None:
    """Prints the mean return of each and its standard error."""
    gym.register_envs(gymnasium_robotics)
    env = gym.make("FetchReach-v4")
    players = {"straight": straight} | {run.name: parl.load(run).predict for run in runs}
    for name, player in players.items():
        returns = np.zeros(episodes)
        for episode in range(episodes):
            (obs, _), done = env.reset(seed=FIRST_SEED + episode), False
            while not done:
                obs, reward, terminated, truncated, _ = env.step(player(obs))
                returns[episode] += float(reward)
                done = terminated or truncated
        error = returns.std() / episodes**0.5
        print(f"{name}: {returns.mean():.2f} +- {error:.2f} over {episodes} episodes", flush=True)


if __name__ == "__main__":
    tyro.cli(main)
