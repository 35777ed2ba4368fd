"""Hubs: what is pushed is whole, has a card, acts as before, and is verified when it is pulled."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import parl
from parl.cli import main
from parl.core import checkpoint
from parl.core.errors import ConfigError, StoreError
from parl.core.yaml_text import parse_yaml
from parl.deploy import hub
from parl.deploy.card import card, told_return
from parl.runs.directory import RunDir
from parl.runs.told import command

pytest.importorskip("fsspec")


OLD = Path(__file__).parents[1] / "data" / "runs" / "ppo-fused"
RESULT = {
    "seeds": [3],
    "env_steps": 512,
    "episodes": 3,
    "of": "evaluation",
    "return": {"mean": 21.5, "low": 18.25, "high": 24.75, "over": "3 episodes", "seeds": [21.5]},
    "params_sha256": "0123abc",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = Path(shutil.copytree(OLD, tmp_path_factory.mktemp("hub") / "cartpole"))
    (place / "result.json").write_text(json.dumps(RESULT))
    (place / "curve.png").write_bytes(b"a picture")
    return place


@pytest.fixture
def pushed(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Path(hub.push(run, tmp_path / "zoo"))


def test_a_run_acts_the_same_from_a_hub_and_once_pulled(
    run: Path, pushed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pushed == tmp_path / "zoo/cartpole"
    assert main(["hub", "pull", f"file://{pushed}", "--out", str(tmp_path / "mine")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "mine")
    obs = np.array([0.1, -0.2, 0.3, -0.4], np.float32)
    acted = [
        parl.load(place).predict(obs) for place in (run, f"file://{pushed}", tmp_path / "mine")
    ]
    assert acted[0] == acted[1] == acted[2]
    assert main(["hub", "list", str(tmp_path / "zoo")]) == 0
    line = capsys.readouterr().out.splitlines()[1].split()
    assert line[:5] == ["cartpole", "run", "ppo", "jax:CartPole-v1", "512"]
    assert hub.entries(tmp_path / "zoo")["cartpole"]["checkpoint"] == 512


def test_what_is_pushed_is_not_copied_to_the_store_of_the_run(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mine = Path(shutil.copytree(run, tmp_path / "mine"))
    config = dataclasses.replace(RunDir(mine).config(), store="s3://bucket/mine")
    RunDir(mine).write_config(config)
    there = hub.push(mine, tmp_path / "zoo")
    assert RunDir(there).config() == dataclasses.replace(config, store="")
    with pytest.raises(ConfigError, match="is in a hub, which stays as it is"):
        parl.resume(f"file://{there}")


def test_the_card_says_what_it_is(run: Path, pushed: Path) -> None:
    text = (pushed / "README.md").read_text()
    _, header, body = text.split("---\n", 2)
    told = parse_yaml(header)
    metric = told["model-index"][0]["results"][0]["metrics"][0]
    assert metric["value"] == 21.5
    assert told["tags"] == ["reinforcement-learning", "ppo", "jax:CartPole-v1"]
    for part in (
        "# ppo on jax:CartPole-v1",
        "![curve](curve.png)",
        "Return 21.5 after 512 steps, 95 % interval 18.25 to 24.75 over 3 greedy episodes.",
        "parl train ppo --env jax:CartPole-v1 --steps 1024 --seed 3 ",
        " --eval-episodes 1 ",
        " --hidden 8",
        "`0123abc`",
        "| jax | ",
    ):
        assert part in body


def test_nothing_is_replaced_unasked_and_old_files_go(run: Path, pushed: Path) -> None:
    with pytest.raises(ConfigError, match="is there already: choose another --name"):
        hub.push(run, pushed.parent)
    folder = run / "checkpoints"
    other = checkpoint.read(folder / "512")
    checkpoint.save(folder / "1024", other.arrays, other.meta | {"env_steps": 1024})
    hub.push(run, pushed.parent, replace=True)
    (pushed.parent / "stray").mkdir()
    left = sorted(path.parent.name for path in pushed.glob("checkpoints/*/manifest.json"))
    assert left == ["1024"]
    assert hub.entries(pushed.parent)["cartpole"]["checkpoint"] == 1024
    shutil.rmtree(folder / "1024")


def test_damage_and_strange_names_are_one_sentence(pushed: Path, tmp_path: Path) -> None:
    arrays = pushed / "checkpoints/512/arrays.bin"
    data = bytearray(arrays.read_bytes())
    data[5] ^= 1
    arrays.write_bytes(data)
    with pytest.raises(StoreError, match=r"arrays\.bin is damaged: its sha256 is another one"):
        hub.pull(pushed, tmp_path / "mine")
    arrays.write_bytes(data[:-1])
    with pytest.raises(StoreError, match="is not there in its full length"):
        hub.pull(pushed, tmp_path / "mine")
    told = json.loads((pushed / "files.json").read_text())
    told["files"]["../outside"] = {"bytes": 0, "sha256": ""}
    (pushed / "files.json").write_text(json.dumps(told))
    with pytest.raises(StoreError, match=r"it names '\.\./outside'"):
        hub.pull(pushed, tmp_path / "mine")
    assert not (tmp_path / "mine").exists()
    with pytest.raises(ConfigError, match=r"is in no hub: it has no files\.json"):
        hub.pull(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="is neither a run nor an exported policy"):
        hub.push(tmp_path, tmp_path / "zoo")
    with pytest.raises(ConfigError, match="is no name for a folder"):
        hub.push(pushed, tmp_path / "zoo", name="../x")


@pytest.mark.slow
def test_a_policy_is_pushed_as_it_is(run: Path, tmp_path: Path) -> None:
    made = parl.export(run, tmp_path / "policy", episodes=0)
    place = hub.push(made.path, tmp_path / "zoo", name="small")
    shutil.rmtree(made.path)
    back = parl.Policy.load(hub.pull(place, tmp_path / "back"))
    obs = np.array([0.1, -0.2, 0.3, -0.4], np.float32)
    assert back.act(obs)[0] == parl.load(run).predict(obs)
    assert hub.entries(tmp_path / "zoo")["small"]["kind"] == "policy"


def test_returns_in_words() -> None:
    of = {"mean": 480.0, "low": 470.5, "high": 489.5, "over": "3 seeds", "seeds": [1, 2, 3]}
    about = {"return": of, "env_steps": 100_000, "of": "evaluation", "episodes": 20}
    assert told_return(about | {"seeds": [0, 1, 2]}) == (
        "Return 480 after 100,000 steps, 95 % interval 470.5 to 489.5 over 3 seeds, 20 greedy "
        "episodes each."
    )
    assert told_return(about | {"return": None}) == "Its return was not measured."
    bare = {"kind": "policy", "algorithm": None, "env": None, "return": None, "command": None}
    assert "parl.Policy.load" in card("x", bare | {"versions": {}, "params_sha256": None}, ())


def test_a_command_has_what_differs() -> None:
    config = {
        "algorithm": "ppo",
        "env": "jax:CartPole-v1",
        "steps": 1000,
        "eval_every": 100,  # as a run fills it in
        "execution": "fused",
        "mode": "sync",
        "eager": True,
        "log": ["csv"],
        "log_info": "a b",
    }
    assert command(config) == (
        "parl train ppo --env jax:CartPole-v1 --steps 1000 --log-info 'a b' --log csv --eager"
    )
