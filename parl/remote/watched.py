"""The runs of a shared cluster for Prometheus: `parl cluster start --metrics-port`.

    python -m parl.remote.watched PORT HOST:PORT COMMAND ...

runs a command, the first node of the cluster at HOST:PORT, and answers beside it at
http://127.0.0.1:PORT/metrics with the newest line of every run that is on the cluster. The process
of a run that learns, and it alone, puts its lines into the cluster's key-value store. Neither Ray's
dashboard nor its own exporter is needed.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import ray
from ray._raylet import GcsClient  # pyright: ignore[reportAttributeAccessIssue]
from ray.exceptions import RpcError

from parl.remote.guard import end_with_parent
from parl.remote.lifeline import PATIENCE, SPACE, store
from parl.remote.occupants import living, state_of
from parl.report.prometheus import HOST, Newest, families, serve

LINE = b"line "  # before the job's id, in the key of a run's newest line


class Telling:
    """Listens to a run and puts its newest line into the cluster's store.

    No failure to do so matters to the run.
    """

    def __init__(self) -> None:
        self.newest: Newest | None = None
        self.key = b""

    def on_start(self, told: dict[str, Any]) -> None:
        """Takes the run's names."""
        self.key = LINE + ray.get_runtime_context().get_job_id().encode()
        newest = Newest.of(told)
        driver = {"driver": f"{socket.gethostname()}:{os.getpid()}"}
        self.newest = newest._replace(labels=newest.labels | driver)

    def on_record(self, line: dict[str, Any]) -> None:
        """Tells a line."""
        assert self.newest is not None
        self.newest = self.newest.followed_by(line)
        text = json.dumps(self.newest).encode()
        with suppress(RpcError, AttributeError):  # AttributeError: the connection may be closing
            store().internal_kv_put(self.key, text, True, SPACE, timeout=PATIENCE)

    def on_end(self, result: dict[str, Any]) -> None:
        """Takes the line back: what has ended shall not look as if it went on."""
        with suppress(RpcError, AttributeError):
            store().internal_kv_del(self.key, False, SPACE, timeout=PATIENCE)


class Runs:
    """What the runs of the cluster at host:port told."""

    def __init__(self, address: str):
        self.address = address
        self.client: Any = None

    def collect(self) -> Iterator[Any]:
        """The gauges of the runs whose programs live. Raises what Ray raises."""
        return families(self.newest())

    def newest(self) -> list[Newest]:
        """The newest lines."""
        if self.client is None:
            self.client = GcsClient(address=self.address)
        with state_of(self.address) as state:
            keys = [LINE + job["JobID"].encode() for job in living(state)]
        told = self.client.internal_kv_multi_get(keys, SPACE, timeout=PATIENCE) if keys else {}
        return [Newest(*json.loads(told[key])) for key in keys if key in told]


def main(port: int, address: str, command: list[str]) -> int:
    """Returns the command's exit code; 1 where nobody can listen at the port."""
    try:
        server = serve(port, Runs(address))
    except OSError as error:
        print(f"cannot listen at {HOST}:{port} for --metrics-port: {error.strerror}", flush=True)
        return 1
    child = subprocess.Popen(command, preexec_fn=end_with_parent)
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: child.terminate())
    try:
        return child.wait()
    finally:
        server.shutdown()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
