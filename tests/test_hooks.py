"""Hooks get plain values, change nothing of what is learned, and may end a run."""

import importlib
import json
from typing import Any

import pytest
from small import SMALL

import parl
from parl.cli import main
from parl.core.errors import ConfigError
from parl.runs.hooks import HookError, Hooks, Stop, loaded, stop_at, tell

TINY: dict[str, Any] = SMALL | {
    "env": "jax:CartPole-v1",
    "eval_every": 32,
    "eval_episodes": 2,
    "quiet": True,
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return parl.train("ppo", out=tmp_path_factory.mktemp("plain") / "run", **TINY)


def test_a_run_tells_what_it_does_and_learns_the_same(plain, tmp_path):
    told = []
    names = "on_start", "on_record", "on_evaluation", "on_checkpoint", "on_end"
    hooks: dict[str, Any] = {
        name: lambda values, name=name: told.append((name, values)) for name in names
    }
    run = parl.train("ppo", out=tmp_path / "run", **TINY, **hooks)
    assert run.result["params_sha256"] == plain.result["params_sha256"]
    assert told[0][0] == "on_start" and told[0][1]["config"]["algorithm"] == "ppo"
    assert told[-1] == ("on_end", run.result)
    lines = [json.loads(x) for x in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [x["env_steps"] for name, x in told if name == "on_record"] == [
        line["env_steps"] for line in lines
    ]
    evaluations = [x for name, x in told if name == "on_evaluation"]
    assert [x["env_steps"] for x in evaluations] == [32, 64]
    assert evaluations[-1]["return"] == run.result["return"]
    assert {x["env_steps"] for name, x in told if name == "on_checkpoint"} == {0, 32, 64}
    json.dumps([values for _, values in told if _ != "on_start"])  # plain values


def test_a_hook_ends_a_run_that_can_be_resumed(plain, tmp_path):
    end = lambda values: parl.Stop("enough") if values["env_steps"] >= 32 else None
    run = parl.train("ppo", out=tmp_path / "run", **TINY, on_evaluation=end)
    assert (run.result["stopped"], run.result["env_steps"]) == ("enough", 32)
    more = parl.resume(run.path, quiet=True)
    assert "stopped" not in more.result
    assert more.result["params_sha256"] == plain.result["params_sha256"]


def test_a_run_ends_at_the_end_of_its_warm_up(tmp_path):
    """Nothing is compiled for learning that does not come."""
    small: dict[str, Any] = {
        "warmup": 32,
        "length": 8,
        "updates": 1,
        "capacity": 64,
        "batch_size": 8,
    }
    run = parl.train(
        "dqn",
        "jax:CartPole-v1",
        out=tmp_path / "run",
        **small,
        hidden=(8,),
        steps=64,
        eval_every=32,
        eval_episodes=1,
        quiet=True,
        on_evaluation=lambda values: Stop("enough"),
    )
    assert (run.result["env_steps"], run.result["updates"]) == (32, 0)


def test_what_a_hook_raises_ends_the_run_saved(plain, tmp_path):
    def fails(line):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        parl.train("ppo", out=tmp_path / "run", **TINY, on_record=fails)
    more = parl.resume(tmp_path / "run", quiet=True)
    assert more.result["params_sha256"] == plain.result["params_sha256"]


def test_settings_end_and_log_a_run(tmp_path, monkeypatch, capsys):
    (tmp_path / "own_sink.py").write_text(
        "lines = []\ndef take(line): lines.append(line)\ndef bad(line): 1 / 0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    small = [
        x
        for name, value in TINY.items()
        if name not in ("hidden", "quiet")
        for x in (f"--{name.replace('_', '-')}", str(value))
    ]
    flags = ["train", "ppo", *small, "--hidden", "4", "--quiet", "--log", "own_sink:take"]
    assert main([*flags, "--out", "a", "--stop-at", "1"]) == 0
    own_sink = importlib.import_module("own_sink")

    assert [line["env_steps"] for line in own_sink.lines][-1] == 32
    assert "ended early: the return" in capsys.readouterr().out
    assert main([*flags, "--out", "b", "--log", "own_sink:bad"]) == 1
    assert "own_sink:bad raised ZeroDivisionError" in capsys.readouterr().err
    assert main([*flags, "--out", "c", "--max-hours", "1e-9"]) == 0
    assert "hours are over" in capsys.readouterr().out
    assert main([*flags, "--out", "d", "--log", "own_sink:nothing"]) == 2


def test_hooks_are_checked():
    with pytest.raises(ConfigError, match="on_record must be a function"):
        Hooks(on_record=3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="must name a function"):
        loaded("log", "parl:__version__")
    with pytest.raises(ConfigError, match=r"resume takes no .on_recrd.\. Did you mean on_record"):
        parl.resume("nowhere", on_recrd=print)
    with pytest.raises(HookError, match="raised"):
        loaded("log", "builtins:int")({"a": 1})  # pyright: ignore[reportOptionalCall]


def test_the_first_reason_counts_and_all_are_told():
    told = []
    hooks = [
        Hooks(on_end=lambda values: Stop("first")),
        Hooks(on_end=told.append),
        Hooks(on_end=lambda values: Stop("second")),
    ]
    assert tell(hooks, "on_end", {"a": 1}).reason == "first" and told == [{"a": 1}]
    assert tell(hooks, "on_start", {}) == ("", {}, {})
    assert stop_at(1.0, {"return": None}) is None
    assert stop_at(1.0, {"return": {"mean": 0.5}}) is None
    assert isinstance(stop_at(1.0, {"return": {"mean": 1.0}}), Stop)
