"""Speed of SBX's PPO (Stable-Baselines3 in JAX): environment steps per second.

Environment, outside the repository:

    python3 -m venv peers-sb
    peers-sb/bin/pip install torch        # a CPU build is enough; before the rest
    peers-sb/bin/pip install sbx-rl stable-baselines3 "gymnasium[mujoco,classic-control]"
    peers-sb/bin/python sbx_ppo.py --env CartPole-v1
    peers-sb/bin/python sbx_ppo.py --env HalfCheetah-v5

The clock starts after a few whole rollouts with their updates, so that all is compiled, and stops
after the last update of the timed rollouts; both marks wait for the device. ``--steps`` is rounded
up to whole rollouts. The last line printed is one JSON object.
"""

import argparse
import json
from importlib.metadata import version

import flax.linen as nn
import jax
from sbx import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv
from stopwatch import Stopwatch

DEFAULTS = {
    "CartPole-v1": {
        "n_steps": 32,
        "batch_size": 256,
        "n_epochs": 20,
        "gae_lambda": 0.8,
        "gamma": 0.98,
    },
    "HalfCheetah-v5": {
        "n_steps": 256,
        "batch_size": 64,
        "n_epochs": 10,
        "gae_lambda": 0.95,
        "gamma": 0.99,
    },
}


def wait(model):
    """Returns when the networks are there."""
    policy = model.policy
    jax.block_until_ready((policy.actor_state.params, policy.vf_state.params))


def main():
    parser = argparse.ArgumentParser(
        description="speed of SBX's PPO", epilog=f"defaults by environment: {DEFAULTS}"
    )
    parser.add_argument("--env", default="CartPole-v1", choices=list(DEFAULTS))
    parser.add_argument("--num-envs", type=int, default=8)
    parser.add_argument("--n-steps", type=int, help="steps of each environment in a rollout")
    parser.add_argument("--batch-size", type=int, help="size of a minibatch")
    parser.add_argument("--n-epochs", type=int)
    parser.add_argument("--gae-lambda", type=float)
    parser.add_argument("--gamma", type=float)
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 64])
    parser.add_argument("--steps", type=int, default=40_960, help="timed environment steps")
    parser.add_argument("--warmup-rollouts", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for name, value in DEFAULTS[args.env].items():
        if getattr(args, name) is None:
            setattr(args, name, value)

    env = make_vec_env(args.env, args.num_envs, seed=args.seed, vec_env_cls=DummyVecEnv)
    model = PPO(
        "MlpPolicy",
        env,
        n_steps=args.n_steps,
        batch_size=args.batch_size,
        n_epochs=args.n_epochs,
        gae_lambda=args.gae_lambda,
        gamma=args.gamma,
        policy_kwargs={"net_arch": args.hidden, "activation_fn": nn.tanh},
        seed=args.seed,
        device="cpu",
        verbose=0,
    )
    rollout = args.num_envs * args.n_steps
    start_at = args.warmup_rollouts * rollout
    total = start_at + -(-args.steps // rollout) * rollout
    watch = Stopwatch(start_at, wait)
    model.learn(total, callback=watch, log_interval=None, progress_bar=False)

    seconds, steps, epochs = watch.between()
    updates = epochs * -(-rollout // args.batch_size)
    result = {
        "peer": "sbx",
        "version": version("sbx-rl"),
        "algorithm": "PPO",
        "steps": steps,
        "seconds": seconds,
        "steps_per_second": steps / seconds,
        "updates": updates,
        "updates_per_second": updates / seconds,
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
