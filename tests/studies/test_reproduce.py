"""A run trained again is the same bit by bit, or is told what differs."""

import json
from pathlib import Path
from typing import Any

import pytest
from small import SMALL

import parl
from parl.cli.main import main
from parl.core.errors import ConfigError
from parl.studies.reproduce import first_difference, reproduce


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run of ppo."""
    out = tmp_path_factory.mktemp("reproduce") / "run"
    parl.train("ppo", "jax:CartPole-v1", out, True, **SMALL)
    return out


def test_the_first_line_that_differs() -> None:
    before = [{"env_steps": 8, "loss": 1.0, "wall_s": 1.0}, {"env_steps": 16, "loss": 2.0}]
    before[0]["pool/workers"] = 2
    same = [
        {"env_steps": 8, "loss": 1.0, "wall_s": 3.0, "pool/workers": 1},
        {"env_steps": 24, "loss": 9.0},
    ]
    other = [*same, {"env_steps": 16, "loss": 2.5, "other": 1}]
    assert first_difference(before, same) == (None, [])
    assert first_difference(before, other) == (16, ["loss"])


def test_a_run_is_equal_and_another_setting_is_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reproduce", str(run), "--quiet"]) == 0
    sha256 = json.loads((run / "result.json").read_text())["params_sha256"]
    assert f"equal: the parameters are the same bit by bit, sha256 {sha256}" in (
        capsys.readouterr().out
    )
    part = reproduce(run, steps=32, out=tmp_path / "part", quiet=True)
    assert part.equal and part.sha256 == ("", "")
    assert json.loads((tmp_path / "part" / "result.json").read_text())["env_steps"] == 32

    file = run / "config.json"
    before = file.read_text()
    config = json.loads(before)
    own, other = config["settings"] | {"gamma": 0.5}, "the run was trained with"
    for changed, told in (
        ({"settings": own}, f"config.json has gamma 0.5, {other} 0.98"),
        ({"seed": 3}, f"config.json has seed 3, {other} 0"),
    ):
        file.write_text(json.dumps(config | changed))
        try:
            assert main(["reproduce", str(run), "--quiet"]) == 1
        finally:
            file.write_text(before)
        said = capsys.readouterr().out
        assert "not equal" in said and told in said
    assert "from step 16 on" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "env"),
    [("sac", "jax:Pendulum-v1"), ("dqn", "jax:CartPole-v1"), ("mappo", "jax:simple_spread")],
)
def test_fused_runs_are_equal(algorithm: str, env: str, tmp_path: Path) -> None:
    """As are those on the host and on Ray actors, see tests/remote/test_runs.py."""
    names = ("steps", "num_envs", "length", "hidden", "eval_episodes")
    settings: dict[str, Any] = {name: SMALL[name] for name in names}
    if algorithm != "mappo":
        settings |= {"warmup": 32, "batch_size": 4, "capacity": 100}
    first = parl.train(algorithm, env, tmp_path / "run", True, execution="fused", **settings)
    again = reproduce(first.path, quiet=True)
    assert again.equal and again.sha256 == (first.result["params_sha256"],) * 2


def test_what_cannot_be_run_again(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a run directory"):
        reproduce(tmp_path)
