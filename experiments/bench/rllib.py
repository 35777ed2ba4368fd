"""Speed beside RLlib: the same work in turn, A B A B ..., and the ratio pair by pair.

    python experiments/bench/rllib.py --rllib PYTHON [--only NAME] [--seconds 20] [--repeats 3]

PYTHON is the interpreter of a throw-away environment (see peers/rllib_train.py for how to make it).
Both sides have two actors that step eight Gymnasium environments between them, two networks of
64x64 tanh units, the same batches, minibatches and epochs, and a learner on the same cores. Ours
counts steps that were learned from, RLlib's those that were sampled. Prints a Markdown table of
medians; --out writes it.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from compare import report

HERE = Path(__file__).parent


class Job(NamedTuple):
    """The same work for both sides."""

    algorithm: str
    env: str
    length: int  # steps of each environment in a batch
    minibatches: int = 1
    epochs: int = 1
    num_envs: int = 8
    actors: int = 2


JOBS = {
    "ppo CartPole": Job("ppo", "CartPole-v1", length=128, minibatches=4, epochs=4),
    "ppo HalfCheetah": Job("ppo", "HalfCheetah-v5", length=256, minibatches=32, epochs=10),
    "impala CartPole": Job("impala", "CartPole-v1", length=64),
    "appo CartPole": Job("appo", "CartPole-v1", length=64),
}


def ours(job: Job, seconds: float) -> dict[str, Any]:
    """Steps per second of PARL-JAX, in this process."""
    import jax

    from parl.api import prepare
    from parl.runs.build import resolve
    from parl.runs.config import RunConfig
    from parl.runs.executions import make_execution

    prepare()
    settings: dict[str, Any] = {
        "num_envs": job.num_envs,
        "length": job.length,
        "hidden": (64, 64),
        "normalize_obs": False,
        "normalize_reward": False,
    }
    if job.algorithm != "impala":
        settings |= {"minibatches": job.minibatches, "epochs": job.epochs}
    config = RunConfig(
        job.algorithm, job.env, steps=10**8, actors=job.actors, execution="ray", settings=settings
    )
    execution = make_execution(resolve(config))
    execution.advance(5)
    jax.block_until_ready(execution.algorithm_state)
    done, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        execution.advance(5)
        jax.block_until_ready(execution.algorithm_state)
        done += 5
    execution.close()
    steps = done * execution.steps_per_iteration
    return {"peer": "parl-jax", "steps": steps, "seconds": spent, "steps_per_second": steps / spent}


def peer(job: Job, python: str, seconds: float) -> list[str]:
    """RLlib's command for the same work."""
    numbers = {"--length": job.length, "--minibatches": job.minibatches, "--epochs": job.epochs}
    numbers |= {"--num-envs": job.num_envs, "--runners": job.actors, "--seconds": seconds}
    flags = [str(word) for pair in numbers.items() for word in pair]
    script = str(HERE / "peers" / "rllib_train.py")
    return [python, script, job.algorithm, "--env", job.env, *flags]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rllib", default="python", help="interpreter that has RLlib")
    parser.add_argument("--only", default="", help="jobs whose name contains this")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--ours", choices=JOBS, help="our side of one job, as a JSON line")
    arguments = parser.parse_args()
    if arguments.ours:
        print(json.dumps(ours(JOBS[arguments.ours], arguments.seconds)))
        return
    lines = ["| ours : RLlib | ours, steps/s | RLlib, steps/s | ratio (min-max) |",
             "|---|---|---|---|"]  # fmt: skip
    print("\n".join(lines), flush=True)
    for name, job in JOBS.items():
        if arguments.only not in name:
            continue
        own = [sys.executable, __file__, "--ours", name, "--seconds", str(arguments.seconds)]
        other = peer(job, arguments.rllib, arguments.seconds)
        rounds = [(report(own), report(other)) for _ in range(arguments.repeats)]
        rates = [[each["steps_per_second"] for each in pair] for pair in rounds]
        ratios = sorted(a / b for a, b in rates)
        a, b = (statistics.median(column) for column in zip(*rates, strict=True))
        ratio = f"{statistics.median(ratios):.1f} ({ratios[0]:.1f}-{ratios[-1]:.1f})"
        lines.append(f"| {name} | {a:,.0f} | {b:,.0f} | {ratio} |")
        print(lines[-1], flush=True)
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
