"""Kaggle's ConnectX from self-play: one file, tested in Kaggle's own environment.

    python -m venv kaggle && kaggle/bin/pip install kaggle-environments
    python experiments/competitions/connectx.py --python kaggle/bin/python --out runs/connectx

Trains IPPO against its own past policies on jax:connect_four, or takes the policy of --run. The
package is written to OUT/submission; the last line is one JSON object.
"""

import json
from pathlib import Path

import tyro

import parl

ENV, AGENT = "jax:connect_four", "player_0"
ADAPTER = Path(__file__).with_name("connectx_adapter.py")


def main(
    out: Path = Path("runs/connectx"),
    run: Path | None = None,
    steps: int = 1_000_000,
    seed: int = 0,
    python: Path | None = None,
    games: int = 200,
    weights: str = "float16",
) -> None:
    """Trains, packs and plays; `games` are shared among Kaggle's agents and both seats."""
    if run is None:
        run = parl.train("ippo", ENV, out, steps=steps, seed=seed, opponent="pool").path
    made = parl.submit(
        run,
        "kaggle:connectx",
        out / "submission",
        adapter=ADAPTER,
        python=python,
        games=games,
        weights=weights,
        agent=AGENT,
    )
    told = {
        name: made.report[name] for name in ("bytes", "times", "equality", "played", "failures")
    }
    print(json.dumps({"package": str(made.package)} | told))


if __name__ == "__main__":
    tyro.cli(main)
