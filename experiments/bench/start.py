"""Processor seconds of `parl train` from nothing to the end of its first update.

    python experiments/bench/start.py                  # ppo on CartPole-v1
    python experiments/bench/start.py sac --env Pendulum-v1

The first row starts with an empty compilation cache, as the first run of a user does; the others
find what it left there. Seconds are of the process and its children, user and system.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile


def spent() -> float:
    """Processor seconds of this process and its children."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def start(arguments: list[str]) -> None:
    """Runs `parl train ARGUMENTS`, prints the seconds of each part, and leaves at an update."""
    from parl.cli.main import main
    from parl.runs.trainer import Trainer

    seconds = {"import": spent()}
    iterate = Trainer.iterate

    def updated(self: Trainer, iterations: int) -> None:
        seconds["made"] = spent()
        iterate(self, 1)
        seconds["updated"] = spent()
        print(json.dumps(seconds), file=sys.stderr, flush=True)
        os._exit(0)

    Trainer.iterate = updated
    main(["train", *arguments])


def run(arguments: list[str], cache: str) -> dict[str, float]:
    """The seconds of one start with a compilation cache, as they stood after each part."""
    with tempfile.TemporaryDirectory() as folder:
        given = [*arguments, "--out", os.path.join(folder, "run")]
        command = [sys.executable, os.path.abspath(__file__), "--child", json.dumps(given)]
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache}
        said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(said.stderr.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--repeats", type=int, default=3)
    options, arguments = parser.parse_known_args()
    if options.child:
        return start(json.loads(options.child))
    arguments = arguments or ["ppo", "--env", "CartPole-v1"]
    print("| compilation cache | imported | run made | first update done |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as cache:
        for repeat in range(1 + options.repeats):
            seconds = run(arguments, cache)
            state = "warm" if repeat else "empty"
            print(f"| {state} | " + " | ".join(f"{x:.2f}" for x in seconds.values()) + " |")


if __name__ == "__main__":
    main()
