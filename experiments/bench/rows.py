"""Trials of a sweep one after the other, and as rows of one program: seconds of each, warm.

    python experiments/bench/rows.py ppo --env jax:CartPole-v1 --steps 50000 --num-trials 32 4

All in this process. Both were run before with other rates, so that nothing is compiled; trials are
runs as always, with checkpoints and, unless --eval-episodes is 0, evaluations.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import jax

import parl


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("algorithm")
    parser.add_argument("--env", required=True)
    parser.add_argument("--steps", type=int, default=50_000)
    parser.add_argument("--num-trials", type=int, nargs="+", default=[32])
    parser.add_argument("--num-seeds", type=int, default=1)
    parser.add_argument("--eval-episodes", type=int, default=0)
    parser.add_argument("--execution", default="auto")
    parser.add_argument("--hidden", type=int, nargs="+")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="parl-bench-rows-"))
    names = ("steps", "num_seeds", "eval_episodes", "execution")
    settings: dict[str, Any] = {name: getattr(given, name) for name in names}
    if given.hidden:
        settings["hidden"] = tuple(given.hidden)

    def sweep(name: str, low: float, count: int, together: int, **changes: Any) -> tuple:
        over = {"learning_rate": {"low": low, "high": 1e-2, "log": True}}
        begin = time.perf_counter(), time.process_time()
        out = folder / f"{name}-{count}"
        parl.sweep(
            given.algorithm, given.env, over, count, out, True, together=together,
            **settings | changes,
        )  # fmt: skip
        return time.perf_counter() - begin[0], time.process_time() - begin[1]

    print(f"{given} on {jax.devices()[0].device_kind}", flush=True)
    sweep("warm", 2e-4, 1, 1)
    for count in given.num_trials:
        turn = sweep("turn", 1e-4, count, 1)
        first = sweep("first", 2e-4, count, count)
        rows = sweep("rows", 1e-4, count, count)
        print(
            f"{count} trials: in turn {turn[0]:.1f} s ({turn[1]:.1f} of processors), as rows "
            f"{rows[0]:.1f} s ({rows[1]:.1f}), {first[0]:.1f} s with compiling: ratio "
            f"{turn[0] / rows[0]:.1f} ({turn[1] / rows[1]:.1f})",
            flush=True,
        )
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
