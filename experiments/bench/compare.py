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
from pathlib import Path

HERE = Path(__file__).parent
OURS = [sys.executable, str(HERE / "ours.py")]


def rate(command: list[str]) -> float:
    """Steps per second that a command reports in its last line."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])["steps_per_second"]


def pairs(arguments: argparse.Namespace) -> dict[str, tuple[list[str], list[str], float]]:
    """Name -> (our command, the other's command, the ratio we aim at)."""
    stable = [arguments.sbx, str(HERE / "peers" / "stable_sac.py"), "--peer"]
    sbx, sb3 = [*stable, "sbx", "--steps", "3000"], [*stable, "sb3", "--steps", "800"]
    sbx_ppo = [arguments.sbx, str(HERE / "peers" / "sbx_ppo.py")]
    pure = [arguments.purejaxrl, str(HERE / "peers" / "purejaxrl_ppo.py")]
    pure += ["--source", arguments.source]
    burst = ["--train-freq", "8", "--gradient-steps", "8"]
    sac = [*OURS, "sac"]
    one = [*sac, "--length", "1", "--updates", "1"]
    cartpole, cheetah = ["--env", "CartPole-v1"], ["--env", "HalfCheetah-v5"]
    found = {
        "sac 8/8 : bare update": (sac, [*OURS, "bare-sac"], 0.95),
        "sac 1/1 : bare update": (one, [*OURS, "bare-sac"], 0.95),
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sbx", default="python")
    parser.add_argument("--purejaxrl", default="python")
    parser.add_argument("--source", default=".")
    parser.add_argument("--only", default="", help="pairs whose name contains this")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    lines = ["| ours : other | ours, steps/s | other, steps/s | ratio (min-max) | aim |",
             "|---|---|---|---|---|"]  # fmt: skip
    print("\n".join(lines), flush=True)
    for name, (ours, other, aim) in pairs(arguments).items():
        if arguments.only not in name:
            continue
        rates = [(rate(ours), rate(other)) for _ in range(arguments.repeats)]
        ratios = sorted(a / b for a, b in rates)
        a, b = (statistics.median(column) for column in zip(*rates, strict=True))
        ratio = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
        lines.append(f"| {name} | {a:,.0f} | {b:,.0f} | {ratio} | {aim} |")
        print(lines[-1], flush=True)
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
