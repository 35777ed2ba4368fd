"""Population-based training: who goes on from whom, with which settings, and from where."""

import json
from pathlib import Path

import numpy as np
import pytest
from small import SMALL

import parl
from parl.core.errors import ConfigError
from parl.studies.population import FACTORS, perturbed, planned
from parl.studies.space import Choices, Range

SPACE = {"rate": Range(1e-4, 1e-2, True), "kind": Choices(("a", "b"))}


def test_the_worst_quarter_goes_on_from_the_best() -> None:
    scores = np.array([5.0, 1.0, np.nan, 9.0, 8.0, 3.0, 2.0, 4.0])
    members = [{"rate": 1e-3 * (i + 1), "kind": "ab"[i % 2]} for i in range(8)]
    found = planned(SPACE, members, scores, np.random.default_rng(0))
    assert [each.member for each in found] == [2, 1]  # no score at all is worst
    assert {each.donor for each in found} <= {3, 4}
    for each in found:
        rate = members[each.donor]["rate"]
        assert any(each.settings["rate"] == pytest.approx(rate * f, rel=1e-5) for f in FACTORS)


def test_settings_stay_in_their_ranges() -> None:
    random = np.random.default_rng(0)
    drawn = [perturbed(SPACE, {"rate": 1e-2, "kind": "a"}, random) for _ in range(400)]
    assert {each["rate"] for each in drawn} == {8e-3, 1e-2}  # 1.25e-2 is beyond
    share = sum(each["kind"] == "b" for each in drawn) / 400
    assert 0.07 < share < 0.18  # a quarter is drawn anew, half of that is the other


def test_a_population_is_runs_of_full_length(tmp_path: Path) -> None:
    small = SMALL | {"steps": 128, "eval_episodes": 1}
    call = lambda: parl.sweep(
        "ppo",
        "jax:CartPole-v1",
        "learning_rate=1e-4:1e-2:log",
        4,
        tmp_path / "s",
        True,
        pbt=2,
        **small,
    )
    study = call()
    state = json.loads((tmp_path / "s" / "population.json").read_text())
    (exploit,) = state["exploits"]
    assert exploit["part"] == 1 and exploit["member"] != exploit["donor"]
    assert [trial.result["env_steps"] for trial in study.trials] == [128] * 4
    rates = [trial.settings["learning_rate"] for trial in study.trials]
    configs = [json.loads((t.path / "config.json").read_text()) for t in study.trials]
    assert [config["settings"]["learning_rate"] for config in configs] == rates
    donor, heir = rates[exploit["donor"]], rates[exploit["member"]]
    assert any(heir == pytest.approx(min(max(donor * f, 1e-4), 1e-2), rel=1e-5) for f in FACTORS)
    lines = (study.trials[exploit["member"]].path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["env_steps"] for line in lines] == list(range(16, 129, 16))
    assert call().trials == study.trials  # nothing is left to do
    with pytest.raises(ConfigError, match="at least 4 members"):
        parl.sweep(
            "ppo", "jax:CartPole-v1", "gamma=0.9,0.99", None, tmp_path / "t", True, pbt=2, **small
        )
