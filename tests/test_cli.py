"""The command line: what it prints, and one sentence with exit code 2 for bad input."""

import importlib.util
import json
from pathlib import Path

import pytest

from parl.cli import main

TINY = ["--hidden", "16", "--eval-episodes", "3", "--steps", "1024", "--quiet"]


def sentence(capsys: pytest.CaptureFixture, *words: str) -> str:
    """The one line that bad input gets."""
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    return lines[0].removeprefix("parl: ")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "run"
    assert main(["train", "ppo", "--env", "jax:CartPole-v1", "--out", str(out), *TINY]) == 0
    return out


def test_unknown_environment(capsys) -> None:
    said = sentence(capsys, "train", "sac", "--env", "HalfCheeta-v5")
    assert said == "unknown environment 'HalfCheeta-v5'. Did you mean HalfCheetah-v5?"
    said = sentence(capsys, "train", "ppo", "--env", "jax:CartPol-v1")
    assert said.startswith("unknown environment 'jax:CartPol-v1'. Did you mean CartPole-v1?")


def test_unknown_algorithm(capsys) -> None:
    said = sentence(capsys, "train", "sacc", "--env", "Pendulum-v1")
    assert said.startswith("unknown algorithm 'sacc'. Did you mean sac? Known: ")


def test_wrong_action_space(capsys) -> None:
    said = sentence(capsys, "train", "sac", "--env", "CartPole-v1")
    what, _, able = said.partition(" Try: ")
    assert what == "sac needs a continuous (Box) action space; CartPole-v1 has Discrete(2)."
    found = set(able.rstrip(".").split(", "))
    assert {"dqn", "ppo", "dsac"} <= found and "sac" not in found


def test_unknown_flag(capsys) -> None:
    said = sentence(capsys, "train", "ppo", "--env", "jax:CartPole-v1", "--learning-rat", "1")
    assert said.startswith("unknown flag '--learning-rat'. Did you mean --learning-rate?")


def test_a_setting_named_beside_a_python_word_has_its_own_flag(capsys) -> None:
    said = sentence(capsys, "train", "a2c", "--env", "jax:CartPole-v1", "--lamda", "1")
    assert "Did you mean --lambda?" in said


def test_value_of_a_wrong_type(capsys) -> None:
    said = sentence(capsys, "train", "ppo", "--env", "jax:CartPole-v1", "--steps", "many")
    assert "--steps" in said and "many" in said


def test_unknown_command(capsys) -> None:
    assert sentence(capsys, "trian").startswith("unknown command 'trian'. Did you mean train?")


def test_missing_package(capsys, monkeypatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "brax" else found(name, *a)
    )
    said = sentence(capsys, "train", "ppo", "--env", "brax:ant")
    assert said == "brax:ant needs Brax, which is not installed: pip install brax"


def test_no_environment(capsys) -> None:
    assert "--env" in sentence(capsys, "train", "ppo")


def test_fused_needs_jax(capsys) -> None:
    said = sentence(capsys, "train", "ppo", "--env", "CartPole-v1", "--execution", "fused")
    assert said.endswith("use --execution host.")


def test_asynchronous_ppo_is_refused(capsys) -> None:
    words = ["train", "ppo", "--env", "CartPole-v1", "--actors", "2", "--mode", "async"]
    assert sentence(capsys, *words) == (
        "ppo cannot learn from rollouts of older policies: use --mode sync, or appo or impala."
    )


def test_unknown_faults(capsys) -> None:
    words = ["train", "dqn", "--env", "CartPole-v1", "--actors", "2", "--chaos", "kill=0.1,nann=1"]
    said = sentence(capsys, *words)
    assert said.startswith("chaos knows no 'nann'. Did you mean nan? Known: kill, hang,")


def test_environments_must_divide_among_actors(capsys) -> None:
    said = sentence(capsys, "train", "ppo", "--env", "CartPole-v1", "--actors", "3")
    assert said == "8 environments do not divide among 3 actors; try --num-envs 6."


