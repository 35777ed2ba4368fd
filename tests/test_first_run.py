"""The commands of the first run, printed in the documentation, in short form."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from parl.cli import main

PAGE = Path(__file__).parents[1] / "docs" / "start" / "quickstart.md"
SHORT = {"--steps": "1024", "--num-trials": "2", "--episodes": "2", "--num-seeds": "2"}


def commands() -> list[list[str]]:
    """The words of each command, in their order."""
    blocks = re.findall(
        r"^<!-- path -->\n```sh\n(.*?)```", PAGE.read_text(), re.DOTALL | re.MULTILINE
    )
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def shortened(words: list[str]) -> list[str]:
    """A command with few steps, trials and episodes."""
    pairs = zip(["", *words], words, strict=False)
    return [SHORT.get(before, word) for before, word in pairs]


def test_the_first_run_has_at_most_twelve_commands() -> None:
    assert 8 <= len(commands()) <= 12
    assert all(words[0] == "parl" for words in commands())
    verbs = {words[1] for words in commands()}
    assert verbs >= {"train", "compare", "tune", "export", "video", "demo"}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("node") is None, reason="the form js is compared in node")
def test_the_first_run_ends_with_a_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna")
    monkeypatch.chdir(tmp_path)
    for words in commands():
        assert main(shortened(words[1:])) == 0, shlex.join(words)
    for picture in (
        "told/curves.png",
        "studies/rates/sweep.png",
        "runs/ppo/curve.png",
        "tuned.gif",
    ):
        assert (tmp_path / picture).stat().st_size > 1_000
    found = json.loads((tmp_path / "told" / "compare.json").read_text())
    assert found["groups"] == ["ppo", "a2c"]
    assert (tmp_path / "runs/tuned/policy/contract.json").is_file()
    assert "<html" in (tmp_path / "index.html").read_text()
