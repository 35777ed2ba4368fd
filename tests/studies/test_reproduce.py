"""A run trained again is the same bit by bit, or is told what differs."""

import json
from pathlib import Path

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
    same = [{"env_steps": 8, "loss": 1.0, "wall_s": 3.0, "sps": 7}, {"env_steps": 24, "loss": 9.0}]
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
    config["settings"]["gamma"] = 0.5
    file.write_text(json.dumps(config))
    try:
        assert main(["reproduce", str(run), "--quiet"]) == 1
    finally:
        file.write_text(before)
    said = capsys.readouterr().out
    assert "not equal, from step 16 on" in said
    assert "config.json has gamma 0.5, the run was trained with 0.98" in said


def test_what_cannot_be_run_again(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a run directory"):
        reproduce(tmp_path)
