"""Self-play and cross-play on Ray actors are what they are without them."""

from pathlib import Path

import numpy as np
import pytest

import parl
from parl.runs.crossplay import crossplay

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


@pytest.mark.slow
def test_crossplay_by_ray_actors_is_crossplay(tmp_path: Path) -> None:
    settings = TINY | {"steps": 72, "eval_every": 72, "opponent": "self", "admit_every": 0}
    train = lambda seed: parl.train(
        "ippo", "jax:tic_tac_toe", tmp_path / f"{seed}", quiet=True, seed=seed, **settings
    )
    runs = [train(seed).path for seed in range(3)]
    here, there = (crossplay(runs, episodes=4, actors=n) for n in (0, 2))
    np.testing.assert_array_equal(there.returns, here.returns)
    assert here.win_rate is not None and len(np.unique(here.win_rate)) > 1
    np.testing.assert_array_equal(there.win_rate, here.win_rate)
