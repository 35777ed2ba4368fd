"""Speed beside the peers: each pair of commands in turn, A B A B ..., and the ratio pair by pair.

    python experiments/bench/compare.py --sbx PYTHON --purejaxrl PYTHON --source DIR [--only NAME]

PYTHON are the interpreters of throw-away environments (see peers/*.py for how to make them), DIR a
checkout of PureJaxRL. Prints a Markdown table of medians; --out writes it with the settings.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
OURS = [sys.executable, str(HERE / "ours.py")]


Pair = tuple[list[str], list[str], float]  # our command, the other's, the ratio aimed at
Pairs = dict[str, Pair]  # by name


def report(command: list[str]) -> dict[str, Any]:
    """What a command reports in its last line."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(pairs: Pairs, only: str, repeats: int) -> list[str]:
    """Runs the pairs whose names contain `only`, each in turn; a Markdown table of medians.

    It is printed line by line as it grows.
    """
    lines = ["| ours : other | ours, steps/s | other, steps/s | ratio (min-max) | aim "
             "| ms an update, ours : other |", "|---|---|---|---|---|---|"]  # fmt: skip
    print("\n".join(lines), flush=True)
    for name, (ours, other, aim) in pairs.items():
        if only not in name:
            continue
        rounds = [(report(ours), report(other)) for _ in range(repeats)]
        rates = [[each["steps_per_second"] for each in pair] for pair in rounds]
        ratios = sorted(a / b for a, b in rates)
        a, b = (statistics.median(column) for column in zip(*rates, strict=True))
        ratio = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
        update = " : ".join(map(update_ms, zip(*rounds, strict=True)))
        lines.append(f"| {name} | {a:,.0f} | {b:,.0f} | {ratio} | {aim} | {update} |")
        print(lines[-1], flush=True)
    return lines


def update_ms(reports: Iterable[dict[str, Any]]) -> str:
    """The median time of an update, environment and all."""
    times = [1e3 / each["updates_per_second"] for each in reports if "updates_per_second" in each]
    return f"{statistics.median(times):.2f}" if times else "-"


def pairs(arguments: argparse.Namespace) -> Pairs:
    """What is measured, by name."""
    stable = [arguments.sbx, str(HERE / "peers" / "stable_off_policy.py"), "--peer"]
    sbx, sb3 = [*stable, "sbx", "--steps", "3000"], [*stable, "sb3", "--steps", "800"]
    sbx_ppo = [arguments.sbx, str(HERE / "peers" / "sbx_ppo.py")]
    pure = [arguments.purejaxrl, str(HERE / "peers" / "purejaxrl_ppo.py")]
    pure += ["--source", arguments.source]
    burst = ["--train-freq", "8", "--gradient-steps", "8"]
    sac = [*OURS, "sac"]
    one = [*sac, "--length", "1", "--updates", "1"]
    cartpole, cheetah = ["--env", "CartPole-v1"], ["--env", "HalfCheetah-v5"]
    found = {
        "sac 8/8 : bare update": (sac, [*sac, "--bare"], 0.95),
        "sac 1/1 : bare update": (one, [*sac, "--bare"], 0.95),
        "sac 8/8 : SBX 8/8": (sac, [*sbx, *burst], 1.1),
        "sac 1/1 : SBX 1/1": (one, sbx, 1.1),
        "sac 8/8 : SB3 8/8": (sac, [*sb3, *burst], 4.0),
        "sac 3 vmapped seeds : 1": ([*sac, "--num-seeds", "3"], sac, 1.0),
        "ppo CartPole : SBX": ([*OURS, "ppo", *cartpole, "--steps", "40960"],
                               [*sbx_ppo, *cartpole], 2.0),
        "ppo HalfCheetah : SBX": ([*OURS, "ppo", *cheetah, "--steps", "40960"],
                                  [*sbx_ppo, *cheetah], 2.0),
        "fused ppo, 1 seed : PureJaxRL": ([*OURS, "fused-ppo", "--steps", "500000"],
                                          [*pure, "--num-seeds", "1"], 1.2),
        "fused ppo, 8 seeds : PureJaxRL": (
            [*OURS, "fused-ppo", "--steps", "500000", "--num-seeds", "8"],
            [*pure, "--num-seeds", "8"], 1.2),
    }  # fmt: skip
    for job, env in (("sac", "jax:Pendulum-v1"), ("sac", "HalfCheetah-v5"),
                     ("dqn", "jax:CartPole-v1"), ("dqn", "CartPole-v1")):  # fmt: skip
        command = [*OURS, job, "--env", env, "--steps", "3000"]
        found[f"{job} {env}, replay 1M : 20k"] = (
            [*command, "--capacity", "1000000"], [*command, "--capacity", "20000"], 0.9,
        )  # fmt: skip
    return found


def run(parser: argparse.ArgumentParser, pairs: Callable[[argparse.Namespace], Pairs]) -> None:
    """Measures what `pairs` makes of the command line; prints a Markdown table, --out writes it."""
    parser.add_argument("--only", default="", help="pairs whose name contains this")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    lines = measure(pairs(arguments), arguments.only, arguments.repeats)
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sbx", default="python")
    parser.add_argument("--purejaxrl", default="python")
    parser.add_argument("--source", default=".")
    run(parser, pairs)


if __name__ == "__main__":
    main()
