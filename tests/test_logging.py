import errno
import json
import os
import struct
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from parl.core.errors import ParlError
from parl.report.metrics import RunLog, plain, read_metrics

PROTOCOL: Any = event_pb2  # its classes are made when it is imported


def events(directory):
    """All events below a directory, by file and in order, parsed from their TFRecords."""
    for path in sorted((directory / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            yield PROTOCOL.Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]


def scalars(directory):
    return [
        (event.step, {v.tag: v.simple_value for v in event.summary.value})
        for event in events(directory)
        if event.HasField("summary") and not event.summary.value[0].HasField("tensor")
    ]


def test_plain():
    record = {
        "z": np.float32(0.5),
        "a": jnp.float32(2),
        "nan": float("nan"),
        "inf": np.float64("-inf"),
        "per_seed": jnp.array([1.5, jnp.nan]),
        "bf16": jnp.array(0.25, jnp.bfloat16),
        "count": np.int64(3),
        "flag": np.bool_(True),
        "nested": {"x": (1, np.zeros((1, 2), np.int32))},
        "text": "sac",
        "none": None,
    }
    expected = (
        '{"z": 0.5, "a": 2.0, "nan": null, "inf": null, "per_seed": [1.5, null], "bf16": 0.25, '
        '"count": 3, "flag": true, "nested": {"x": [1, [[0, 0]]]}, "text": "sac", "none": null}'
    )
    assert json.dumps(plain(record), allow_nan=False) == expected


def test_every_write_is_a_complete_line(tmp_path):
    log = RunLog(tmp_path / "new" / "run", tensorboard=False)
    log.write({"env_steps": np.int32(8), "loss": jnp.float32(0.5)})
    log.write({"env_steps": 16, "loss": float("nan")})
    text = (tmp_path / "new" / "run" / "metrics.jsonl").read_text()
    assert text == '{"env_steps": 8, "loss": 0.5}\n{"env_steps": 16, "loss": null}\n'
    assert read_metrics(tmp_path / "new" / "run") == [
        {"env_steps": 8, "loss": 0.5},
        {"env_steps": 16, "loss": None},
    ]
    assert not (tmp_path / "new" / "run" / "tensorboard").exists()


def test_a_new_run_starts_an_empty_file(tmp_path):
    RunLog(tmp_path, tensorboard=False).write({"env_steps": 8})
    RunLog(tmp_path, tensorboard=False)
    assert read_metrics(tmp_path) == []


def test_resume_drops_later_lines_and_a_torn_one(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"env_steps": 8, "x": 0.1}\n{"env_steps": 16}\n{"env_steps": 24}\n{"env_st')
    assert [r["env_steps"] for r in read_metrics(path)] == [8, 16, 24]
    log = RunLog(tmp_path, resume_from=16, tensorboard=False)
    assert path.read_text() == '{"env_steps": 8, "x": 0.1}\n{"env_steps": 16}\n'
    log.write({"env_steps": 24, "again": True})
    assert read_metrics(path)[2:] == [{"env_steps": 24, "again": True}]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_resume_where_nothing_was_logged(tmp_path):
    RunLog(tmp_path, resume_from=0, tensorboard=False)
    assert read_metrics(tmp_path) == []
    assert read_metrics(tmp_path / "missing.jsonl") == []


def test_damage_in_the_middle_is_an_error(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"env_steps": 8}\n\xff\x00\n{"env_steps": 24}\n')
    with pytest.raises(ParlError, match="line 2 is not JSON"):
        read_metrics(path)


def test_tensorboard_mirrors_scalars(tmp_path):
    log = RunLog(tmp_path)
    log.write({"env_steps": 8, "wall_s": 0.5, "loss": None, "return_mean_seeds": [1, 2]})
    log.write({"env_steps": 16, "eval/return_mean": jnp.float32(455), "updates": 3})
    log.close()
    assert scalars(tmp_path) == [
        (8, {"time/wall_s": 0.5, "train/return_mean/seed 0": 1.0, "train/return_mean/seed 1": 2.0}),
        (16, {"eval/return_mean": 455.0, "train/updates": 3.0}),
    ]
    version, session, *_ = events(tmp_path)
    assert version.file_version == "brain.Event:2"
    assert session.step == 0 and session.session_log.status == PROTOCOL.SessionLog.START


def test_tensorboard_is_told_the_settings(tmp_path):
    log = RunLog(tmp_path, settings={"gamma": 0.9, "hidden": (8,)}, seeds=(4, 5))
    log.write({"env_steps": 8, "loss": 1.5, "loss_seeds": [1, 2]})
    log.close()
    told = [v for e in events(tmp_path) for v in e.summary.value if v.HasField("tensor")]
    assert [v.metadata.plugin_data.plugin_name for v in told] == ["text"]
    text = told[0].tensor.string_val[0].decode()
    assert text.splitlines()[2:] == ["| gamma | 0.9 |", "| hidden | (8,) |"]
    assert scalars(tmp_path)[-1] == (
        8, {"train/loss": 1.5, "train/loss/seed 4": 1.0, "train/loss/seed 5": 2.0}
    )  # fmt: skip


def test_tensorboard_is_told_where_a_run_resumes(tmp_path):
    log = RunLog(tmp_path)
    log.write({"env_steps": 8, "x": 1})
    log.write({"env_steps": 16, "x": 2})
    log.close()
    log = RunLog(tmp_path, resume_from=8)
    log.write({"env_steps": 16, "x": 3})
    log.close()
    assert scalars(tmp_path) == [(8, {"train/x": 1}), (16, {"train/x": 2}), (16, {"train/x": 3})]
    assert [e.step for e in events(tmp_path) if e.HasField("session_log")] == [0, 9]


def test_a_full_disk_is_one_sentence(tmp_path):
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    log = RunLog(tmp_path)
    with pytest.raises(ParlError, match=r"metrics\.jsonl: No space left on device; earlier"):
        log.write({"env_steps": 8})
    log.close()


def test_a_full_disk_under_tensorboard(tmp_path, monkeypatch):
    log = RunLog(tmp_path)
    log.write({"env_steps": 8, "x": 1})
    monkeypatch.setattr("parl.report.metrics.FLUSH_S", 0)

    def fail():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert log.mirror is not None
    monkeypatch.setattr(log.mirror.events, "flush", fail)
    with pytest.raises(ParlError, match="tensorboard: No space left on device"):
        log.write({"env_steps": 16, "x": 1})
    assert [r["env_steps"] for r in read_metrics(tmp_path)] == [8, 16]
    log.close()


def test_an_impossible_directory(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ParlError, match="Not a directory"):
        RunLog(tmp_path / "file" / "run")
