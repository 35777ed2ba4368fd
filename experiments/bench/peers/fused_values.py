"""Speed of value-based peers that train in one program: environment steps per second.

PureJaxRL's DQN (luchris429/purejaxrl) and the PQN of its authors (mttga/purejaxql) are no packages:
check the repository out outside this one, and name that folder with ``--source``. Environment:

    python3 -m venv peers-values
    peers-values/bin/pip install jax flax optax gymnax==0.0.9 flashbax chex
    peers-values/bin/python fused_values.py dqn --source purejaxrl

gymnax 1.x returns six values from ``step`` where both expect five. Both import loggers that this
benchmark does not use; empty modules stand in for them. PQN's tests during training are left out.

Training is compiled ahead of time, then run ``--repeats`` times with different keys; ``seconds`` is
the median. The last line printed is one JSON object.
"""

import argparse
import importlib
import json
import sys
from pathlib import Path

import jax
import numpy as np
from programs import installed, speed, stand_in, timed

SETTINGS = {
    "dqn": {
        "NUM_ENVS": 10,
        "BUFFER_SIZE": 10_000,
        "BUFFER_BATCH_SIZE": 128,
        "EPSILON_START": 1.0,
        "EPSILON_FINISH": 0.05,
        "EPSILON_ANNEAL_TIME": 250_000,
        "TARGET_UPDATE_INTERVAL": 500,
        "LR": 2.5e-4,
        "LEARNING_STARTS": 10_000,
        "TRAINING_INTERVAL": 10,
        "GAMMA": 0.99,
        "TAU": 1.0,
    },
    "pqn": {
        "NUM_ENVS": 32,
        "NUM_STEPS": 64,
        "EPS_START": 1.0,
        "EPS_FINISH": 0.2,
        "EPS_DECAY": 0.2,
        "NUM_MINIBATCHES": 16,
        "NUM_EPOCHS": 4,
        "HIDDEN_SIZE": 256,
        "NUM_LAYERS": 2,
        "NORM_TYPE": "layer_norm",
        "LR": 1e-4,
        "MAX_GRAD_NORM": 10,
        "LR_LINEAR_DECAY": True,
        "REW_SCALE": 0.1,
        "GAMMA": 0.99,
        "LAMBDA": 0.95,
    },
    "pqn_minatar": {
        "NUM_ENVS": 128,
        "NUM_STEPS": 32,
        "EPS_START": 1.0,
        "EPS_FINISH": 0.05,
        "EPS_DECAY": 0.1,
        "NUM_MINIBATCHES": 32,
        "NUM_EPOCHS": 2,
        "NORM_TYPE": "layer_norm",
        "LR": 5e-4,
        "MAX_GRAD_NORM": 10,
        "LR_LINEAR_DECAY": True,
        "GAMMA": 0.99,
        "LAMBDA": 0.65,
    },
}
MODULES = {"dqn": "dqn", "pqn": "pqn_gymnax", "pqn_minatar": "pqn_minatar"}


def load_make_train(source, module):
    """``make_train`` of a module in a checkout."""
    jax.tree_map = jax.tree.map  # its name in the jax of that time
    same = lambda function: function
    if not installed("wandb"):
        stand_in("wandb")
    if not installed("hydra"):
        stand_in("hydra", main=lambda **_: same)
    if not installed("omegaconf"):
        stand_in("omegaconf", OmegaConf=None)
    if not installed("safetensors"):
        stand_in("safetensors")
        stand_in("safetensors.flax", load_file=None, save_file=None)
    folders = (source / "purejaxrl", source / "purejaxql", source)
    sys.path.insert(0, str(next(f for f in folders if (f / f"{module}.py").is_file())))
    return importlib.import_module(module).make_train


def last_returns(out):
    """Mean return of the last finished episodes."""
    metrics = out["metrics"]
    name = "returns" if "returns" in metrics else "returned_episode_returns"
    return float(np.asarray(metrics[name])[..., -1].mean())


def main():
    parser = argparse.ArgumentParser(description="speed of fused DQN and PQN")
    parser.add_argument("algorithm", choices=("dqn", "pqn"))
    parser.add_argument("--source", type=Path, required=True, help="checkout of the peer")
    parser.add_argument("--env", default="CartPole-v1", help="a gymnax environment")
    parser.add_argument("--num-seeds", type=int, default=1, help="vmapped when more than one")
    parser.add_argument("--total-steps", type=int, default=500_000, help="of each seed")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=30)
    args = parser.parse_args()

    run = {"ENV_NAME": args.env, "TOTAL_TIMESTEPS": args.total_steps, "WANDB_MODE": "disabled"}
    run["TOTAL_TIMESTEPS_DECAY"] = args.total_steps
    images = args.algorithm == "pqn" and args.env.endswith("-MinAtar")
    name = "pqn_minatar" if images else args.algorithm
    train = load_make_train(args.source, MODULES[name])(SETTINGS[name] | run)
    compile_seconds, runs, returns = timed(
        train, args.seed, args.num_seeds, args.repeats, last_returns
    )
    result = {
        "peer": args.source.name,
        "algorithm": args.algorithm,
        "final_return_mean": returns,
        "jax": jax.__version__,
    }
    result |= speed(args.num_seeds * args.total_steps, compile_seconds, runs)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
