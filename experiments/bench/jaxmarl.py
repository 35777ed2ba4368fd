"""Speed of the multi-agent algorithms beside JaxMARL's baselines, and of mpe2 through Ray.

    python experiments/bench/jaxmarl.py --jaxmarl PYTHON --source DIR [--only qmix] [--repeats 3]

PYTHON is the interpreter of a throw-away environment, DIR a checkout of JaxMARL
(peers/jaxmarl_train.py says how to make both). A B A B ..., the ratio pair by pair; steps are those
of environments, not of agents, and those of vmapped seeds are counted together. Compilation is not
part of any time. Each side has its own simple_spread in JAX, of three agents and 25 steps.

IPPO has the settings of JaxMARL's file on both sides: 16 environments x 128 steps, 4 epochs of 4
minibatches, separate actor and critic of 64x64 tanh units. JaxMARL hands its metrics to the host
after each update, ours once; ours evaluates the critic at what followed the last step of an episode
too, JaxMARL's only at what follows the rollout.

QMIX has a GRU of 64 behind a layer of 64, as JaxMARL's file has it: 8 environments x 26 steps, then
one update with 32 stored rollouts. JaxMARL's learning starts at once and is not interrupted by
tests, and its hypernetworks have 64 hidden units as ours rather than 128. What differs: its
optimiser is RAdam, ours Adam; the network behind its mixer's last bias has 32 hidden units, ours
64; ours evaluates what followed the last step of an episode with the memory of that episode, where
JaxMARL's takes the values of the next one; it starts every rollout from a reset, ours where the
last one ended.
Its buffer gives nothing for the first 31 of about 2,000 rollouts, which flatters it by that much.

Ray: rollouts of numpy's mpe2 by two Ray actors that act with IPPO's policy, which nobody learns
from (see actors.py). They stand beside the same collectors in two pinned processes of nothing else
- what Ray costs - and beside mpe2 alone in these, stepped with random actions without any policy or
adapter, which is the strictest reading of a raw rate and holds our acting and recording too.
"""

import argparse
import json
import sys
from typing import Any

from compare import HERE, OURS, Pair, Pairs, run

JAXMARL_NAMES = {  # of settings that both sides have
    "num_envs": "NUM_ENVS",
    "length": "NUM_STEPS",
    "epochs": "UPDATE_EPOCHS",
    "minibatches": "NUM_MINIBATCHES",
    "learning_rate": "LR",
    "gamma": "GAMMA",
    "lambda_": "GAE_LAMBDA",
    "clip": "CLIP_EPS",
    "entropy_cost": "ENT_COEF",
    "value_cost": "VF_COEF",
    "max_grad_norm": "MAX_GRAD_NORM",
    "updates": "NUM_EPOCHS",
    "batch_size": "BUFFER_BATCH_SIZE",
    "capacity": "BUFFER_SIZE",
    "memory_size": "HIDDEN_SIZE",
    "target_period": "TARGET_UPDATE_INTERVAL",
}
SAME: dict[str, dict[str, Any]] = {
    "ippo": {
        "num_envs": 16,
        "length": 128,
        "epochs": 4,
        "minibatches": 4,
        "learning_rate": 2.5e-4,
        "gamma": 0.99,
        "lambda_": 0.95,
        "clip": 0.2,
        "entropy_cost": 0.01,
        "value_cost": 0.5,
        "max_grad_norm": 0.5,
    },
    "qmix": {
        "num_envs": 8,
        "length": 26,
        "updates": 1,
        "batch_size": 32,
        "capacity": 5000,
        "memory_size": 64,
        "learning_rate": 0.005,
        "gamma": 0.9,
        "max_grad_norm": 25,
        "target_period": 200,
    },
}
OURS_ONLY: dict[str, dict[str, Any]] = {  # what JaxMARL has written into its code
    "ippo": {"hidden": [64, 64], "clip_value": True, "normalize_value": False, "huber_delta": None},
    "qmix": {"hidden": [64], "recurrent": "gru", "normalize_reward": False, "warmup": 1000},
}
JAXMARLS_ONLY: dict[str, dict[str, Any]] = {
    "ippo": {},
    "qmix": {
        "MIXER_HYPERNET_HIDDEN_DIM": 64,
        "MIXER_EMBEDDING_DIM": 32,
        "LEARNING_STARTS": 0,
        "TEST_DURING_TRAINING": False,
    },
}


def flags(settings: dict[str, Any]) -> list[str]:
    """Settings as --set has them."""
    pairs = (("--set", f"{name}={json.dumps(value)}") for name, value in settings.items())
    return [word for pair in pairs for word in pair]


def beside(arguments: argparse.Namespace, name: str, steps: int, num_seeds: int = 1) -> Pair:
    """An algorithm on both sides, with as many steps of each seed."""
    same, steps = SAME[name], max(int(steps * arguments.scale), 1)
    theirs = {JAXMARL_NAMES[setting]: value for setting, value in same.items()}
    size = ["--steps", str(steps), "--num-seeds", str(num_seeds)]
    peer = [arguments.jaxmarl, str(HERE / "peers" / "jaxmarl_train.py"), name]
    return (
        [*OURS, name, "--env", "jax:simple_spread", *size, *flags(same | OURS_ONLY[name])],
        [*peer, "--source", arguments.source, *size, *flags(theirs | JAXMARLS_ONLY[name])],
        1.3,
    )


def pairs(arguments: argparse.Namespace) -> Pairs:
    """What is measured, by name."""
    through = [sys.executable, str(HERE / "actors.py"), "--seconds", str(arguments.seconds)]
    return {
        "ippo, 1 seed : JaxMARL": beside(arguments, "ippo", 500_000),
        "ippo, 8 vmapped seeds : JaxMARL": beside(arguments, "ippo", 200_000, num_seeds=8),
        "qmix with GRU : JaxMARL": beside(arguments, "qmix", 416_000),
        "mpe2, 2 Ray actors : bare processes": ([*through, "ray"], [*through, "bare"], 0.9),
        "mpe2, 2 Ray actors : mpe2 alone": ([*through, "ray"], [*through, "raw"], 0.9),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jaxmarl", default="python", help="interpreter that runs JaxMARL")
    parser.add_argument("--source", default=".", help="checkout of JaxMARL")
    parser.add_argument("--scale", type=float, default=1.0, help="of the steps of a measurement")
    parser.add_argument("--seconds", type=float, default=10.0, help="of mpe2's measurements")
    run(parser, pairs)


if __name__ == "__main__":
    main()
