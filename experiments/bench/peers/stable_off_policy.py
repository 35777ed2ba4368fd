"""Speed of an off-policy algorithm of SBX (JAX) or Stable-Baselines3 (PyTorch): steps per second.

Environment, outside the repository:

    python3 -m venv peers-sb
    peers-sb/bin/pip install torch        # a CPU build is enough; before the rest
    peers-sb/bin/pip install sbx-rl stable-baselines3 "gymnasium[mujoco,classic-control]"
    peers-sb/bin/python stable_off_policy.py --peer sbx --steps 5000
    peers-sb/bin/python stable_off_policy.py --peer sbx --algorithm tqc
    peers-sb/bin/python stable_off_policy.py --peer sb3 --steps 2000

DroQ is SBX's SAC with dropout and layer normalisation, as its documentation has it. The clock
starts once ``learning_starts + warmup`` steps are done, so that the updates are compiled and run,
and stops after the last update of the timed steps; both marks wait for the device. The last line
printed is one JSON object.
"""

import argparse
import json
from importlib.metadata import version

from stopwatch import Stopwatch

CLASSES = {"sac": "SAC", "droq": "SAC", "td3": "TD3", "tqc": "TQC", "crossq": "CrossQ"}
DROQ = {"dropout_rate": 0.01, "layer_norm": True}


def sbx(algorithm):
    """An algorithm of SBX, how to wait for it, and the packages it depends on."""
    import jax
    import sbx as library

    def wait(model):
        states = [x for name, x in vars(model.policy).items() if name.endswith("_state")]
        jax.block_until_ready(states)

    return getattr(library, CLASSES[algorithm]), wait, ("sbx-rl", "jax", "stable-baselines3")


def sb3(algorithm):
    """One of Stable-Baselines3, likewise; PyTorch on the CPU is never behind."""
    import stable_baselines3 as library

    made = getattr(library, CLASSES[algorithm])
    return made, lambda model: None, ("stable-baselines3", "torch")


def main():
    parser = argparse.ArgumentParser(description="speed of a peer")
    parser.add_argument("--peer", choices=["sbx", "sb3"], default="sbx")
    parser.add_argument("--algorithm", choices=CLASSES, default="sac")
    parser.add_argument("--env", default="HalfCheetah-v5")
    parser.add_argument("--steps", type=int, default=5000, help="timed environment steps")
    parser.add_argument("--warmup", type=int, default=500, help="untimed steps that learn")
    parser.add_argument("--learning-starts", type=int, default=1000)
    parser.add_argument("--train-freq", type=int, default=1)
    parser.add_argument("--gradient-steps", type=int, default=1)
    parser.add_argument("--policy-delay", type=int, help="updates of the critics for the policy's")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--buffer-size", type=int, default=1_000_000)
    parser.add_argument("--hidden", type=int, nargs="+", default=[256, 256])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    peer = sbx if args.peer == "sbx" else sb3
    algorithm, wait, versions = peer(args.algorithm)
    delay = {} if args.policy_delay is None else {"policy_delay": args.policy_delay}

    model = algorithm(
        "MlpPolicy",
        args.env,
        learning_starts=args.learning_starts,
        train_freq=args.train_freq,
        gradient_steps=args.gradient_steps,
        batch_size=args.batch_size,
        buffer_size=args.buffer_size,
        policy_kwargs={"net_arch": args.hidden} | (DROQ if args.algorithm == "droq" else {}),
        seed=args.seed,
        verbose=0,
        **delay,
    )
    start_at = args.learning_starts + args.warmup
    watch = Stopwatch(start_at, wait)
    model.learn(start_at + args.steps, callback=watch, log_interval=None, progress_bar=False)

    seconds, steps, updates = watch.between()
    result = {
        "peer": args.peer,
        "algorithm": args.algorithm,
        "steps": steps,
        "seconds": seconds,
        "steps_per_second": steps / seconds,
        "updates": updates,
        "updates_per_second": updates / seconds,
        "num_envs": 1,
        "versions": {name: version(name) for name in (*versions, "gymnasium", "mujoco")},
        "settings": vars(args),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
