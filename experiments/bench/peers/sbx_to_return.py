"""How SBX learns over time: greedy evaluations of one run with the settings of its zoo.

    peers-sb/bin/python sbx_to_return.py --algorithm sac --env HalfCheetah-v5 --target 5000

The environment is that of stable_off_policy.py. Settings are RL Baselines3 Zoo's for MuJoCo; DroQ,
which the zoo has not, is as SBX' documentation has it. Prints one JSON object for each evaluation,
with the seconds that training took until then: the clock stops while episodes are played. The run
ends when one reaches the target.
"""

import argparse
import json
import time

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_off_policy import DROQ, sbx

WIDE = {"pi": [256, 256], "qf": [2048, 2048]}
ZOO = {
    "sac": {"learning_starts": 10_000},
    "tqc": {"learning_starts": 10_000},
    "crossq": {
        "learning_starts": 5_000,
        "learning_rate": 1e-3,
        "policy_delay": 3,
        "policy_kwargs": {"net_arch": WIDE},
    },
    "droq": {
        "learning_starts": 10_000,
        "gradient_steps": 20,
        "policy_delay": 20,
        "policy_kwargs": DROQ,
    },
}
ZOO_OF_ENVS = {("tqc", "Hopper"): {"top_quantiles_to_drop_per_net": 5}}


class Evaluations(BaseCallback):
    """Greedy episodes every so many steps, until they reach the target on average."""

    def __init__(self, env, every, episodes, target, start):
        super().__init__()
        self.env, self.every, self.episodes, self.target = env, every, episodes, target
        self.start = start

    def _on_step(self):
        if self.num_timesteps % self.every:
            return True
        began = time.perf_counter()
        mean, _ = evaluate_policy(self.model, self.env, self.episodes)
        row = {"env_steps": self.num_timesteps, "seconds": began - self.start, "return_mean": mean}
        print(json.dumps({name: float(x) for name, x in row.items()}), flush=True)
        self.start += time.perf_counter() - began
        return mean < self.target


def main():
    parser = argparse.ArgumentParser(description="learning curve of SBX over time")
    parser.add_argument("--algorithm", choices=ZOO, default="sac")
    parser.add_argument("--env", default="HalfCheetah-v5")
    parser.add_argument("--target", type=float, default=float("inf"))
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--eval-every", type=int, default=5_000)
    parser.add_argument("--eval-episodes", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    start = time.perf_counter()
    algorithm, _, _ = sbx(args.algorithm)
    settings = ZOO[args.algorithm] | ZOO_OF_ENVS.get(
        (args.algorithm, args.env.partition("-")[0]), {}
    )
    model = algorithm("MlpPolicy", args.env, seed=args.seed, verbose=0, **settings)
    env = make_vec_env(args.env, 1, seed=args.seed + 1000)
    watch = Evaluations(env, args.eval_every, args.eval_episodes, args.target, start)
    model.learn(args.steps, callback=watch, log_interval=None, progress_bar=False)


if __name__ == "__main__":
    main()
