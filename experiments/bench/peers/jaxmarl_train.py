"""Speed of JaxMARL's baselines on its MPE: environment steps per second over all seeds.

The baselines are no part of JaxMARL's package: check its public GitHub repository (FLAIROx/JaxMARL)
out somewhere outside this one, and name that folder with ``--source``; the package is taken from
there too. Environment, outside the repository, with the versions of jax, flax and optax that ours
has:

    python3 -m venv peers-jaxmarl
    peers-jaxmarl/bin/pip install jax flax optax distrax flashbax gymnax safetensors jaxtyping
    peers-jaxmarl/bin/python jaxmarl_train.py ippo --source JaxMARL --num-seeds 8
    peers-jaxmarl/bin/python jaxmarl_train.py qmix --source JaxMARL --set NUM_ENVS=8

Settings are those of the baseline's own YAML file but for those that ``--set`` changes. Modules
that do nothing stand in for wandb, and for hydra and omegaconf, which only its command line needs.

Training is compiled ahead of time (``compile_seconds``), then run ``--repeats`` times with
different keys; ``seconds`` is the median. The last line printed is one JSON object.
"""

import argparse
import importlib
import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import yaml
from programs import speed, stand_in, timed

BASELINES = {  # folder, module, settings
    "ippo": ("IPPO", "ippo_ff_mpe", "config/ippo_ff_mpe.yaml"),
    "qmix": ("QLearning", "qmix_rnn", "config/alg/ql_rnn_mpe.yaml"),
}


def nothing(*args, **kwargs):
    """What logging comes to here."""


def load(source, algorithm):
    """(module, settings) of a baseline in a checkout."""
    stand_in("wandb", log=nothing)
    stand_in("hydra", main=lambda **settings: lambda main: main)
    stand_in("omegaconf", OmegaConf=None)
    folder, module, settings = BASELINES[algorithm]
    folder = source / "baselines" / folder
    sys.path[:0] = [str(source), str(folder)]
    return importlib.import_module(module), yaml.safe_load((folder / settings).read_text())


def make_train(algorithm, module, settings):
    """Training as a function of a key."""
    if algorithm == "ippo":
        return module.make_train(settings)
    env, _ = module.env_from_config(settings)
    return module.make_train(settings, env)


def learned(out):
    """Steps of the optimiser that one run made, over all seeds; 0 where nobody counted."""
    return int(np.sum(getattr(out["runner_state"][0], "grad_steps", 0)))


def main():
    parser = argparse.ArgumentParser(description="speed of JaxMARL's baselines")
    parser.add_argument("algorithm", choices=BASELINES)
    parser.add_argument("--source", type=Path, required=True, help="checkout of JaxMARL")
    parser.add_argument("--revision", default="unknown", help="its commit, for the record")
    parser.add_argument("--num-seeds", type=int, default=1, help="vmapped when more than one")
    parser.add_argument("--steps", type=int, default=500_000, help="of each seed")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--seed", type=int, default=30)
    args = parser.parse_args()

    module, settings = load(args.source, args.algorithm)
    for text in args.set:
        name, _, value = text.partition("=")
        if name not in settings:
            parser.error(f"{args.algorithm} has no setting {name}; it has {', '.join(settings)}")
        settings[name] = yaml.safe_load(value)
    settings |= {"TOTAL_TIMESTEPS": args.steps, "WANDB_MODE": "disabled"}
    train = make_train(args.algorithm, module, settings)
    compile_seconds, runs, updates = timed(train, args.seed, args.num_seeds, args.repeats, learned)

    rollout = settings["NUM_ENVS"] * settings["NUM_STEPS"]
    result = {
        "peer": "jaxmarl",
        "version": args.revision,
        "algorithm": args.algorithm,
        "settings": settings,
    }
    steps = args.num_seeds * (args.steps // rollout) * rollout
    result |= speed(steps, compile_seconds, runs)
    result |= {name: version(name) for name in ("jax", "flax", "optax", "distrax", "flashbax")}
    if updates[0]:
        result["updates_per_second"] = updates[0] / result["seconds"]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
