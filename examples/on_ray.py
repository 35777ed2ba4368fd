"""Rollout actors on Ray: a run that loses workers, and a class of one's own on other cores.

    python examples/on_ray.py [DIR]

Ray is started for this script alone and ends with it.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

import parl


@parl.remote_class
class Estimator:
    """Estimates pi; each instance is a process."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)

    def estimate(self, draws: int) -> float:
        """Four times the share of points within the circle."""
        return 4 * float((self.rng.random((draws, 2)) ** 2).sum(1).__le__(1).mean())


def main(out: Path, steps: int = 10_000) -> None:
    """Trains while workers are killed, and reads the books."""
    parl.connect(num_cpus=3)  # as many actors as Ray lets run at once; it does not hold them to it
    try:
        estimators = [Estimator(seed) for seed in range(2)]
        print("pi is about", np.mean([each.estimate(100_000) for each in estimators]).round(2))
        for each in estimators:
            each.destroy()  # makes room for the rollout actors
        run = parl.train(
            "ppo",
            "CartPole-v1",
            out,
            quiet=True,
            actors=2,
            steps=steps,
            chaos="kill=0.02",
            eval_episodes=4,
        )
        print(f"a return of {run.result['return']['mean']:.0f}, although workers were killed")
    finally:
        parl.disconnect()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else scratch) / "run")
