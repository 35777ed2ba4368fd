"""Speed of RLlib's PPO, IMPALA or APPO: environment steps per second.

Environment, outside the repository:

    python3 -m venv peers-rllib
    peers-rllib/bin/pip install torch==2.13.0     # a CPU build is enough; before the rest
    peers-rllib/bin/pip install "ray[rllib]==2.60.*" "gymnasium[mujoco,classic-control]"
    peers-rllib/bin/python rllib_train.py ppo --env CartPole-v1

Two networks of tanh layers, no normalisation, no KL penalty; APPO learns from every batch once,
without its circular buffer. The rest are RLlib's defaults. Environment runners are actors;
PPO learns in the driver, IMPALA and APPO in an actor of their own. One thread of torch is
several times faster on two cores than two, which wait for each other beside the runners.

The clock starts once `--warmup` batches were sampled and learned from, and runs over whole
iterations. Steps are those that were sampled: where the learner falls behind, not all of them are
learned from. The last line printed is one JSON object.
"""

import argparse
import json
import os
import time
import warnings
from importlib.metadata import version

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_DISABLE_IMPORT_WARNING"] = "1"

import ray
import torch
from ray.rllib.algorithms.appo import APPOConfig
from ray.rllib.algorithms.impala import IMPALAConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

SAMPLED = "num_env_steps_sampled_lifetime"
CONFIGS = {"ppo": PPOConfig, "impala": IMPALAConfig, "appo": APPOConfig}


def make_config(args):
    """The algorithm with our settings."""
    batch = args.num_envs * args.length
    training = {"train_batch_size_per_learner": batch, "lr": args.learning_rate}
    if args.algorithm == "ppo":
        training |= {
            "minibatch_size": batch // args.minibatches,
            "num_epochs": args.epochs,
            "lambda_": args.gae_lambda,
            "use_kl_loss": False,
        }
    if args.algorithm == "appo":
        training["use_circular_buffer"] = False
    model = DefaultModelConfig(
        fcnet_hiddens=args.hidden, fcnet_activation="tanh", vf_share_layers=False
    )
    config = (
        CONFIGS[args.algorithm]()
        .environment(args.env)
        .env_runners(
            num_env_runners=args.runners,
            num_envs_per_env_runner=args.num_envs // args.runners,
            rollout_fragment_length=args.length,
        )
        .training(**training)
        .rl_module(model_config=model)
        # an iteration of IMPALA is a time, not a batch
        .reporting(min_time_s_per_iteration=0 if args.algorithm == "ppo" else 1)
        .debugging(seed=args.seed, log_level="ERROR")
    )
    # RLlib's own choice: PPO's learner in the driver, the others' in an actor
    return config.learners(num_gpus_per_learner=0)


def learned(result):
    """Environment steps that were learned from, as often as they were."""
    learners = result.get("learners", {}).get("__all_modules__", {})
    return learners.get("num_env_steps_trained_lifetime", 0)


def main():
    parser = argparse.ArgumentParser(description="speed of RLlib")
    parser.add_argument("algorithm", choices=CONFIGS)
    parser.add_argument("--env", default="CartPole-v1")
    parser.add_argument("--runners", type=int, default=2)
    parser.add_argument("--num-envs", type=int, default=8, help="of all runners together")
    parser.add_argument("--length", type=int, default=128, help="steps of each in a batch")
    parser.add_argument("--minibatches", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--gae-lambda", type=float, default=0.95)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 64])
    parser.add_argument("--warmup", type=int, default=3, help="untimed batches")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--threads", type=int, default=1, help="of torch in the driver")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    warnings.simplefilter("ignore")
    torch.set_num_threads(args.threads)
    ray.init("local", num_cpus=args.runners + 2, include_dashboard=False, log_to_driver=False)
    algorithm = make_config(args).build_algo()
    enough, result = args.warmup * args.num_envs * args.length, {}
    while min(result.get(SAMPLED, 0), learned(result)) < enough:
        result = algorithm.train()
    before, trained, start = result[SAMPLED], learned(result), time.perf_counter()
    while (seconds := time.perf_counter() - start) < args.seconds:
        result = algorithm.train()
    steps = result[SAMPLED] - before
    summary = {"peer": "rllib", "versions": {p: version(p) for p in ("ray", "torch", "gymnasium")}}
    rate = {"steps": steps, "seconds": seconds, "steps_per_second": steps / seconds}
    rate["learned_per_second"] = (learned(result) - trained) / seconds  # every pass counts
    reached = result["env_runners"].get("episode_return_mean")
    algorithm.stop()
    ray.shutdown()
    print(json.dumps(summary | vars(args) | rate | {"return_mean": reached}))


if __name__ == "__main__":
    main()
