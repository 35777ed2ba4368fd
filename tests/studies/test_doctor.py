"""Each check of the doctor, and what breaks it."""

import shutil
from collections import namedtuple
from types import SimpleNamespace

import pytest

from parl.cli.main import main
from parl.studies import doctor
from parl.studies.doctor import BAD, GOOD, NOTE

Usage = namedtuple("Usage", "total used free")


def test_a_sound_machine(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setattr(doctor, "succeeds", lambda code, environment: True)
    code = main(["doctor", "--no-ray", "--no-speed"])
    said = capsys.readouterr().out
    assert code == 0 and "failed" not in said
    assert "MUJOCO_GL egl and osmesa work" in said and "jax " in said


def test_what_is_missing_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version_of", lambda name: "" if name == "ray" else "1.0")
    found = doctor.versions()
    assert found.state == BAD and found.remedy == "pip install ray"

    monkeypatch.setattr(doctor.os, "getloadavg", lambda: (99.0, 0, 0))
    assert doctor.threads().state == NOTE and "load 99.0" in doctor.threads().said

    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10e9, 9e9, 1e9))
    assert doctor.disk().state == NOTE and "1.0 GB free" in doctor.disk().said
    assert "--shm-size" in doctor.memory().remedy

    monkeypatch.setattr(doctor, "succeeds", lambda code, environment: False)
    assert doctor.renderers().state == NOTE and "libosmesa6" in doctor.renderers().remedy

    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    assert "parl-jax[video,atari,dmc,marl,onnx,serve]" in doctor.extras().remedy
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: name)
    assert doctor.extras().state == GOOD

    monkeypatch.setattr(doctor, "has_nvidia", lambda: True)
    assert "[cuda]" in doctor.devices().remedy


def test_ray_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    dead = SimpleNamespace(returncode=1, stderr="warning\nit did not come up\n", stdout="")
    monkeypatch.setattr(doctor.subprocess, "run", lambda *a, **k: dead)
    assert doctor.ray_starts()[1:3] == (BAD, "it did not come up")
    fine = SimpleNamespace(returncode=0, stderr="", stdout="address 127.0.0.1:1\n")
    monkeypatch.setattr(doctor.subprocess, "run", lambda *a, **k: fine)
    monkeypatch.setattr(doctor, "clusters", lambda: "")
    assert "listens on 127.0.0.1:1" in doctor.ray_starts().said
    monkeypatch.setattr(doctor, "clusters", lambda: "gcs_server 7")
    assert doctor.ray_starts().state == NOTE and "gcs_server 7" in doctor.ray_starts().said


def test_a_check_that_raises_has_failed() -> None:
    def disk() -> doctor.Finding:
        raise OSError("no such disk")

    found = doctor.attempt(disk)
    assert (found.name, found.state, found.said) == ("disk", BAD, "OSError: no such disk")
