"""Manners of the command line: help, switches, names of other libraries, files, pipes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import parl
from parl.cli import main
from parl.core.errors import ConfigError

CARTPOLE = ["--env", "jax:CartPole-v1"]
WRONG = [*CARTPOLE, "--steps", "0"]  # stops every train here once all else is taken


def told(capsys: pytest.CaptureFixture, *words: str) -> str:
    """What is said on stderr of input that is refused."""
    assert main(words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0].removeprefix("parl: ")


STEPS = "steps must be at least 1, not 0."


@pytest.mark.parametrize(
    "words",
    [
        ["--normalize-obs"], ["--normalize-obs", "true"], ["--no-anneal"], ["--anneal=False"],
        ["--hidden", "64,64"], ["--hidden", "[64, 64]"], ["--hidden", "64", "64"], ["--hidden"],
        ["--batch_size", "8"], ["--target_kl", "none"], ["--epochs", "1e1"], ["--quiet"],
    ],
)  # fmt: skip
def test_spellings_that_are_understood(capsys, words: list[str]) -> None:
    algorithm = "dqn" if words[0] == "--batch_size" else "ppo"
    assert told(capsys, "train", algorithm, *WRONG, *words) == STEPS


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--lr", "1"], "unknown flag '--lr'. Did you mean --learning-rate?"),
        (["--n-envs", "1"], "unknown flag '--n-envs'. Did you mean --num-envs?"),
        (["--total-timesteps", "1"], "unknown flag '--total-timesteps'. Did you mean --steps?"),
        (["--n_steps", "1"], "unknown flag '--n_steps'. Did you mean --length?"),
        (["--gpu"], "unknown flag '--gpu'. JAX takes the accelerator it finds"),
        (["--policy", "Mlp"], "unknown flag '--policy'. Networks follow from the observations"),
        (["--epochs", "0o17"], "Error parsing --epochs"),
        (["--epochs", "3.5"], "Error parsing --epochs"),
        (["--epochs", "true"], "Error parsing --epochs"),
        (["--epochs", ""], "Error parsing --epochs"),
        (["--gamma", "1:30"], "Error parsing --gamma"),
        (["--gamma", "1e39"], "gamma must be at most"),
        (["--gamma", "2"], "gamma must be at most 1, not 2."),
        (["--minibatches", "3000000000"], "minibatches must be at most 2,147,483,647"),
    ],
)
def test_what_is_not_understood_leads_on(capsys, words: list[str], said: str) -> None:
    found = told(capsys, "train", "ppo", *CARTPOLE, "--steps", "10", *words)
    assert said in found and len(found) < 250


def test_algorithms_of_other_names(capsys) -> None:
    assert told(capsys, "train", "PPO", *WRONG) == STEPS
    assert "Use dqn --noisy --epsilon-start 0" in told(capsys, "train", "noisy_dqn", *WRONG)


@pytest.mark.parametrize(
    "words",
    [["--version"], ["help"], ["list", "--help"], ["cluster", "--help"], ["cluster", "stop", "-h"]],
)
def test_help_is_to_be_had_everywhere(capsys, words: list[str]) -> None:
    assert main(words) == 0
    assert capsys.readouterr().out.startswith(("parl " + parl.__version__, "usage: parl"))


@pytest.mark.parametrize("words", [["train", "auto"], ["train", "sac"], ["eval"], ["resume"]])
def test_help_of_flags(capsys, words: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*words, "--help"])
    assert stop.value.code == 0
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    if words == ["train", "sac"]:
        assert "Samples per update." in out and "Defaults depend on the environment" in out
        assert "follows from the number of action dimensions" in out


def test_cluster_without_a_command(capsys) -> None:
    assert told(capsys, "cluster").startswith("cluster needs one of start")


def test_a_reader_that_leaves_early_is_no_error() -> None:
    code = f"{sys.executable} -m parl.cli list | head -1"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stderr == "" and "algorithm" in done.stdout


def test_a_file_names_the_algorithm_and_the_environment(capsys, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("algorithm: ppo\nenv: FrozenLake-v1\nenv-arg: {map_name: 8x8}\nsteps: 1e3\n")
    assert told(capsys, "train", "--config", str(file), "--steps", "0") == STEPS
    file.write_text("algorithm: 3\nenv: jax:CartPole-v1\n")
    assert "algorithm must be a name, not 3" in told(capsys, "train", "--config", str(file))
    values = {"algorithm": "ppo", "env": "jax:CartPole-v1", "steps": 0, "run_id": "a"}
    file = tmp_path / "config.json"
    file.write_text(json.dumps(values | {"settings": {"hidden": [8]}, "versions": {"jax": "1"}}))
    assert told(capsys, "train", "--config", str(file)) == STEPS


@pytest.mark.parametrize("out", ["a" * 256, "a\0b", "x/" + "é" * 200])
def test_paths_that_no_file_system_has(out: str) -> None:
    for use in (
        lambda: parl.train("ppo", "jax:CartPole-v1", out, quiet=True, steps=64),
        lambda: parl.resume(out),
        lambda: parl.evaluate(out),
        lambda: parl.load(out),
    ):
        with pytest.raises(ConfigError):
            use()


def test_values_of_the_python_face(tmp_path: Path) -> None:
    bad: dict[str, Any]
    for bad in ({"episodes": 0}, {"episodes": "3"}, {"seed": -1}, {"max_steps": 0}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            parl.evaluate(tmp_path, **bad)
