"""parl.export, Agent.save_inference_model, parl export and parl check, on a saved agent."""

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import parl
from parl.cli import main
from parl.core.errors import ArtefactError
from parl.deploy import parity


@pytest.fixture(scope="module")
def agent() -> parl.Agent:
    return parl.Agent.make("ppo", "jax:CartPole-v1", hidden=(8, 8))


def test_an_agent_leaves_and_acts_as_before(agent: parl.Agent, tmp_path: Path) -> None:
    stablehlo = ("stablehlo",) * (importlib.util.find_spec("flatbuffers") is not None)
    path = agent.save_inference_model(tmp_path / "policy", to=stablehlo, episodes=2)
    actor = parl.Policy.load(path)
    obs = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    assert (actor.act(obs)[0] == agent.predict(obs)).all()
    report = json.loads((path / "parity.json").read_text())
    assert report["forms"].keys() == {"numpy", *stablehlo}
    for form in report["forms"].values():
        assert form["recorded"]["observations"] == 1000 and form["adversarial"]["unequal"] == 0
        assert form["returns"] == report["jax"]  # the same episodes, move for move
    told = json.loads((path / "contract.json").read_text())
    assert told["provenance"]["algorithm"] == "ppo" and told["environment"]["max_steps"] == 500
    assert "Policy.load" in (path / "README.md").read_text()


def test_the_command_and_its_exit_codes(
    agent: parl.Agent, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    saved, out = str(agent.save(tmp_path / "agent")), str(tmp_path / "policy")
    assert main(["export", saved, "--out", out, "--episodes", "0"]) == 0
    said = capsys.readouterr().out
    equal = re.search(r"numpy: 1,100 observations, .* ([\d,]+) of ([\d,]+) choices equal", said)
    assert equal is not None and equal[1] == equal[2]
    assert main(["check", out]) == 0
    assert "numpy: 256 samples as when it was written." in capsys.readouterr().out
    (tmp_path / "policy" / "README.md").write_text("other")
    assert main(["check", out]) == 1
    assert "FAILED: README.md is damaged" in capsys.readouterr().out
    monkeypatch.setattr(parity, "TOLERANCE", -1.0)
    monkeypatch.setattr(parity.Difference, "passes", property(lambda self: False))
    assert main(["export", saved, "--out", out, "--episodes", "0"]) == 1
    assert "FAILED: numpy: action differs from JAX" in capsys.readouterr().out
    with pytest.raises(ArtefactError, match="does not act as this agent"):
        agent.save_inference_model(out, episodes=0)
    assert main(["export", saved, "--to", "tensorrt"]) == 2
    assert main(["export", saved, "--weights", "int3"]) == 2
    assert main(["check", saved]) == 2
