"""Fused DQN and PQN beside PureJaxRL's DQN and the PQN of its authors, pair by pair.

    python experiments/bench/values.py --peers PYTHON --purejaxrl DIR --purejaxql DIR

On CartPole and, where gymnax is installed, on MinAtar's Breakout (`--only Breakout`). PYTHON is the
interpreter of a throw-away environment, see peers/fused_values.py; the DIRs are checkouts.
Networks, batches, environments and updates per step are the peers': PureJaxRL's DQN has a network
of vectors on Breakout, too, and PQN the one of convolutions, which is the recipe's.
"""

import argparse

from compare import HERE, OURS, Pairs, run

DQN = {
    "num_envs": 10,
    "hidden": [120, 84],
    "batch_size": 128,
    "target_period": 50,
    "tau": 1.0,
    "epsilon_steps": 250_000,
    "learning_rate": 2.5e-4,
    "normalize_obs": False,
    "double": False,
    "anneal": False,
}
PQN = {
    "num_envs": 32,
    "length": 64,
    "epochs": 4,
    "minibatches": 16,
    "hidden": [256, 256],
    "learning_rate": 1e-4,
    "lambda_": 0.95,
}


BREAKOUT = {"num_envs": 128, "length": 32, "epochs": 2, "minibatches": 32}

# (algorithm, our environment, the peer's, settings)
CASES = (
    ("dqn", "jax:CartPole-v1", "CartPole-v1", DQN),
    ("pqn", "jax:CartPole-v1", "CartPole-v1", PQN),
    ("dqn", "flat:FlatBreakout", "Breakout-MinAtar", DQN),
    ("pqn", "gymnax:Breakout-MinAtar", "Breakout-MinAtar", BREAKOUT),
)


def pairs(arguments: argparse.Namespace) -> Pairs:
    """What is measured, by name."""
    sources = {"dqn": arguments.purejaxrl, "pqn": arguments.purejaxql}
    steps, found = str(arguments.steps), {}
    for name, env, peers_env, settings in CASES:
        ours = [*OURS, name, "--env", env, "--steps", steps]
        ours += ["--length", "1", "--updates", "1", "--capacity", "10000"]
        for key, value in settings.items():
            ours += ["--set", f"{key}={value}"]
        peer = [arguments.peers, str(HERE / "peers" / "fused_values.py"), name, "--env", peers_env]
        peer += ["--source", sources[name], "--total-steps", steps, "--repeats", "2"]
        found[f"fused {name} {peers_env} : peer"] = (ours, peer, 1.3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", required=True)
    parser.add_argument("--purejaxrl", default=".")
    parser.add_argument("--purejaxql", default=".")
    parser.add_argument("--steps", type=int, default=500_000)
    run(parser, pairs)


if __name__ == "__main__":
    main()
