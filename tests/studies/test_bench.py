"""parl bench: the parts of an iteration add up, and slow environments are seen to be slow."""

import json
import math
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from small import SMALL

from parl.cli import main
from parl.core.errors import ConfigError
from parl.studies.bench import PARTS, Bench, bench, fastest

NAP = 0.002  # seconds of a step


class Slow(gymnasium.Env):
    """An environment whose steps take NAP."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        time.sleep(NAP)
        return np.zeros(2, np.float32), 0.0, False, False, {}


def check(found: Bench) -> None:
    """What holds of any measurement."""
    times = found.seconds
    assert list(times) == list(PARTS) and all(map(math.isfinite, times.values()))
    assert all(times[x] > 0 for x in ("iteration", "collect", "environment", "learn", "update"))
    assert times["collect"] == pytest.approx(times["environment"] + times["acting"])
    assert times["learn"] == pytest.approx(times["update"] + times["storing"])
    assert times["iteration"] == pytest.approx(times["collect"] + times["learn"] + times["rest"])


@pytest.mark.slow
def test_the_environment_takes_its_time_on_the_host() -> None:
    found = bench("ppo", Slow, seconds=0.02, **SMALL)
    check(found)
    assert (found.execution, found.env_steps, found.updates) == ("host", 16, 1)
    assert found.seconds["environment"] > 16 * NAP  # two environments, eight steps
    assert found.seconds["collect"] > 16 * NAP
    assert found.environment_steps_per_s < 1 / NAP
    assert found.seconds["learn"] < found.seconds["environment"]
    told = found.as_json()
    assert told["shares"]["iteration"] == 1
    assert told["steps_per_s"] == pytest.approx(16 / told["seconds"]["iteration"])


@pytest.mark.slow
def test_fused_seeds_and_the_command(tmp_path: Path, capsys: Any) -> None:
    flags = [
        f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items() if name != "hidden"
    ]
    command = ["bench", "ppo", "--env", "jax:CartPole-v1", "--hidden", "4", "--num-seeds", "2"]
    traces = ["--profile", "0:2", "--out", str(tmp_path)]
    assert main([*command, "--seconds", "0.05", *flags, *traces]) == 0
    assert len(list((tmp_path / "profile").rglob("perfetto_trace.json.gz"))) == 1
    *table, last = capsys.readouterr().out.strip().splitlines()
    told = json.loads(last)
    found = Bench(**{name: told[name] for name in Bench._fields})
    check(found)
    assert (found.execution, found.num_seeds, found.env_steps) == ("fused", 2, 32)
    assert "2 seeds: an iteration is 32 steps and 2 updates" in table[0]
    assert [line.split()[0] for line in table if "the run:" in line] == ["the"]


@pytest.mark.slow
@pytest.mark.parametrize("env", ["jax:Pendulum-v1", "Pendulum-v1"])
def test_replay_is_measured_beside_the_update(env: str) -> None:
    small = {"warmup": 32, "capacity": 256, "batch_size": 8, "hidden": (8,), "num_envs": 2}
    found = bench("sac", env, seconds=0.2, steps=64, length=4, updates=3, **small)
    check(found)
    assert (found.env_steps, found.updates) == (8, 3)


def test_what_is_not_measured_is_a_sentence() -> None:
    with pytest.raises(ConfigError, match="for fused and host execution"):
        bench("ppo", "CartPole-v1", actors=2)


def test_each_piece_counts_by_its_fastest_round() -> None:
    naps = {"short": 0.001, "long": 0.004}
    pieces = {name: lambda count, nap=nap: time.sleep(count * nap) for name, nap in naps.items()}
    found = fastest(pieces, 0.05)
    assert 0.001 <= found["short"] < 0.004 <= found["long"]
