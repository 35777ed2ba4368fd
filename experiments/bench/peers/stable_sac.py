"""Speed of the SAC of SBX (JAX) or Stable-Baselines3 (PyTorch): environment steps per second.

Environment, outside the repository:

    python3 -m venv peers-sb
    peers-sb/bin/pip install torch        # a CPU build is enough; before the rest
    peers-sb/bin/pip install sbx-rl stable-baselines3 "gymnasium[mujoco,classic-control]"
    peers-sb/bin/python stable_sac.py --peer sbx --steps 5000
    peers-sb/bin/python stable_sac.py --peer sb3 --steps 2000

The clock starts once ``learning_starts + warmup`` steps are done, so that the updates are compiled
and run, and stops after the last update of the timed steps; both marks wait for the device. The
last line printed is one JSON object.
"""

import argparse
import json
from importlib.metadata import version

from stopwatch import Stopwatch


def sbx():
    """SBX's SAC, how to wait for it, and the packages it depends on."""
    import jax
    from sbx import SAC

    wait = lambda model: jax.block_until_ready(model.policy.actor_state.params)
    return SAC, wait, ("sbx-rl", "jax", "stable-baselines3")


def sb3():
    """Stable-Baselines3's SAC, likewise; PyTorch on the CPU is never behind."""
    from stable_baselines3 import SAC

    return SAC, lambda model: None, ("stable-baselines3", "torch")


def main():
    parser = argparse.ArgumentParser(description="speed of a peer's SAC")
    parser.add_argument("--peer", choices=["sbx", "sb3"], default="sbx")
    parser.add_argument("--env", default="HalfCheetah-v5")
    parser.add_argument("--steps", type=int, default=5000, help="timed environment steps")
    parser.add_argument("--warmup", type=int, default=500, help="untimed steps that learn")
    parser.add_argument("--learning-starts", type=int, default=1000)
    parser.add_argument("--train-freq", type=int, default=1)
    parser.add_argument("--gradient-steps", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--buffer-size", type=int, default=1_000_000)
    parser.add_argument("--hidden", type=int, nargs="+", default=[256, 256])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    peer = sbx if args.peer == "sbx" else sb3
    algorithm, wait, versions = peer()

    model = algorithm(
        "MlpPolicy",
        args.env,
        learning_starts=args.learning_starts,
        train_freq=args.train_freq,
        gradient_steps=args.gradient_steps,
        batch_size=args.batch_size,
        buffer_size=args.buffer_size,
        policy_kwargs={"net_arch": args.hidden},
        seed=args.seed,
        verbose=0,
    )
    start_at = args.learning_starts + args.warmup
    watch = Stopwatch(start_at, wait)
    model.learn(start_at + args.steps, callback=watch, log_interval=None, progress_bar=False)

    seconds, steps, updates = watch.between()
    result = {
        "peer": args.peer,
        "algorithm": "SAC",
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
