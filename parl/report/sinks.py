"""Trackers that a run's metrics go to beside metrics.jsonl: Weights & Biases, MLflow, trackio, CSV.

Each is a listener of the run with three functions; none needs an account or a network. A resumed
run goes on in the same record, and a step that is there already is not written twice.
"""

import contextlib
import csv
import importlib
import io
import json
import netrc
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from parl.core.errors import MissingPackage
from parl.core.files import write_text
from parl.report.metrics import records_of
from parl.report.wandb_record import last_step

PROJECT = "parl"


class Tracker(NamedTuple):
    """An open record of a tracker."""

    write: Callable[[dict[str, float], int], None]  # numbers by name, environment steps
    close: Callable[[dict[str, Any]], None]  # numbers of the result


class Sink:
    """Listens to a run and writes its lines of metrics to a tracker.

    RUN/NAME.json keeps the last step that was written, and what the tracker calls its record.
    """

    def __init__(self, name: str, begin: Callable[[dict[str, Any], Path, dict], Tracker]):
        self.name, self.begin = name, begin
        self.tracker: Tracker | None = None
        self.state: dict[str, Any] = {"env_steps": -1}
        self.config: dict[str, Any] = {}
        self.path = Path()
        self.failed = False

    @property
    def file(self) -> Path:
        """What is kept of the record in the run's directory."""
        return self.path / f"{self.name}.json"

    def on_start(self, told: dict[str, Any]) -> None:
        """Learns where the run is. Raises MissingPackage before anything is trained."""
        package(self.name)
        self.config, self.path = told["config"], Path(told["path"]).absolute()
        with contextlib.suppress(OSError, ValueError):
            self.state = json.loads(self.file.read_text())

    def on_record(self, line: dict[str, Any]) -> None:
        """Writes the numbers of a line, unless its step is written.

        And of earlier lines that a tracker was given and had not kept when its process was killed.
        """
        if self.failed:
            return
        with self.only_told():
            missed: list[dict[str, Any]] = []
            if self.tracker is None:  # only now: a start that fails leaves nothing behind
                self.tracker = self.begin(self.config, self.path, self.state)
                missed = records_of(self.path)
            for each in (*missed, line):
                if self.state["env_steps"] < each["env_steps"] <= line["env_steps"]:
                    self.tracker.write(numbers(each), each["env_steps"])
                    self.state["env_steps"] = each["env_steps"]
            write_text(self.file, json.dumps(self.state) + "\n")

    def on_end(self, result: dict[str, Any]) -> None:
        """Writes the result's numbers and closes the record."""
        if self.tracker is not None and not self.failed:
            with self.only_told():
                self.tracker.close(numbers(result))

    @contextlib.contextmanager
    def only_told(self) -> Iterator[None]:
        """Says once that the tracker fails, and goes on without it: the run is worth more."""
        try:
            yield
        except Exception as error:
            self.failed = True
            said = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            print(f"WARNING: {self.name} failed and gets no more lines ({said}); metrics.jsonl "
                  "has them all.", file=sys.stderr)  # fmt: skip


def numbers(line: dict[str, Any]) -> dict[str, float]:
    """The finite numbers of a line or a result, each seed's under NAME/K, without env_steps."""
    found: dict[str, float] = {}
    for name, value in line.items():
        if isinstance(value, list) and all(isinstance(x, int | float) for x in value):
            found |= {f"{name}/{k}": float(x) for k, x in enumerate(value)}
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = float(value)
    found.pop("env_steps", None)
    return found


