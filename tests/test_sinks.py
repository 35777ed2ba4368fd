"""Trackers: each step once, also over a resume; a failing one does not end the run."""

import csv
import json
import sqlite3
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from small import SMALL

import parl
from parl.core.errors import MissingPackage
from parl.report.sinks import Sink, Tracker, numbers
from parl.report.wandb_record import entries, steps_in

QUIET: dict[str, Any] = SMALL | {"quiet": True}


def test_numbers_of_a_line() -> None:
    line = {"env_steps": 8, "loss": 1.5, "name": "x", "ok": True, "none": None, "r": [1, 2.5]}
    assert numbers(line) == {"loss": 1.5, "r/0": 1.0, "r/1": 2.5}


class Recorder:
    """A tracker that keeps what it is given."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, float]] = []
        self.began: list[dict] = []
        self.closed: list[dict] = []

    def begin(self, config: dict, path: Path, state: dict) -> Tracker:
        self.began.append(dict(state))
        state.setdefault("id", "one")
        write = lambda line, steps: self.lines.append((steps, line["loss"]))
        return Tracker(write, self.closed.append)


def test_each_step_is_written_once_over_a_resume(tmp_path: Path) -> None:
    recorder, told = Recorder(), {"path": str(tmp_path), "config": {}}
    first = Sink("csv", recorder.begin)  # a name that can be imported
    first.on_start(told)
    assert not recorder.began and not list(tmp_path.iterdir())  # nothing before there is a line
    for steps in (8, 16, 24):
        first.on_record({"env_steps": steps, "loss": steps / 2})
    again = Sink("csv", recorder.begin)  # the process was killed; the checkpoint is of step 8
    again.on_start(told)
    for steps in (16, 24, 32):
        again.on_record({"env_steps": steps, "loss": steps / 2})
    again.on_end({"return_mean": 7.0, "env_steps": 32})
    assert recorder.lines == [(8, 4.0), (16, 8.0), (24, 12.0), (32, 16.0)]
    assert recorder.began == [{"env_steps": -1}, {"env_steps": 24, "id": "one"}]
    assert recorder.closed == [{"return_mean": 7.0}]


def test_lines_that_a_killed_process_lost_are_written_again(tmp_path: Path) -> None:
    recorder, steps = Recorder(), (8, 16, 24, 32)
    lines = [{"env_steps": each, "loss": each / 2} for each in steps]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    (tmp_path / "csv.json").write_text('{"env_steps": 24}')

    def begin(config: dict, path: Path, state: dict) -> Tracker:
        state["env_steps"] = 8  # all that the tracker has on its disk
        return recorder.begin(config, path, state)

    sink = Sink("csv", begin)
    sink.on_start({"path": str(tmp_path), "config": {}})
    sink.on_record(lines[3])
    assert recorder.lines == [(16, 8.0), (24, 12.0), (32, 16.0)]


def test_entries_of_a_record_that_was_broken_off() -> None:
    piece = lambda kind, data: struct.pack("<IHB", 0, len(data), kind) + data
    start = b":W&B" + bytes(3) + piece(1, b"one")
    room = 32_768 - len(start) - 7 - 7
    begun = piece(2, b"a" * (room + 4))  # three bytes are left in the block: no head fits
    rest = bytes(3) + piece(3, b"b" * 5) + piece(4, b"c") + piece(1, b"two") + piece(1, b"lost")
    found = list(entries((start + begun + rest)[:-1]))
    assert len(start + begun) == 32_768 - 3
    assert found == [b"one", b"a" * (room + 4) + b"bbbbbc", b"two"]


@pytest.mark.slow
def test_wandb_has_each_step_once_after_a_kill(tmp_path: Path) -> None:
    """Its service writes to the disk every 15 s, and a kill loses what came since."""
    pytest.importorskip("wandb")
    words = [sys.executable, "-W", "ignore", "-m", "parl.cli"]
    flags = "--steps 80000 --num-envs 2 --length 8 --minibatches 1 --epochs 1 --hidden 4 --quiet"
    run = tmp_path / "run"
    train = [*words, "train", "ppo", "--env", "jax:CartPole-v1", *flags.split()]
    train += ["--eval-episodes", "0", "--log", "wandb", "--out", str(run)]
    metrics = run / "metrics.jsonl"
    first = subprocess.Popen(train)
    while not (metrics.exists() and len(metrics.read_text().splitlines()) >= 35):
        assert first.poll() is None
        time.sleep(0.02)
    first.kill()
    first.wait()
    subprocess.run([*words, "resume", str(run), "--quiet"], check=True)
    files = sorted((run / "wandb").glob("offline-run-*/*.wandb"))
    found = [step for file in files for step in steps_in(entries(file.read_bytes()))]
    assert len(files) == 2
    assert found == [json.loads(line)["env_steps"] for line in metrics.read_text().splitlines()]


def test_a_tracker_that_fails_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def begin(config: dict, path: Path, state: dict) -> Tracker:
        raise OSError("no network")

    sink = Sink("csv", begin)
    sink.on_start({"path": str(tmp_path), "config": {}})
    for steps in (8, 16):
        sink.on_record({"env_steps": steps, "loss": 1.0})
    sink.on_end({})
    assert capsys.readouterr().err.count("csv failed and gets no more lines (OSError: no net") == 1


def test_csv_and_a_package_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = parl.train("ppo", "jax:CartPole-v1", tmp_path / "run", log=("csv",), **QUIET)
    rows = list(csv.DictReader((run.path / "metrics.csv").open()))
    lines = [json.loads(x) for x in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert (
        [int(r["env_steps"]) for r in rows] == [x["env_steps"] for x in lines] == [16, 32, 48, 64]
    )
    assert [float(r["value_loss"]) for r in rows] == [x["value_loss"] for x in lines]

    monkeypatch.setitem(__import__("sys").modules, "trackio", None)
    with pytest.raises(MissingPackage, match=r"pip install 'parl-jax\[trackio\]'"):
        parl.train("ppo", "jax:CartPole-v1", tmp_path / "no", log=("trackio",), **QUIET)
    assert not (tmp_path / "no").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_the_real_package_offline(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("WANDB_MODE", "WANDB_API_KEY", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pytest.importorskip(name)  # only now: trackio reads its folder when it is imported
    end = lambda line: parl.Stop("enough") if line["env_steps"] >= 32 else None
    run = parl.train(
        "ppo", "jax:CartPole-v1", tmp_path / "run", log=(name,), on_record=end, **QUIET
    )
    parl.resume(run.path, quiet=True)
    assert json.loads((run.path / f"{name}.json").read_text())["env_steps"] == 64
    if name == "wandb":
        assert len(list((run.path / "wandb").glob("offline-run-*"))) == 2  # one record, two parts
    elif name == "mlflow":
        rows = sqlite3.connect(run.path / "mlflow.db").execute(
            "select step, value from metrics where key = 'value_loss' order by step"
        )
        lines = [json.loads(x) for x in (run.path / "metrics.jsonl").read_text().splitlines()]
        assert rows.fetchall() == [(x["env_steps"], x["value_loss"]) for x in lines]
    else:
        (database,) = (tmp_path / "trackio").glob("*.db")
        steps = sqlite3.connect(database).execute("select step from metrics order by step")
        assert [step for (step,) in steps] == [16, 32, 48, 64]
