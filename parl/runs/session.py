"""Starting and resuming a run: claims its directory and restores a checkpoint."""

import dataclasses
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from parl.core.checkpoint import Checkpoint
from parl.runs.config import RunConfig, versions
from parl.runs.directory import RunDir
from parl.runs.trainer import Trainer

LONGEST = 40  # characters of the settings in a directory's name


@contextmanager
def started(
    out: str | Path | None, config: RunConfig, chosen: Mapping[str, Any]
) -> Iterator[RunDir]:
    """Claims the directory of a new run, or a free one if `out` is not given.

    If the run fails before it has trained, the directory is removed.
    """
    run = RunDir.of_new(out, default_out(config, chosen), config.run_id)
    try:
        yield run
    except BaseException as error:
        if not run.is_run() or (isinstance(error, Exception) and not run.iterations):
            run.abandon()
        raise
    finally:
        run.release()


@contextmanager
def resumed(run: RunDir, run_id: str) -> Iterator[None]:
    """Locks a run while it is resumed. Raises Held if another process trains it."""
    run.hold()
    try:
        run.mark(run_id)
        yield
    finally:
        run.release()


def go_on(trainer: Trainer, run: RunDir, which: str | int, found: Checkpoint) -> None:
    """Restores a trainer from the checkpoint `found`, and says what is lost by that."""
    config, now = trainer.config, versions()

    def take(found: Checkpoint) -> Checkpoint:
        trainer.saver.restore(found)
        return found

    found = run.use(config.run_id, which, take, found=found)
    here = trainer.env_steps
    if which != "latest" and (newer := run.newer_than(here, config.run_id)):
        names = ", ".join(map(str, newer))
        say(f"{run.path} goes on from step {here}: checkpoints {names} and metrics since then go.")
        run.forget_after(newer)
    if odd := [*differences(trainer, found), *changed(config.versions, now)]:
        say(f"{run.path} goes on from step {here}, but not bit for bit: {'; '.join(odd)}.")
    trainer.config = trainer.saver.config = dataclasses.replace(config, versions=now)
    run.write_config(trainer.config)


def differences(trainer: Trainer, found: Checkpoint) -> list[str]:
    """Reasons why resuming from this checkpoint is not bit-exact."""
    meta, devices = found.meta, trainer.saver.devices
    odd = []
    if not meta.get("exact", True):
        odd.append("its environments begin new episodes")
    has_replay = trainer.execution.state.replay is not None or "shards" in meta
    if has_replay and not found.under("replay"):
        odd.append("it has no replay, which fills anew before learning goes on")
    if (before := meta.get("devices", devices)) != devices:
        odd.append(f"it was saved on {device_words(before)}, now on {device_words(devices)}")
    return odd


def device_words(devices: Any) -> str:
    """Devices as text, such as 2 x cpu."""
    known = devices if isinstance(devices, dict) else {}
    return f"{known.get('count', 'unknown')} x {known.get('kind', 'devices')}"


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Text on packages whose versions have changed."""
    odd = [f"{k} {before[k]}, now {now[k]}" for k in now if before.get(k, now[k]) != now[k]]
    return [f"it was saved with {', '.join(odd)}"] if odd else []


def finished(run: RunDir, result: dict[str, Any], quiet: bool) -> dict[str, Any]:
    """The result of a run that has reached its end."""
    if not quiet:
        reached = result["env_steps"]
        say(f"{run.path} is finished, at step {reached:,}; --steps with more than that extends it.")
    return result


def say(text: str) -> None:
    """Prints a line to stderr, outside of the progress display."""
    print(text, file=sys.stderr, flush=True)


def default_out(config: RunConfig, chosen: Mapping[str, Any]) -> Path:
    """A default directory under runs/, with the chosen settings in its name if they are short."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    changes = "-".join(f"{name}={abbreviated(value)}" for name, value in sorted(chosen.items()))
    parts = [config.algorithm, config.env, changes, str(config.seed), stamp]
    if not 0 < len(changes) <= LONGEST:
        parts.remove(changes)
    return Path("runs") / "-".join(re.sub(r"[^\w.=]+", "-", part)[:80] for part in parts)


def abbreviated(value: Any) -> str:
    """A setting's value for a file name."""
    return "x".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
