"""Speed of SBX's SAC (Stable-Baselines3 in JAX): environment steps per second.

Environment, outside the repository:

    python3 -m venv peers-sb
    peers-sb/bin/pip install torch        # a CPU build is enough; before the rest
    peers-sb/bin/pip install sbx-rl stable-baselines3 "gymnasium[mujoco,classic-control]"
    peers-sb/bin/python sbx_sac.py --steps 5000

The clock starts once ``learning_starts + warmup`` steps are done, so that the updates are compiled
and run, and stops after the last update of the timed steps; both marks wait for the device. The
last line printed is one JSON object.
"""

import argparse
import json
import time
from importlib.metadata import version

import jax
from sbx import SAC
from stable_baselines3.common.callbacks import BaseCallback


class Stopwatch(BaseCallback):
    """Marks time, steps and updates between two rollouts, where no update is under way."""

    def __init__(self, start_at):
        super().__init__()
        self.start_at = start_at
        self.first = self.last = None

    def _mark(self):
        jax.block_until_ready(self.model.policy.actor_state.params)
        updates = self.model.logger.name_to_value.get("train/n_updates", 0)
        return time.perf_counter(), self.model.num_timesteps, updates

    def _on_rollout_start(self):
        if self.first is None and self.model.num_timesteps >= self.start_at:
            self.first = self._mark()

    def _on_step(self):
        return True

    def _on_training_end(self):
        self.last = self._mark()


def main():
    parser = argparse.ArgumentParser(description="speed of SBX's SAC")
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

    model = SAC(
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
    watch = Stopwatch(start_at)
    model.learn(start_at + args.steps, callback=watch, log_interval=None, progress_bar=False)

    seconds = watch.last[0] - watch.first[0]
    steps = watch.last[1] - watch.first[1]
    updates = watch.last[2] - watch.first[2]
    result = {
        "peer": "sbx",
        "version": version("sbx-rl"),
        "algorithm": "SAC",
        "steps": steps,
        "seconds": seconds,
        "steps_per_second": steps / seconds,
        "updates": updates,
        "updates_per_second": updates / seconds,
        "num_envs": 1,
        "jax": jax.__version__,
        "backend": jax.default_backend(),
        "stable_baselines3": version("stable-baselines3"),
        "gymnasium": version("gymnasium"),
        "mujoco": version("mujoco"),
        "settings": vars(args),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