def package(name: str) -> Any:
    """A tracker's package, silent about itself. Raises MissingPackage."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingPackage(
            f"--log {name} needs {name}: pip install 'parl-jax[{name}]'"
        ) from error


def wandb(config: dict[str, Any], path: Path, state: dict[str, Any]) -> Tracker:
    """A run of Weights & Biases, offline unless this machine is logged in or WANDB_MODE says so."""
    wandb = package("wandb")
    known = "WANDB_MODE" in os.environ or "WANDB_API_KEY" in os.environ or is_logged_in()
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        id=config["run_id"],
        name=path.name,
        dir=str(path),
        config=config,
        resume="allow",
        mode=None if known else "offline",
        settings=wandb.Settings(silent=True),
    )

    if state["env_steps"] >= 0:  # what a process that was killed gave last may be lost
        with contextlib.suppress(Exception):  # where that cannot be read, nothing is known to be
            state["env_steps"] = last_step(path) if run.offline else run.step - 1

    def close(result: dict[str, float]) -> None:
        run.summary.update(result)
        run.finish()

    return Tracker(lambda line, steps: run.log(line, step=steps), close)


def is_logged_in() -> bool:
    """Whether `wandb login` left a key for its server in this user's netrc file."""
    server = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    try:
        return netrc.netrc().authenticators(urlsplit(server).hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def mlflow(config: dict[str, Any], path: Path, state: dict[str, Any]) -> Tracker:
    """A run of MLflow, in RUN/mlflow.db unless MLFLOW_TRACKING_URI says where."""
    package("mlflow")
    from mlflow import MlflowClient  # pyright: ignore[reportMissingImports]
    from mlflow.entities import Metric, Param  # pyright: ignore[reportMissingImports]

    place = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{path / 'mlflow.db'}")
    client = MlflowClient(place)
    if "id" not in state:
        found = client.get_experiment_by_name(PROJECT)
        experiment = found.experiment_id if found else client.create_experiment(PROJECT)
        state["id"] = client.create_run(experiment, run_name=path.name).info.run_id
        told = flat(config)
        client.log_batch(state["id"], params=[Param(k, v[:500]) for k, v in told.items()])

    def write(line: dict[str, float], steps: int) -> None:
        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, steps) for name, value in line.items()]
        client.log_batch(state["id"], metrics=metrics)

    return Tracker(write, lambda result: client.set_terminated(state["id"]))


def trackio(config: dict[str, Any], path: Path, state: dict[str, Any]) -> Tracker:
    """A run of trackio, in its own folder (TRACKIO_DIR)."""
    trackio = package("trackio")
    name = f"{path.name}-{config['run_id'][:8]}"
    quiet = lambda: contextlib.redirect_stdout(io.StringIO())  # it prints advice
    with quiet():
        trackio.init(PROJECT, name, config=flat(config), resume="allow", embed=False)

    def close(result: dict[str, float]) -> None:
        with quiet():
            trackio.finish()

    return Tracker(lambda line, steps: trackio.log(line, step=steps), close)


def flat(config: dict[str, Any]) -> dict[str, str]:
    """A config as names and texts, without the environment's spec."""
    own = {name: x for name, x in config.items() if not isinstance(x, dict)}
    return {name: str(x) for name, x in {**own, **config.get("settings", {})}.items()}


class Csv:
    """Writes RUN/metrics.csv anew with each line: a column for each name of any line."""

    def on_start(self, told: dict[str, Any]) -> None:
        """Learns where the run is."""
        self.path = Path(told["path"])

    def on_record(self, line: dict[str, Any]) -> None:
        """Writes all lines so far."""
        lines = [{"env_steps": x["env_steps"], **numbers(x)} for x in records_of(self.path)]
        names = dict.fromkeys(name for line in lines for name in line)
        text = io.StringIO()
        table = csv.DictWriter(text, list(names))
        table.writeheader()
        table.writerows(lines)
        write_text(self.path / "metrics.csv", text.getvalue())

    def on_end(self, result: dict[str, Any]) -> None:
        """Nothing is left to write."""


SINKS: dict[str, Callable[[], Any]] = {
    "csv": Csv,
    "wandb": lambda: Sink("wandb", wandb),
    "mlflow": lambda: Sink("mlflow", mlflow),
    "trackio": lambda: Sink("trackio", trackio),
}
