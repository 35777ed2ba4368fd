"""Several hosts on this machine: network namespaces, each with a cable to a switch.

Real sockets, and links that can be cut, delayed and made to lose packets, without touching the
machine's own network. Needs root and ip. Every host has a name, an address, a folder for Ray's
files and notes of its own; files and process ids are shared.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

TOOLS = ("ip", "unshare", "hostname")
RELAY = Path(__file__).with_name("relay.py")


def possible() -> str:
    """Why there can be no hosts here; empty where there can."""
    if os.getuid() != 0:
        return "namespaces need root"
    if lost := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"there is no {lost[0]}"
    probe = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    return "" if probe.returncode == 0 else "this machine allows no namespaces"


class Hosts:
    """`count` hosts 10.77.0.1, 10.77.0.2, ...; a context manager that leaves nothing behind.

    With a delay in seconds or a share of lost packets the switch is a process, see relay.py; then
    links are not cut.
    """

    def __init__(self, count: int, delay: float = 0.0, loss: float = 0.0):
        self.delay, self.loss, self.bad = delay, loss, delay > 0 or loss > 0
        self.relay: subprocess.Popen[bytes] | None = None
        self.count, self.tag = count, f"parl{os.getpid() % 10_000}"
        self.place = Path(tempfile.mkdtemp(prefix="ph", dir="/tmp"))  # short: sockets lie below it
        self.hidden: Path | None = None
        self.token = self.place / "token"
        self.token.write_text("a" * 64)
        self.token.chmod(0o600)

    def __enter__(self) -> Self:
        switch = f"{self.tag}s"
        names = [self.name(host) for host in range(self.count)]
        for name in (*names, switch):
            command("ip", "netns", "add", name)
        command("ip", "-n", switch, "link", "add", "bridge", "type", "bridge")
        command("ip", "-n", switch, "link", "set", "bridge", "up")
        for host, name in enumerate(names):
            (self.place / str(host)).mkdir()
            if self.bad:
                command("ip", "-n", name, "tuntap", "add", "dev", "eth0", "mode", "tun")
            else:
                port = f"port{host}"
                ends = ["netns", switch, "type", "veth", "peer", "name", "eth0", "netns", name]
                command("ip", "link", "add", port, *ends)
                command("ip", "-n", switch, "link", "set", port, "master", "bridge", "up")
            command("ip", "-n", name, "address", "add", f"{self.address(host)}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                command("ip", "-n", name, "link", "set", device, "up")
        if self.bad:
            words = [sys.executable, str(RELAY), *map(str, (self.delay, self.loss, 0)), *names]
            self.relay = subprocess.Popen(words)
        return self

    def __exit__(self, *exception: object) -> None:
        for host in range(self.count):
            with suppress(RuntimeError):
                self.die(host)
        if self.relay is not None:
            self.relay.kill()
            self.relay.wait()
        for name in (*map(self.name, range(self.count)), f"{self.tag}s"):
            with suppress(RuntimeError):
                command("ip", "netns", "delete", name)
        shutil.rmtree(self.place, ignore_errors=True)

    def name(self, host: int) -> str:
        """The name of a host and of its namespace."""
        return f"{self.tag}h{host}"

    def address(self, host: int) -> str:
        """The address of a host."""
        return f"10.77.0.{host + 1}"

    def start(self, host: int, *words: str, log: str, **variables: str) -> subprocess.Popen[bytes]:
        """A program on a host; what it prints goes to a file of the host.

        A folder in `hidden` is empty there, on every host but the first.
        """
        own = self.place / str(host)
        here = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token),
            "RAY_TMPDIR": str(own),
            "XDG_CACHE_HOME": str(own),
            "JAX_PLATFORMS": "cpu",
            "RAY_worker_niceness": "0",  # 15 is Ray's own: on a busy machine they would stand still
        }
        name = self.name(host)
        first = 'hostname "$0"; '
        if host and self.hidden is not None:  # mounts are those of this program alone
            first += f"mount -t tmpfs none {shlex.quote(str(self.hidden))}; "
        named = ["unshare", "--uts", "sh", "-c", f'{first}exec "$@"', name, *words]
        with (own / log).open("wb") as output:
            return subprocess.Popen(
                ["ip", "netns", "exec", name, *named],
                env=os.environ | here | variables,
                cwd=self.place if self.hidden is None else self.hidden,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def run(self, host: int, *words: str, log: str = "log", **variables: str) -> str:
        """What a program on a host printed. Raises where it failed."""
        code = self.start(host, *words, log=log, **variables).wait(300)
        said = self.said(host, log)
        if code:
            raise RuntimeError(f"{' '.join(words)} ended with {code}: {said}")
        return said

    def said(self, host: int, log: str) -> str:
        """What a program on a host has printed so far."""
        return (self.place / str(host) / log).read_text()

    def cut(self, host: int) -> None:
        """Pulls the cable of a host out of the switch."""
        command("ip", "-n", f"{self.tag}s", "link", "set", f"port{host}", "down")

    def heal(self, host: int) -> None:
        """Puts it back."""
        command("ip", "-n", f"{self.tag}s", "link", "set", f"port{host}", "up")

    def pids(self, host: int) -> list[int]:
        """The processes on a host."""
        return [int(x) for x in command("ip", "netns", "pids", self.name(host)).split()]

    def die(self, host: int) -> None:
        """All processes of a host end at once, as when its power fails: nobody hears of it."""
        with suppress(RuntimeError):
            self.cut(host)
        while pids := self.pids(host):
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)


def command(*words: str) -> str:
    """What a command prints. Raises RuntimeError with what it said."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def wait_for(what: Any, seconds: float, interval: float = 0.25) -> float | None:
    """Seconds until `what()` is true; None where that takes longer than `seconds`."""
    began = time.monotonic()
    while not what():
        if time.monotonic() - began > seconds:
            return None
        time.sleep(interval)
    return time.monotonic() - began
