"""Microseconds of `agent.predict` and of a step of the README's loop, beside another checkout.

    git worktree add /tmp/before 1a7b62f
    python experiments/bench/face.py --against /tmp/before

Rounds alternate between the two, each in a process of its own; the least of each is told. The
environment is left out: its steps cost the same in both.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parents[2]


def least(call: Callable[[], object], calls: int, rounds: int = 5) -> float:
    """Microseconds of a call, the least of some rounds."""
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        found.append((time.perf_counter() - start) / calls * 1e6)
    return min(found)


def measure() -> dict[str, float]:
    """The face of the parl that is found first."""
    import flax.linen as nn
    import jax
    import numpy as np

    import parl
    from parl.algorithms.dqn import DQN

    class Network(nn.Module):
        @nn.compact
        def __call__(self, obs):
            x = nn.tanh(nn.Dense(128)(obs))
            return nn.Dense(2)(nn.tanh(nn.Dense(128)(x)))

    spec = parl.EnvSpec("CartPole-v1", parl.Box((4,)), parl.Discrete(2))
    algorithm = DQN(q=Network(), learning_rate=5e-4, target_period=200, epsilon_steps=5_000)
    learner = parl.OffPolicy(algorithm, parl.Replay(20_000), batch_size=64, updates=1, warmup=500)
    agent = parl.Agent(learner, spec, seed=0)
    obs = np.array([0.01, -0.02, 0.03, 0.04], np.float32)
    step = parl.transition(obs, 1, 1.0, obs, False, False)
    for _ in range(600):
        agent.sample(obs)
        agent.learn(step)
    agent.predict(obs)

    def loop() -> None:
        agent.sample(obs)
        agent.learn(parl.transition(obs, 1, 1.0, obs, False, False))

    found = {
        "predict": least(lambda: agent.predict(obs), 2_000),
        "sample": least(lambda: agent.sample(obs), 1_000),
        "learn": least(lambda: agent.learn(step), 500),
        "loop": least(loop, 500),
    }
    jax.block_until_ready(agent.weights)
    return found


def measured(tree: Path) -> dict[str, float]:
    """What a process finds whose parl is that of a checkout."""
    environment = os.environ | {"PYTHONPATH": str(tree), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, __file__, "--measure"]
    done = subprocess.run(command, env=environment, cwd=tree, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", action="store_true", help="this process, as JSON")
    flags = parser.parse_args()
    if flags.measure:
        print(json.dumps(measure()))
        return
    trees = [HERE] if flags.against is None else [HERE, flags.against.resolve()]
    found = [[measured(tree) for tree in trees] for _ in range(flags.rounds)]
    for name in found[0][0]:
        best = [min(part[i][name] for part in found) for i in range(len(trees))]
        ratio = f", before {best[1]:.0f} us, {best[1] / best[0]:.2f} times" if best[1:] else ""
        print(f"{name}: {best[0]:.0f} us{ratio}")


if __name__ == "__main__":
    main()
