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
import importlib.util
import json
import statistics
import sys
import time
import types
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np


def stand_in(*paths):
    """Put modules with the given ``module:name,...`` in place of a package not installed."""
    if importlib.util.find_spec(paths[0].partition(":")[0]) is not None:
        return
    for path in paths:
        name, _, members = path.partition(":")
        module = sys.modules[name] = types.ModuleType(name)
        module.__path__ = []
        for member in filter(None, members.split(",")):
            setattr(module, member, None)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)


def load_make_train(source):
    """Return ``make_train`` of PureJaxRL's ``ppo.py`` in a checkout."""
    folder = next(f for f in (source / "purejaxrl", source) if (f / "ppo.py").is_file())
    stand_in(
        "brax",
        "brax.envs",
        "brax.envs.wrappers",
        "brax.envs.wrappers.training:EpisodeWrapper,AutoResetWrapper",
    )
    stand_in("navix")
    sys.path.insert(0, str(folder))
    return importlib.import_module("ppo").make_train


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
    keys = []
    for key in jax.random.split(jax.random.PRNGKey(args.seed), args.repeats):
        keys.append(key if args.num_seeds == 1 else jax.random.split(key, args.num_seeds))
    if args.num_seeds > 1:
        train = jax.vmap(train)

    began = time.perf_counter()
    compiled = jax.jit(train).lower(keys[0]).compile()
    compile_seconds = time.perf_counter() - began

    runs, returns = [], []
    for key in keys:
        jax.block_until_ready(key)
        began = time.perf_counter()
        out = jax.block_until_ready(compiled(key))
        runs.append(time.perf_counter() - began)
        # the return of the last finished episode, at the last step of each environment
        last = np.asarray(out["metrics"]["returned_episode_returns"])[..., -1, -1, :]
        returns.append(float(last.mean()))
        del out

    rollout = args.num_envs * args.n_steps
    updates = args.total_steps // args.n_steps // args.num_envs
    steps = args.num_seeds * updates * rollout
    seconds = statistics.median(runs)
    result = {
        "peer": "purejaxrl",
        "version": args.revision,
        "algorithm": "PPO",
        "steps": steps,
        "seconds": seconds,
        "steps_per_second": steps / seconds,
        "runs_seconds": runs,
        "compile_seconds": compile_seconds,
        "final_return_mean": returns,
        "minibatch_size": rollout // args.num_minibatches,
        "updates": args.num_seeds * updates * args.n_epochs * args.num_minibatches,
        "hidden": [64, 64],
        "jax": jax.__version__,
        "backend": jax.default_backend(),
        "gymnax": version("gymnax"),
        "distrax": version("distrax"),
        "flax": version("flax"),
        "optax": version("optax"),
        "settings": {k: v for k, v in vars(args).items() if k not in ("source", "revision")},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
