"""The minimax player of experiments/tic_tac_toe.py, and the layout of experiments/marl_eval.py."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parl.core.errors import ConfigError

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))

import marl_eval
import tic_tac_toe


def test_perfect_play_by_hand() -> None:
    """An empty board is a draw wherever one begins; a fork is won, a threat is met."""
    assert tic_tac_toe.best_moves((0,) * 9) == (0, tuple(range(9)))
    assert tic_tac_toe.best_moves((1, 1, 0, -1, -1, 0, 0, 0, 0)) == (1, (2,))
    assert tic_tac_toe.best_moves((-1, -1, 0, 0, 1, 0, 0, 0, 0)) == (0, (2,))
    # against a corner only the centre holds
    assert tic_tac_toe.best_moves((-1, 0, 0, 0, 0, 0, 0, 0, 0)) == (0, (4,))


class Perfect:
    """An agent that plays as well as its opponent."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(1)

    def predict(self, obs: Any) -> np.ndarray:
        action = np.zeros(obs["turn"].shape, np.int32)
        for seat in (0, 1):
            moves = obs["turn"][:, seat]
            action[moves, seat] = tic_tac_toe.perfect(obs["view"][moves, seat], self.rng)
        return action


class First:
    """Takes the first free cell."""

    def predict(self, obs: Any) -> np.ndarray:
        return obs["legal"].argmax(-1).astype(np.int32)


def test_two_perfect_players_draw_and_a_weak_one_loses() -> None:
    assert (tic_tac_toe.play(Perfect(), 100) == 0).all()
    result = tic_tac_toe.play(First(), 100)
    assert (result <= 0).all() and (result[1::2] == -1).mean() > 0.5


def write_run(path: Path, seed: int, points: list[dict[str, Any]], result: dict[str, Any]) -> Path:
    path.mkdir()
    config = {"algorithm": "mappo", "env": "jax:simple_spread", "seed": seed, "num_seeds": 2}
    (path / "config.json").write_text(json.dumps(config))
    (path / "metrics.jsonl").write_text("".join(json.dumps(p) + "\n" for p in points))
    (path / "result.json").write_text(json.dumps(result))
    return path


def test_marl_evals_layout(tmp_path: Path) -> None:
    """environment -> task -> algorithm -> seed -> step -> metrics, and absolute metrics."""
    points = [
        {"env_steps": 5, "wall_s": 1.0},
        {"env_steps": 10, "wall_s": 2.0, "eval/return_mean": -2.0,
         "eval/return_mean_seeds": [-1.0, -3.0]},
    ]  # fmt: skip
    result = {"return_mean": [-1.0, -2.0], "absolute/return_mean": [-1.5, -2.5]}
    run = write_run(tmp_path / "a", 3, points, result)
    tree = marl_eval.collect([run])
    step = {"step_count": 10, "elapsed_time": 2.0}
    assert tree == {
        "jax": {
            "simple_spread": {
                "mappo": {
                    "seed_3": {
                        "step_0": step | {"return": [-1.0]},
                        "absolute_metrics": {"return": [-1.5]},
                    },
                    "seed_4": {
                        "step_0": step | {"return": [-3.0]},
                        "absolute_metrics": {"return": [-2.5]},
                    },
                }
            }
        }
    }
    other = write_run(tmp_path / "b", 5, points, result | {"absolute/return_mean": [-3.5, -4.5]})
    (line,) = marl_eval.aggregates(marl_eval.collect([run, other]))
    # of -4.5, -3.5, -2.5, -1.5 the middle half
    assert line.startswith("mappo on jax:simple_spread: IQM -3.00, 95 % interval -4.")
    assert line.endswith("4 seeds")
    with pytest.raises(ConfigError, match="seed_3 again"):
        marl_eval.collect([run, run])


def test_win_rates_and_runs_without_absolute_metrics(tmp_path: Path) -> None:
    values = {"eval/return_mean": 0.5, "eval/win_rate": 0.75}
    points = [{"env_steps": 10, "wall_s": 2.0} | values]
    run = write_run(tmp_path / "a", 0, points, {"return_mean": 0.25, "win_rate": 0.5})
    seed = marl_eval.collect([run])["jax"]["simple_spread"]["mappo"]["seed_0"]
    assert seed["step_0"]["win_rate"] == [0.75]
    assert seed["absolute_metrics"] == {"return": [0.25], "win_rate": [0.5]}
    (run / "result.json").unlink()
    with pytest.raises(ConfigError, match="is not finished"):
        marl_eval.collect([run])


def test_an_ids_prefix_is_the_environment() -> None:
    assert marl_eval.task_of("pz:mpe2.simple_spread_v3") == ("pz", "mpe2.simple_spread_v3")
    assert marl_eval.task_of("HalfCheetah-v5") == ("gymnasium", "HalfCheetah-v5")
