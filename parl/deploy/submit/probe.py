"""Runs a package in a sandbox and says what it did: python -I probe.py job.json.

NumPy and the standard library are enough. The job's limits are set first, then an audit hook
watches what the package's own code does; report.json says what was found.
"""

import contextlib
import importlib.util
import json
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

NETWORK = ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo",
           "socket.gethostbyname", "urllib.Request")  # fmt: skip
PROCESSES = ("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn",
             "os.spawn", "pty.spawn")  # fmt: skip
FILES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate",
         "os.chmod", "shutil.rmtree")  # fmt: skip
DEVICES = ("/dev/null", "/dev/urandom", "/proc/self", "/sys/devices/system/cpu", "/etc/localtime",
           "/usr/share/zoneinfo")  # fmt: skip
KILLED_AFTER = 3.0  # times what an action may take


class Watch:
    """What the package's code did that it must not, while it was inside."""

    def __init__(self, job: dict[str, Any]):
        self.package = os.path.realpath(job["package"])
        self.scratch = os.path.realpath(job["scratch"])
        python = [sys.prefix, sys.base_prefix, *(place for place in sys.path if place)]
        self.readable = [self.package, self.scratch, *map(os.path.realpath, python)]
        own = {Path(name).stem for name in os.listdir(self.package)} | set(job["own"])
        self.allowed = {*sys.stdlib_module_names, "numpy", *job["provides"], *own}
        self.inside, self.quiet = False, threading.local()
        self.found: dict[str, list[str]] = {}

    def note(self, kind: str, what: str) -> None:
        """Keeps what was done, once."""
        known = self.found.setdefault(kind, [])
        if what not in known and len(known) < 20:
            known.append(what)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """The audit hook. Raises PermissionError for what is not allowed."""
        if not self.inside or getattr(self.quiet, "on", False):
            return
        self.quiet.on = True
        try:
            self.judge(event, arguments)
        finally:
            self.quiet.on = False

    def judge(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in NETWORK:
            self.refuse("network", f"{event} {told(arguments)}")
        elif event in PROCESSES or (event == "ctypes.dlopen" and arguments[0]):
            self.refuse("process", f"{event} {told(arguments)}")
        elif event == "open" and isinstance(arguments[0], str | bytes):
            self.opened(os.fsdecode(arguments[0]), arguments[2])
        elif event in FILES and arguments and isinstance(arguments[0], str | bytes):
            self.written(os.fsdecode(arguments[0]))
        elif event == "import" and self.imports():
            name = str(arguments[0]).partition(".")[0]
            if name not in self.allowed:
                self.note("forbidden import", name)
                raise ImportError(f"{name} may not be imported there")

    def opened(self, path: str, flags: Any) -> None:
        """Judges a file that is opened."""
        if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            self.written(path)
            return
        real = os.path.realpath(path)
        if not within(real, self.readable) and not path.startswith(DEVICES):
            self.refuse("file outside", f"reads {real}")

    def written(self, path: str) -> None:
        """Judges a file that is written or removed."""
        real = os.path.realpath(path)
        if not within(real, [self.scratch]) and path != "/dev/null":
            self.refuse("file outside", f"writes {real}")

    def imports(self) -> bool:
        """Whether the package's own code imports, and not what it imports."""
        frame: Any = sys._getframe(3)
        while frame is not None and frame.f_code.co_filename.startswith("<frozen"):
            frame = frame.f_back
        if frame is None:
            return False
        name = frame.f_code.co_filename
        return name in OWN or within(os.path.realpath(name), [self.package])

    def refuse(self, kind: str, what: str) -> None:
        self.note(kind, what)
        raise PermissionError(f"{kind}: {what}")

    @contextlib.contextmanager
    def entered(self) -> Any:
        """Where the package's code runs."""
        self.inside = True
        try:
            yield
        finally:
            self.inside = False


OWN = {"policy.py", "player.py", "adapter.py", "main.py", "<string>"}  # code that has no file


def within(path: str, places: list[str]) -> bool:
    """Whether a path is one of some places, or below."""
    return any(path == place or path.startswith(place.rstrip("/") + "/") for place in places)


def told(arguments: Any) -> str:
    """Arguments of an event in short."""
    return " ".join(str(x) for x in arguments if isinstance(x, str | int | tuple | list))[:120]


class Probe:
    """Measures a package's agent: every act goes through `act`."""

    def __init__(self, job: dict[str, Any], watch: Watch):
        self.job, self.watch = job, watch
        self.seconds: list[float] = []
        self.agent: Any = None

    def load(self, make: Any) -> None:
        """Loads the agent; its first act includes that."""
        began = time.perf_counter()
        self.stage("loading")
        self.armed(self.job["first"])
        with self.watch.entered():
            self.agent = make(self.job)
        disarmed()
        self.loading = time.perf_counter() - began

    def act(self, raw: Any, config: Any = None, info: Any = None) -> Any:
        """One move, timed."""
        self.armed(self.job["seconds"] if self.seconds else self.job["first"])
        began = time.perf_counter()
        with self.watch.entered():
            move = self.agent.act(raw, config, info)
        self.seconds.append(time.perf_counter() - began)
        disarmed()
        if len(self.seconds) == 1:
            self.seconds[0] += self.loading
        return move

    def reset(self) -> None:
        """Opens a game."""
        with self.watch.entered():
            self.agent.reset()

    def armed(self, seconds: float) -> None:
        """Has the kernel end the process if an action takes far too long."""
        signal.setitimer(signal.ITIMER_REAL, max(KILLED_AFTER * seconds, 1.0))

    def stage(self, name: str) -> None:
        """Says what is done now, for whoever finds the process dead."""
        Path(self.job["stage"]).write_text(name)

    def faults(self) -> list[tuple[str, str]]:
        """Why fallbacks acted."""
        return list(self.agent.player.faults) if self.agent is not None else []


def disarmed() -> None:
    """Takes the alarm back."""
    signal.setitimer(signal.ITIMER_REAL, 0)


def limited(job: dict[str, Any]) -> None:
    """Sets the limits of this process."""
    resource.setrlimit(resource.RLIMIT_CPU, (job["cpu"], job["cpu"] + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
    if job["address_space"]:
        resource.setrlimit(resource.RLIMIT_AS, (job["address_space"],) * 2)


def main(path: str) -> None:
    """Runs a job."""
    job = json.loads(Path(path).read_text())
    limited(job)
    import games  # beside this file
    import numpy as np

    real = job["module"] and importlib.util.find_spec(job["module"]) is not None
    report: dict[str, Any] = {
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "tested_with": "recorded observations",
        "played": {},
    }
    watch = Watch(job)
    sys.addaudithook(watch.hook)
    probe = Probe(job, watch)
    try:
        probe.load(games.AGENTS[job["kind"]])
        games.recorded(probe, report)
        if real and job["games"] and job["kind"] in games.REAL:
            probe.stage("playing in the real environment")
            games.REAL[job["kind"]](probe, report)
        probe.stage("over")
    except BaseException as error:
        refused = isinstance(error, ImportError | PermissionError) and watch.found
        if not refused:  # else it is there under its own name
            report["crash"] = f"{type(error).__name__}: {error}"[:500]
    disarmed()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    report |= {
        "found": watch.found,
        "faults": probe.faults(),
        "seconds": probe.seconds,
        "peak_bytes": peak_bytes(),
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
    }
    Path(job["report"]).write_text(json.dumps(report, default=str))


def peak_bytes() -> int:
    """The most memory that this process held.

    On Linux by /proc: getrusage also counts what the process that started this one held.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:  # no Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


if __name__ == "__main__":
    main(sys.argv[1])
