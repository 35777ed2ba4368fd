"""parl export RUN [--to FORM ...] [--out DIR]."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import tyro

from parl.cli.flags import Flags, parse
from parl.core.settings import declared


@dataclasses.dataclass(frozen=True)
class ExportFlags(Flags):
    """Write a policy as files that act without PARL and JAX, and compare them with it."""

    run: tyro.conf.Positional[Path]
    """Directory of a run, or of a saved agent."""
    to: tuple[str, ...] = ("numpy",)
    """Forms: numpy (always written), onnx, stablehlo, tflite, c, js, web, or all."""
    out: Path | None = None
    """Directory to write; not given: policy/ in the run's directory."""
    checkpoint: str = "latest"
    """Whose policy: latest, best, or the environment steps of a checkpoint."""
    seed_index: int = declared(0, low=0)
    """Which seed of a run with several."""
    agent: str | None = None
    """One of several agents, alone."""
    sample: bool = False
    """Also draw actions; else they are the likeliest only."""
    weights: str = declared("float32", choices=("float32", "float16", "int8", "int4"))
    """How weights are stored: with fewer bits they act a little otherwise."""
    episodes: int = declared(10, low=0, high=100_000)
    """Episodes that every form plays, and JAX; 0 for none."""


def run(arguments: list[str]) -> int:
    """parl export RUN [flags]: exit code 1 where a form does not act as JAX does."""
    flags = parse(ExportFlags, arguments, "parl export")
    from parl import api

    settings = dataclasses.asdict(flags)
    made = api.export(settings.pop("run"), **settings)
    print_report(made.report)
    print(f"written: {made.path}")
    for line in made.failures:
        print(f"FAILED: {line}")
    return 1 if made.failures else 0


def print_report(report: dict[str, Any]) -> None:
    """A line for each form, and the whole report as JSON."""
    from parl.deploy.parity import parts_of

    for name, form in report["forms"].items():
        cases = parts_of(form)
        error = max(part["max_error"] for part in cases)
        unequal, choices = (sum(part[key] for part in cases) for key in ("unequal", "choices"))
        count = sum(part["observations"] for part in cases)
        equal = f", {choices - unequal:,} of {choices:,} choices equal" if choices else ""
        print(
            f"{name}: {count:,} observations, largest error {error:.1e}{equal}, "
            f"{form['bytes']:,} bytes, {form['microseconds']:.1f} us an action"
        )
    for name, reason in report["missing"].items():
        print(f"{name}: not written: {reason}")
    print(json.dumps(report))
