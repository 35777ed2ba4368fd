"""Trains the small zoo and writes its cards: python experiments/zoo.py [--hub HUB]

Each run takes less than a minute on two idle cores; those in runs/zoo are not trained again. The
hub (runs/hub if not given) gets them whole, experiments/zoo only their cards.
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

import parl
from parl.deploy import hub

CARDS = Path(__file__).parent / "zoo"
ZOO: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ppo-CartPole-v1": ("ppo", "jax:CartPole-v1", {"steps": 200_000, "num_seeds": 3}),
    "dqn-CartPole-v1": ("dqn", "jax:CartPole-v1", {"steps": 50_000}),
    "sac-Pendulum-v1": ("sac", "jax:Pendulum-v1", {"steps": 10_000}),
    "td3-Pendulum-v1": ("td3", "jax:Pendulum-v1", {"steps": 10_000}),
}


def trained(name: str) -> Path:
    """The directory of a run of the zoo, which is trained where it is not there."""
    algorithm, env, settings = ZOO[name]
    place = Path("runs") / "zoo" / name
    if (place / "config.json").exists():
        return parl.resume(place, quiet=True).path
    return parl.train(algorithm, env, place, quiet=True, eval_episodes=20, **settings).path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hub", default="runs/hub")
    parser.add_argument("names", nargs="*", default=list(ZOO))
    given = parser.parse_args()
    for name in given.names:
        there = Path(hub.push(trained(name), given.hub, name, replace=True))
        target = CARDS / f"{name}.md"
        target.parent.mkdir(exist_ok=True)
        if (there / hub.README).is_file():
            shutil.copyfile(there / hub.README, target)
        print(f"{name}: {hub.entries(given.hub)[name]['return']}", flush=True)


if __name__ == "__main__":
    main()
