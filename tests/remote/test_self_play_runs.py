"""Self-play on Ray actors is self-play without them."""

from pathlib import Path

import pytest

import parl

pytestmark = pytest.mark.usefixtures("cluster")
TINY = {
    "hidden": (4,), "num_envs": 8, "length": 9, "epochs": 1, "minibatches": 1, "eval_episodes": 2,
    "absolute_episodes": 0, "steps": 288, "eval_every": 288, "opponent": "pool", "admit_every": 72,
}  # fmt: skip


@pytest.mark.slow
def test_the_pool_and_its_ratings_are_the_same_on_ray(tmp_path: Path) -> None:
    ray = parl.train("ippo", "jax:tic_tac_toe", tmp_path / "ray", quiet=True, actors=1, **TINY)
    host = parl.train(
        "ippo", "jax:tic_tac_toe", tmp_path / "host", quiet=True, execution="host", **TINY
    )  # fmt: skip
    assert ray.result["params_sha256"] == host.result["params_sha256"]
    assert ray.result["returns"] == host.result["returns"]
    line = lambda run: (run.path / "metrics.jsonl").read_text().splitlines()[-1]
    elo = lambda run: line(run).split('"elo": ')[1].split(",")[0]
    assert elo(ray) == elo(host) != "1000.0"