def test_yaml_settings(capsys, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("env: jax:CartPole-v1\nlearning-rat: 0.1\n")
    said = sentence(capsys, "train", "ppo", "--config", str(file))
    assert said.startswith("unknown setting 'learning_rat'. Did you mean learning_rate?")
    file.write_text("env: jax:CartPole-v1\nlearning-rate: fast\n")
    said = sentence(capsys, "train", "ppo", "--config", str(file))
    assert said == "setting 'learning_rate' must be float or int, not 'fast'."
    out = tmp_path / "run"
    file.write_text(
        f"env: jax:CartPole-v1\nlearning-rate: 0.1\nout: {out}\nhidden: [8]\nentropy-cost: 1e-3\n"
    )
    flags = [*TINY[2:], "--learning-rate", "0.2"]
    assert main(["train", "ppo", "--config", str(file), *flags]) == 0
    settings = json.loads((out / "config.json").read_text())["settings"]
    assert settings["learning_rate"] == 0.2 and settings["hidden"] == [8]
    assert settings["entropy_cost"] == 0.001


def test_run_directory(run_dir: Path) -> None:
    names = {p.name for p in run_dir.iterdir()}
    files = {"config.json", "metrics.jsonl", "checkpoints", "result.json", "curve.png"}
    assert files <= names
    result = json.loads((run_dir / "result.json").read_text())
    assert {"return_mean", "env_steps", "wall_s", "compile_s", "sps"} <= result.keys()
    assert result["env_steps"] == 1024 and len(result["params_sha256"]) == 64
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").open()]
    first = {"env_steps", "wall_s", "sps", "updates", "policy_loss", "return_mean"}
    assert first <= lines[-1].keys()
    evaluated = [line for line in lines if "eval/return_mean" in line]
    assert evaluated[-1]["eval/episodes"] == 3 and evaluated[-1]["env_steps"] == 1024
    assert evaluated[-1]["eval/return_mean"] == pytest.approx(result["return_mean"])


def test_an_existing_run_is_not_overwritten(capsys, run_dir: Path) -> None:
    said = sentence(capsys, "train", "ppo", "--env", "jax:CartPole-v1", "--out", str(run_dir))
    assert f"'parl resume {run_dir}'" in said


def test_eval_prints_one_json_object_last(capsys, run_dir: Path) -> None:
    capsys.readouterr()
    assert main(["eval", str(run_dir), "--episodes", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    summary = json.loads(lines[-1])
    assert {"return_mean", "return_std", "episodes", "return", "returns"} <= summary.keys()
    assert summary["episodes"] == len(summary["returns"]) == 4
    assert summary["return_mean"] == pytest.approx(sum(summary["returns"]) / 4)
    assert lines[0].startswith(f"return {summary['return_mean']:.1f} ± ")


@pytest.mark.parametrize("env", ["Pendulum-v1", "jax:Pendulum-v1"])
def test_an_environment_of_other_spaces(capsys, run_dir: Path, env: str) -> None:
    said = sentence(capsys, "eval", str(run_dir), "--env", env)
    assert said.startswith(f"{env} has other spaces and does not fit a policy of jax:CartPole-v1: ")
    assert "its observation space is Box(3,)" in said and "in place of Box(4,)" in said


def test_foreign_and_corrupt_checkpoints(capsys, run_dir: Path, tmp_path: Path) -> None:
    said = sentence(capsys, "resume", str(tmp_path))
    assert said == f"{tmp_path} is not a run directory: it has no config.json."
    for file in (run_dir / "checkpoints").glob("*/arrays.bin"):
        file.write_bytes(file.read_bytes()[:-1])
    assert main(["resume", str(run_dir)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert all(line.startswith("WARNING: ") for line in lines[:-1]) and len(lines) > 2
    assert "has no good checkpoint" in lines[-1]


def test_list(capsys) -> None:
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    rows = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert "continuous (Box)" in rows["sac"] and "discrete" not in rows["sac"]
    assert "discrete" in rows["dqn"] and "jax:CartPole-v1" in out
    assert "pip install brax" in rows["brax:"]


def test_help_shows_the_settings_for_the_environment(capsys) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["train", "ppo", "--env", "jax:Pendulum-v1", "--help"])
    assert exit.value.code == 0
    out = capsys.readouterr().out
    assert "--learning-rate" in out and "0.0003" in out
    assert "those of CleanRL for MuJoCo" in out  # where the settings come from
