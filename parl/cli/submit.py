"""parl submit RUN|DIR --for COMPETITION."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import tyro

from parl.cli.flags import Flags, flag_of, parse
from parl.core.errors import ConfigError
from parl.core.settings import declared


@dataclasses.dataclass(frozen=True)
class SubmitFlags(Flags):
    """Write what a competition takes, and test it in a sandbox. Nothing is uploaded."""

    policy: tyro.conf.Positional[Path]
    """Directory of an exported policy, or of a run, which is exported first."""
    for_: Annotated[
        str, flag_of("for", "plain, kaggle:GAME, lux-s3, l2rpn, myochallenge, or pokeagent.")
    ] = ""
    adapter: Path | None = None
    """Your module between the competition and the policy: observe(raw, config) and act(action, raw,
    config); also legal, fallback and starts."""
    python: Path | None = None
    """Interpreter to test with, such as that of an environment with the competition's package."""
    games: int = declared(20, low=0, high=10_000)
    """Games in the real environment, where the interpreter has it."""
    recorded: Path | None = None
    """JSON list of the competition's observations, or of pairs with a config, to test with."""
    out: Path | None = None
    """Directory to write; not given: submission/ in that of the policy or run."""
    weights: str = declared("float32", choices=("float32", "float16", "int8", "int4"))
    """Of a run: how weights are stored."""
    checkpoint: str = "latest"
    """Of a run: whose policy, latest, best, or the environment steps of a checkpoint."""
    agent: str | None = None
    """Of a run with several agents: the one that is exported alone."""
    timeout: float = declared(600.0, low=1.0)
    """Seconds after which the test is ended."""


def run(arguments: list[str]) -> int:
    """parl submit RUN|DIR --for COMPETITION [flags]: exit code 1 where something is wrong."""
    flags = parse(SubmitFlags, arguments, "parl submit")
    if not flags.for_:
        raise ConfigError("submit needs a competition: --for plain, --for kaggle:connectx, ...")
    from parl import api

    settings = dataclasses.asdict(flags)
    done = api.submit(settings.pop("policy"), settings.pop("for_"), **settings)
    print_report(done.report)
    print(f"written: {done.package}")
    for line in done.failures:
        print(f"FAILED: {line}")
    if not done.failures:
        print(f"to send it: {done.report['upload']}")
    return 1 if done.failures else 0


def print_report(report: dict[str, Any]) -> None:
    """What was measured, in a few lines."""
    times, limits, equal = report["times"], report["limits"], report["equality"]
    print(f"{report['for']}: {report['bytes']:,} of {limits['bytes']:,} bytes")
    if times["acts"]:
        print(
            f"{times['acts']} acts: first {times['first_ms']:.0f} ms of "
            f"{limits['first_seconds']:g} s; then p50 {times['p50_ms']:.2f}, p99 "
            f"{times['p99_ms']:.2f}, largest {times['max_ms']:.2f} ms of {limits['seconds']:g} s"
        )
    if equal:
        same = equal["choices"] - equal["unequal"]
        choices = f", {same} of {equal['choices']} choices equal" if equal["choices"] else ""
        print(f"{equal['samples']} samples: largest error {equal['max_error']:.1e}{choices}")
    print(f"tested with {report['tested_with']}")
    for name, value in report["played"].items():
        print(f"{name}: {value}")
