"""The metrics of a run: metrics.jsonl, one JSON object per log point, mirrored to TensorBoard."""

import contextlib
import json
import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from parl.core import files
from parl.core.errors import ParlError
from parl.core.files import replacing

METRICS = "metrics.jsonl"
FLUSH_S = 5.0  # TensorBoard's events go to the disk this often: each flush is an fsync


class RunLog:
    """Writes the metrics of the run in directory `path`.

    A new run starts an empty file. A run that resumes at `resume_from` environment steps drops the
    lines beyond, which it is about to write again, and a line that an interruption tore; lines that
    are no records and all but the last of one step go, too. `kept` are the records that stay.
    TensorBoard is also told the `settings`, and calls the parts of lists by their `seeds`.
    """

    def __init__(
        self,
        path: Path,
        resume_from: int | None = None,
        tensorboard: bool = True,
        settings: Mapping[str, Any] | None = None,
        seeds: Sequence[int] = (),
    ):
        self.file = path / METRICS
        self.kept: list[dict[str, Any]] = []
        with writing(self.file):
            path.mkdir(parents=True, exist_ok=True)
            if resume_from is None:
                self.file.write_text("")
            else:
                self.kept = [r for r in records_of(self.file) if r["env_steps"] <= resume_from]
                with replacing(self.file) as file:
                    file.writelines(map(line, self.kept))
        start = 0 if resume_from is None else resume_from + 1
        self.mirror = TensorBoard(path / "tensorboard", start, seeds) if tensorboard else None
        if self.mirror and settings:
            self.mirror.write_text("settings", table_of(settings), start)

    def write(self, record: dict[str, Any]) -> None:
        """Appends one line; the record has at least `env_steps`. Raises ParlError on a full disk.

        numpy and jax values become numbers and lists, NaN and infinity become null.
        """
        record = plain(record)
        with writing(self.file), self.file.open("a") as file:
            file.write(line(record))
        if self.mirror:
            self.mirror.write(record)

    def close(self) -> None:
        """Closes the event file; metrics.jsonl is complete after every write."""
        if self.mirror:
            self.mirror.close()


class TensorBoard:
    """Scalars of records as TensorBoard events, in a new event file of `path`.

    Written in the calling thread: tensorboardX's SummaryWriter waits forever once its own thread
    has died of a full disk.
    """

    def __init__(self, path: Path, start: int, seeds: Sequence[int] = ()):
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2, summary_pb2

        self.path, self.flushed, self.seeds = path, 0.0, seeds
        self.event: Any = vars(event_pb2)["Event"]
        self.summary: Any = vars(summary_pb2)["Summary"]
        session: Any = vars(event_pb2)["SessionLog"]
        with writing(path):
            path.mkdir(exist_ok=True)
            # the suffix keeps a run that resumes within the same second from overwriting
            self.events = EventsWriter(str(path / "events"), f".{os.getpid()}.{time.time_ns()}")
        # from here on TensorBoard hides what earlier event files hold at `start` or later
        self.append(self.event(step=start, session_log=session(status=session.START)))

    def write(self, record: dict[str, Any]) -> None:
        """One event with the record's numbers, also those of each seed; text is left out."""
        scalars: dict[str, Any] = {}
        for name, value in record.items():
            if isinstance(value, list):
                tag = tag_of(name.removesuffix("_seeds"))
                numbers = self.seeds or range(len(value))
                parts = zip(numbers, value, strict=False)
                scalars |= {f"{tag}/seed {seed}": x for seed, x in parts}
            else:
                scalars[tag_of(name)] = value
        step = record["env_steps"]
        known = {tag: x for tag, x in scalars.items() if isinstance(x, int | float)}
        known.pop("train/env_steps")
        values = [self.summary.Value(tag=tag, simple_value=x) for tag, x in known.items()]
        self.append(self.event(step=step, summary=self.summary(value=values)))

    def write_text(self, tag: str, text: str, step: int) -> None:
        """One event with Markdown."""
        from tensorboardX.summary import text as text_summary

        self.append(self.event(step=step, summary=text_summary(tag, text)))

    def append(self, event: Any) -> None:
        """Writes one event."""
        event.wall_time = time.time()
        with writing(self.path):
            self.events.write_event(event)
            if event.wall_time - self.flushed > FLUSH_S:
                self.events.flush()
                self.flushed = event.wall_time

    def close(self) -> None:
        """Writes the rest and closes the file; metrics.jsonl is whole whatever happens here."""
        with contextlib.suppress(OSError):
            self.events.close()


def tag_of(name: str) -> str:
    """What TensorBoard calls a number: in a group of its own kind."""
    if "/" in name:
        return name
    return f"time/{name}" if name == "sps" or name.endswith(("_s", "_share")) else f"train/{name}"


def table_of(settings: Mapping[str, Any]) -> str:
    """Settings as a table in Markdown."""
    rows = [f"| {name} | {value} |" for name, value in settings.items()]
    return "\n".join(["| setting | value |", "| --- | --- |", *rows])


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a run directory or of its metrics.jsonl; none if there is no such file.

    A last line that an interruption tore is left out; damage elsewhere raises ParlError.
    """
    path, lines = lines_of(path)
    records = [parsed(text) for text in lines]
    for number, record in enumerate(records, 1):
        if record is None and number < len(lines):
            raise ParlError(
                f"{path} is damaged: line {number} is not JSON with env_steps; delete that line."
            )
    return [record for record in records if record is not None]


def records_of(path: Path) -> list[dict[str, Any]]:
    """The records like `read_metrics`, but damaged lines are left out, and of one step the last
    record stands; steps rise."""
    records = [record for text in lines_of(path)[1] if (record := parsed(text)) is not None]
    steps = {record["env_steps"]: record for record in records}
    return [steps[step] for step in sorted(steps)]


def lines_of(path: Path) -> tuple[Path, list[bytes]]:
    """A run's metrics file and its lines."""
    path = path / METRICS if path.is_dir() else path
    return path, path.read_bytes().splitlines() if path.exists() else []


def parsed(text: bytes) -> dict[str, Any] | None:
    """The record that a line holds; None where it is none."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    steps = record.get("env_steps") if isinstance(record, dict) else None
    return record if isinstance(steps, int) and not isinstance(steps, bool) else None


def best_of(records: Iterable[dict[str, Any]]) -> tuple[float, int] | None:
    """(greedy evaluation, environment steps) of the best record, the earliest of equals."""
    key = "eval/return_mean"
    found = [(r[key], -r["env_steps"]) for r in records if isinstance(r.get(key), int | float)]
    return (max(found)[0], -max(found)[1]) if found else None


def line(record: dict[str, Any]) -> str:
    """A record as one line of the file."""
    return json.dumps(record, allow_nan=False) + "\n"


def plain(x: Any) -> Any:
    """`x` as JSON can hold it: Python numbers and lists, None for what is not finite."""
    if isinstance(x, dict):
        return {str(key): plain(value) for key, value in x.items()}
    if isinstance(x, list | tuple):
        return [plain(value) for value in x]
    if isinstance(x, float):
        return float(x) if math.isfinite(x) else None
    return plain(x.tolist()) if hasattr(x, "tolist") else x  # numpy and jax, scalars too


def writing(path: Path) -> contextlib.AbstractContextManager[None]:
    """Turns an OSError into a ParlError, for a file of a run."""
    return files.writing(path, files.RESUME)
