"""A command as seen from outside: whether it crashed, and what it left behind."""

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import ray  # noqa: F401  # brings psutil

import psutil  # isort: skip


AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")  # of a node; they look after themselves


class Watched(NamedTuple):
    """A phase as seen from outside."""

    result: dict[str, Any]  # what it reported; empty if it crashed or was killed
    crashed: bool
    processes: int  # descendants seen
    left: list[str]  # of them alive after 30 s
    agents: int  # further ones, which are Ray's agents
    gone_s: float  # until all were gone; at most some 120
    shared: list[str]  # files in /dev/shm that nobody has open any more


def watch(command: list[str], kill_at: str | None = None) -> Watched:
    """Runs a command and looks after what it leaves behind.

    Its last line is what it reports, as JSON. Once it prints the line `kill_at` it gets SIGKILL.
    """
    before, family = set(os.listdir("/dev/shm")), {}
    with tempfile.TemporaryFile("w+") as output:
        child = subprocess.Popen(command, stdout=output)
        process = psutil.Process(child.pid)
        while child.poll() is None:
            family |= {(p.pid, p.create_time()): p for p in descendants(process)}
            output.seek(0)
            if kill_at and kill_at in output.read().splitlines():
                child.kill()
            time.sleep(0.25)
        end = time.monotonic()
        output.seek(0)
        lines = output.read().splitlines()
    _, left = psutil.wait_procs(family.values(), timeout=30)
    names = [" ".join(p.cmdline()[:2]).strip() for p in left if p.is_running()]
    psutil.wait_procs(left, timeout=90)
    gone = time.monotonic() - end
    result = json.loads(lines[-1]) if child.returncode == 0 and lines else {}
    killed = kill_at is not None and kill_at in lines
    shared = [name for name in set(os.listdir("/dev/shm")) - before if not is_open(name)]
    others = [name for name in names if name not in AGENTS]
    agents = len(names) - len(others)
    return Watched(result, not (result or killed), len(family), others, agents, gone, shared)


def descendants(process: psutil.Process) -> list[psutil.Process]:
    """Its living descendants."""
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def is_open(name: str) -> bool:
    """Whether a living process has a file of /dev/shm mapped: then it is another session's."""
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            if f"/dev/shm/{name}" in maps.read_text():
                return True
        except OSError:
            continue
    return False
