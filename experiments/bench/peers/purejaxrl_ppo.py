"""Speed of PureJaxRL's PPO on gymnax's CartPole: environment steps per second over all seeds.

PureJaxRL is no package: check its public GitHub repository (luchris429/purejaxrl) out somewhere
outside this one, and name that folder with ``--source``. Environment, outside the repository:

    python3 -m venv peers-purejaxrl
    peers-purejaxrl/bin/pip install jax flax optax distrax gymnax==0.0.9
    peers-purejaxrl/bin/python purejaxrl_ppo.py --source purejaxrl --num-seeds 8

gymnax 1.x returns six values from ``step`` where PureJaxRL expects five, hence the older release.
PureJaxRL's ``wrappers.py`` imports Brax and NAVIX for environments that this benchmark does not
make; empty modules stand in for the two unless they are installed.

Training is compiled ahead of time (``compile_seconds``), then run ``--repeats`` times with
different keys; ``seconds`` is the median. The last line printed is one JSON object.
"""

import argparse
import importlib
import json
import sys
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np
from programs import installed, speed, stand_in, timed


def load_make_train(source):
    """Return ``make_train`` of PureJaxRL's ``ppo.py`` in a checkout."""
    folder = next(f for f in (source / "purejaxrl", source) if (f / "ppo.py").is_file())
    if not installed("brax"):
        for package in ("brax", "brax.envs", "brax.envs.wrappers"):
            stand_in(package)
        stand_in("brax.envs.wrappers.training", EpisodeWrapper=None, AutoResetWrapper=None)
    if not installed("navix"):
        stand_in("navix")
    sys.path.insert(0, str(folder))
    return importlib.import_module("ppo").make_train


def last_returns(out):
    """Mean return of the last finished episodes, at the last step of each environment."""
    return float(np.asarray(out["metrics"]["returned_episode_returns"])[..., -1, -1, :].mean())


def main():
    parser = argparse.ArgumentParser(description="speed of PureJaxRL's PPO")
    parser.add_argument("--source", type=Path, required=True, help="checkout of PureJaxRL")
    parser.add_argument("--revision", default="unknown", help="its commit, for the record")
    parser.add_argument("--env", default="CartPole-v1", help="a gymnax environment")
    parser.add_argument("--num-seeds", type=int, default=1, help="vmapped when more than one")
    parser.add_argument("--total-steps", type=int, default=500_000, help="of each seed")
    parser.add_argument("--num-envs", type=int, default=4)
    parser.add_argument("--n-steps", type=int, default=128)
    parser.add_argument("--n-epochs", type=int, default=4)
    parser.add_argument("--num-minibatches", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=30)
    args = parser.parse_args()

    train = load_make_train(args.source)(
        {
            "LR": 2.5e-4,
            "NUM_ENVS": args.num_envs,
            "NUM_STEPS": args.n_steps,
            "TOTAL_TIMESTEPS": args.total_steps,
            "UPDATE_EPOCHS": args.n_epochs,
            "NUM_MINIBATCHES": args.num_minibatches,
            "GAMMA": 0.99,
            "GAE_LAMBDA": 0.95,
            "CLIP_EPS": 0.2,
            "ENT_COEF": 0.01,
            "VF_COEF": 0.5,
            "MAX_GRAD_NORM": 0.5,
            "ACTIVATION": "tanh",
            "ENV_NAME": args.env,
            "ANNEAL_LR": True,
            "DEBUG": False,
        }
    )
    compile_seconds, runs, returns = timed(
        train, args.seed, args.num_seeds, args.repeats, last_returns
    )

    rollout = args.num_envs * args.n_steps
    updates = args.total_steps // args.n_steps // args.num_envs
    steps = args.num_seeds * updates * rollout
    result = {
        "peer": "purejaxrl",
        "version": args.revision,
        "algorithm": "PPO",
        "final_return_mean": returns,
        "minibatch_size": rollout // args.num_minibatches,
        "updates": args.num_seeds * updates * args.n_epochs * args.num_minibatches,
        "hidden": [64, 64],
        "jax": jax.__version__,
        "gymnax": version("gymnax"),
        "distrax": version("distrax"),
        "flax": version("flax"),
        "optax": version("optax"),
        "settings": {k: v for k, v in vars(args).items() if k not in ("source", "revision")},
    }
    result |= speed(steps, compile_seconds, runs)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
