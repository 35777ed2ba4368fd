"""The examples run, and a package outside of this repository adds what is its own."""

import importlib
import importlib.metadata
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import parl
from parl.cli import main

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


@pytest.mark.slow
def test_the_example_trains_in_every_execution_and_is_resumed(tmp_path):
    script = (
        f"from own_algorithm import main; main(__import__('pathlib').Path({str(tmp_path)!r}), 2048)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(EXAMPLES)])}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("resumed: a return of") == 3
    config = json.loads((tmp_path / "ray" / "config.json").read_text())
    assert config["algorithm"] == "own_algorithm:Recipe" and config["steps"] == 4096


def run_example(name: str, out: Path, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """The `main` of an example, in this process."""
    monkeypatch.syspath_prepend(EXAMPLES)
    importlib.import_module(name).main(out, steps)


def test_every_example_is_run_by_a_test():
    here = Path(__file__).read_text()
    for file in EXAMPLES.glob("*.py"):
        assert f'"{file.stem}"' in here or f"from {file.stem} import main" in here, file


@pytest.mark.slow
def test_own_model(tmp_path, monkeypatch, capsys):
    run_example("own_model", tmp_path / "run", monkeypatch, 1_024)
    said = capsys.readouterr().out
    assert said.startswith("a return of ") and "an action: " in said


@pytest.mark.slow
def test_own_environment(tmp_path, monkeypatch, capsys):
    run_example("own_environment", tmp_path, monkeypatch, 16_384)
    nothing, fused, host = capsys.readouterr().out.splitlines()
    assert nothing == "nothing is wrong with it"
    assert fused == "fused: a return of 0.93 of 0.93" and host == "host: a return of 0.93 of 0.93"


@pytest.mark.slow
def test_curriculum(tmp_path, monkeypatch, capsys):
    run_example("curriculum", tmp_path / "run", monkeypatch, 200_000)
    assert capsys.readouterr().out.startswith("the longest corridor is learned after ")


@pytest.mark.slow
def test_several_agents(tmp_path, monkeypatch, capsys):
    run_example("several_agents", tmp_path, monkeypatch, 8_192)
    said = capsys.readouterr().out
    assert said.startswith("team: -") and "long: " in said and "short" in said


@pytest.mark.slow
def test_from_data(tmp_path, monkeypatch, capsys):
    pytest.importorskip("h5py")
    run_example("from_data", tmp_path, monkeypatch, 2_000)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()][-1] == "online"


@pytest.mark.slow
def test_on_ray(tmp_path):
    """In a process of its own, as its workers have to find the example."""
    script = f"from on_ray import main; main(__import__('pathlib').Path({str(tmp_path)!r}), 4096)"
    path = os.pathsep.join([str(ROOT), str(EXAMPLES)])
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert "pi is about 3.1" in done.stdout and "although workers were killed" in done.stdout


@pytest.mark.slow
def test_deploy(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    run_example("deploy", tmp_path, monkeypatch, 2_048)
    said = capfd.readouterr().out
    assert "otherwise than JAX: none" in said and "JAX is loaded: False" in said
    assert (tmp_path / "index.html").stat().st_size > 10_000


PACKAGE = """
    from dataclasses import dataclass

    import gymnasium
    import parl
    from own_algorithm import Recipe as Base, Reinforce


    class Careful(Reinforce):
        caution: float = 0.1


    @dataclass(frozen=True)
    class Recipe(Base):
        "REINFORCE, more careful."

        algorithm: Careful = Careful()

        @classmethod
        def for_env(cls, spec):
            return cls(num_envs=4, length=16, hidden=4)


    def make(name, *, steps=20):
        return lambda: gymnasium.make(name, max_episode_steps=steps)


    def log(line):
        with open("lines.txt", "a") as file:
            file.write(f"{line['env_steps']}\\n")


    def watch(values):
        with open("watched.txt", "a") as file:
            file.write(f"{values['env_steps']}\\n")
        return {"watched": values["env_steps"]}
"""


def install(place: Path) -> None:
    """A package with a recipe, a suite, a logger and a callback, as pip leaves it."""
    (place / "cautious_lab.py").write_text(textwrap.dedent(PACKAGE))
    (place / "own_algorithm.py").write_text((EXAMPLES / "own_algorithm.py").read_text())
    info = place / "cautious_lab-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cautious-lab\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[parl.suites]\ngym = cautious_lab:make\n")


FLAGS = "--steps 128 --eval-episodes 1 --eval-every 64 --quiet --caution 0.2"
OWN = "--log cautious_lab:log --on-evaluation cautious_lab:watch"
TRAIN = f"train cautious_lab:Recipe --env gym:CartPole-v1?steps=9 {FLAGS} {OWN}"


def check(run: Path, steps: int) -> None:
    config = json.loads((run / "config.json").read_text())
    assert config["env"] == "gym:CartPole-v1?steps=9" and config["settings"]["caution"] == 0.2
    lines = [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["env_steps"] == steps == lines[-1]["user/watched"]
    assert lines[-1]["length_mean"] <= 9


def test_a_package_outside_adds_what_is_its_own(tmp_path, monkeypatch, capsys):
    install(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert importlib.metadata.version("cautious-lab") == "1.0"
    assert main([*TRAIN.split(), "--out", "host"]) == 0
    check(Path("host"), 128)
    assert main(["resume", "host", "--steps", "192", "--quiet"]) == 0
    check(Path("host"), 192)
    assert Path("watched.txt").read_text().split() == ["64", "128", "192"]
    assert Path("lines.txt").read_text().split()[-1] == "192"
    assert main(["eval", "host", "--episodes", "2"]) == 0
    loaded: Any = parl.load("host").algorithm
    assert loaded.caution == 0.2
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_a_package_outside_on_ray(tmp_path):
    """In a process of its own, as its workers have to find the package, too."""
    install(tmp_path)
    path = os.pathsep.join([str(ROOT), str(tmp_path)])
    call = lambda words: subprocess.run(
        [sys.executable, "-m", "parl.cli", *words.split()],
        env=os.environ | {"PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    for words in (
        f"{TRAIN} --actors 2 --out ray",
        "resume ray --steps 192 --quiet",
        "eval ray --episodes 1",
    ):
        done = call(words)
        assert done.returncode == 0, done.stderr
    check(tmp_path / "ray", 192)
