"""Runs a package in a process of its own: a fresh interpreter, no network, a clean home, limits.

The process is watched, not jailed: a user tests their own package here. What it may not do is
refused by an audit hook and, where the system allows it, by a network namespace of its own.
"""

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from parl.core.errors import ConfigError, ParlError
from parl.deploy.submit import games, probe

HEADROOM = 2 << 30  # bytes of address space beyond the memory that a competition grants
ALARM = -signal.SIGALRM


@functools.cache
def network_namespace() -> tuple[str, ...]:
    """The command that starts another without a network; empty where that is not allowed."""
    command = ("unshare", "-rn")
    if shutil.which(command[0]) is None:
        return ()
    done = subprocess.run([*command, "true"], capture_output=True, check=False)
    return () if done.returncode else command


def interpreter(python: str | Path | None, default: str) -> str:
    """The interpreter that packages are tested with. Raises ConfigError for what is none."""
    chosen = str(python) if python else default
    found = shutil.which(chosen)
    if found is None:
        raise ConfigError(f"--python {chosen} is no program that can be run.")
    test = [found, "-I", "-c", "import numpy"]
    done = subprocess.run(test, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        line = (done.stderr.strip().splitlines() or ["it fails"])[-1]
        raise ConfigError(f"--python {found} cannot run a package, which needs NumPy: {line}")
    return found


@contextlib.contextmanager
def prepared(job: dict[str, Any], files: dict[str, bytes]) -> Iterator[Path]:
    """A directory with the package, the probe and the job, gone afterwards."""
    root = Path(tempfile.mkdtemp(prefix="parl-sandbox-"))
    try:
        for name in ("package", "harness", "home", "tmp"):
            (root / name).mkdir()
        for name, data in files.items():
            file = root / "package" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        for module in (probe, games):
            assert module.__file__ is not None
            shutil.copy(module.__file__, root / "harness")
        places = {
            "package": root / "package",
            "scratch": root / "tmp",
            "report": root / "harness" / "report.json",
            "stage": root / "harness" / "stage.txt",
        }
        for name in ("raws", "samples"):
            places[name] = root / "harness" / name
            places[name].write_bytes(job.pop(name))
        job = job | {name: str(path) for name, path in places.items()}
        (root / "harness" / "job.json").write_text(json.dumps(job))
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


def run(
    python: str, job: dict[str, Any], files: dict[str, bytes], timeout: float
) -> dict[str, Any]:
    """The report of a job on a package's files; `found` holds what was wrong, by its name.

    A process that died, or that was ended after `timeout` seconds, is found as such.
    """
    with prepared(dict(job), files) as root:
        harness = root / "harness"
        clean = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(root / "home"),
            "TMPDIR": str(root / "tmp"),
            "LANG": "C.UTF-8",
            **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
        }
        command = [*network_namespace(), python, "-I", "-B", str(harness / "probe.py")]
        with (root / "output.txt").open("wb") as output:
            child = subprocess.Popen(
                [*command, str(harness / "job.json")],
                cwd=root / "tmp",
                env=clean,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code: int | None = child.wait(timeout)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        return judged(harness, code, timeout, job, tail(root / "output.txt"))


def judged(
    harness: Path, code: int | None, timeout: float, job: dict[str, Any], said: str
) -> dict[str, Any]:
    """The report that the process wrote, or why there is none."""
    stage = harness / "stage.txt"
    where = stage.read_text() if stage.is_file() else "starting"
    try:
        report = json.loads((harness / "report.json").read_text())
    except (OSError, ValueError):
        report = {"found": {}, "faults": [], "seconds": [], "played": {}}
        if code is None:
            report["found"]["time is up"] = [f"{timeout:g} s were over while {where}"]
        elif code == ALARM:
            report["found"]["slow act"] = [
                f"an action took longer than {probe.KILLED_AFTER:g} times {job['seconds']:g} s and "
                f"was ended, {where}"
            ]
        elif code in (-signal.SIGXCPU, -signal.SIGKILL):
            report["found"]["time is up"] = [f"{job['cpu']} s of a processor were used up, {where}"]
        else:
            report["found"]["crash"] = [f"exit code {code}, {where}: {said}"]
    if not isinstance(report, dict):
        raise ParlError("the sandbox's report is none.")
    if crash := report.pop("crash", None):
        report["found"]["crash"] = [f"{where}: {crash}"]
    return report


def tail(path: Path) -> str:
    """The last lines that a process printed."""
    lines = path.read_text(errors="replace").strip().splitlines()[-3:]
    return " | ".join(lines)[:500] or "it said nothing"
