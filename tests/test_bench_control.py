"""The speed comparison of control algorithms: that its settings are equal, and its arithmetic."""

import argparse
import json
import sys
from pathlib import Path

import pytest
from benches import after, compare, load, settings

from parl.runs.build import resolve
from parl.runs.config import RunConfig


@pytest.fixture(scope="module")
def pairs():
    arguments = argparse.Namespace(sbx="python", env="HalfCheetah-v5", width=64, steps=600)
    return load("control").pairs(arguments)


@pytest.mark.parametrize("algorithm", ["sac", "td3", "tqc", "crossq", "droq"])
def test_both_sides_have_the_same_networks_and_updates(pairs, algorithm: str) -> None:
    (name,) = [name for name in pairs if name.startswith(algorithm) and name.endswith(": SBX")]
    ours, other, _ = pairs[name]
    length, updates = int(after(ours, "--length")[0]), int(after(ours, "--updates")[0])
    given = settings(ours) | {"length": length, "updates": updates}
    recipe = resolve(RunConfig(algorithm, "HalfCheetah-v5", settings=given)).recipe.settings()
    assert recipe["hidden"] == recipe.get("actor_hidden", (64, 64)) == (64, 64)
    place = other.index("--hidden")
    assert other[place + 1 : place + 3] == ["64", "64"]
    assert recipe["num_critics"] == 2 and recipe["batch_size"] == 256
    assert [int(after(other, flag)[0]) for flag in ("--train-freq", "--gradient-steps")] == [
        length, updates,
    ]  # fmt: skip
    delay = after(other, "--policy-delay") or ["1"]
    assert recipe["policy_period"] == int(delay[0])
    assert after(ours, "--steps") == after(other, "--steps")


def test_a_ratio_is_the_median_of_pairs(capsys, tmp_path: Path) -> None:
    def reporter(name: str, rates: list[float]) -> list[str]:
        """A command that reports another rate each time it runs."""
        (tmp_path / name).write_text(json.dumps(rates))
        code = (
            "import json, pathlib, sys; file = pathlib.Path(sys.argv[1]);"
            "rate, *rest = json.loads(file.read_text()); file.write_text(json.dumps(rest));"
            "print('noise'); print(json.dumps({'steps_per_second': rate, 'updates_per_second': 5}))"
        )
        return [sys.executable, "-c", code, str(tmp_path / name)]

    pair = reporter("a", [300.0, 100.0, 200.0]), reporter("b", [100.0, 50.0, 50.0]), 1.5
    lines = compare.measure({"ours : theirs": pair, "another": ([], [], 0.0)}, "theirs", 3)
    assert lines[2:] == ["| ours : theirs | 200 | 50 | 3.00 (2.00-4.00) | 1.5 | 200.00 : 200.00 |"]
    assert capsys.readouterr().out.splitlines() == lines


def test_a_command_that_fails_says_why() -> None:
    with pytest.raises(SystemExit, match=r"failed:\n.*no such thing"):
        compare.report([sys.executable, "-c", "raise SystemExit('no such thing')"])
