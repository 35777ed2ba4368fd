"""Temporary directories that go with their process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from parl.core import scratch
from parl.core.locks import Lock


def test_those_of_dead_processes_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """if True:
        import os, signal
        from parl.core.scratch import scratch
        print(scratch("parl-test-"), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)"""
    environ = os.environ | {"TMPDIR": str(tmp_path)}
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environ)
    assert killed.returncode == -signal.SIGKILL
    left = Path(killed.stdout.decode().strip())
    assert left.is_dir() and left.parent == tmp_path

    for name in ("parl-test-alive", "parl-test-new", "parl-test-old", "parl-other"):
        (tmp_path / name).mkdir()
    os.utime(tmp_path / "parl-test-old", (0, 0))  # of a version without locks
    (tmp_path / "parl-test-link").symlink_to(tmp_path / "parl-other")
    alive = Lock(tmp_path / "parl-test-alive" / ".lock")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = sorted(path.name for path in scratch.abandoned("parl-test-"))
    assert found == sorted([left.name, "parl-test-old"])
    made = scratch.scratch("parl-test-")
    kept = {made.name, "parl-test-alive", "parl-test-new", "parl-other", "parl-test-link"}
    assert {path.name for path in tmp_path.iterdir()} == kept
    alive.close()
