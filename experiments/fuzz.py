"""Random input: whatever is given, the answer is a sentence or a run, no traceback and no hang.

    python experiments/fuzz.py                # 300 flag sets a recipe, 1,000 files of each kind
    python experiments/fuzz.py --flags 30 --files 100 --seed 3

Flag sets go through the command line of this process and stop where the run would start, but for
one in `--run-every`, which runs for some steps. Files are a run's config.json and the manifest of
its checkpoint, with values exchanged, added or lost; manifests also with a checksum that is right
again, so that their content is reached: they are restored and stepped on from, one in
`--run-every` by a resume to the end. Memory is bounded. Prints a Markdown table; exit code 1 if
anything fell.
"""

import argparse
import contextlib
import copy
import io
import json
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import parl
from parl import api
from parl.cli import main as command_line
from parl.core.checkpoint import write_manifest
from parl.core.errors import ParlError
from parl.recipes import recipe_class
from parl.report.progress import Progress
from parl.runs.build import load_state, resolve
from parl.runs.clock import Clock
from parl.runs.directory import RunDir
from parl.runs.executions import make_execution
from parl.runs.session import go_on
from parl.runs.trainer import Trainer

Random = np.random.Generator
RECIPES = {
    "ppo": ("jax:CartPole-v1", "CartPole-v1"),
    "dqn": ("jax:CartPole-v1", "CartPole-v1"),
    "sac": ("jax:Pendulum-v1", "Pendulum-v1"),
    "mappo": ("jax:simple_spread",),
}
RUN_FLAGS = (
    *("steps", "seed", "num_seeds", "execution", "eval_every", "eval_episodes", "keep", "opponent"),
    *("checkpoint_every", "absolute_episodes", "pool_size", "admit_every", "mode", "eager"),
)
WORDS = (
    *("0", "1", "2", "3", "7", "16", "64", "-1", "1e1", "1e5", "0.5", "0.99", "1e-3", "1.5"),
    *("nan", "inf", "-inf", "1e39", "-1e39", "1e-60", "2147483647", "2147483648", "1e400"),
    *("True", "false", "no", "none", "null", "", "x", "0o17", "017", "1:30", "1_000", "[1", "{}"),
    *("[8, 8]", "8,8", "65536", "é", "*a", "&a", "!!int", "9" * 5000, "-", "--", "a=b", "%"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 0.5, 1e39, -(10**15), 10**15, 10**6, float("nan")),
    *(float("inf"), "", "x", "1", "ppo", "\0", "a" * 300, [], [1], ["a"], [-1], [[1]], {}),
    *({"a": 1}, [None], {"hidden": None}),
)
STEPS = 64
MANIFEST = f"checkpoints/{STEPS}/manifest.json"
TINY = ("--steps", "64", "--num-envs", "8", "--length", "8", "--hidden", "8")
TINY_RUN = (*TINY, "--eval-episodes", "1", "--quiet")


class TooSlow(BaseException):
    """An answer did not come in time."""


class Started(ParlError):
    """The run would start here."""

    exit_code = 0


@contextlib.contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Raises TooSlow after some seconds."""

    def late(signum: int, frame: Any) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(call: Callable[[], Any], seconds: int) -> tuple[str, str]:
    """What became of a call: taken, refused, or how it fell; and the details of a fall."""
    said = io.StringIO()
    try:
        with limited(seconds), contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            call()
    except Started:
        return "taken", ""
    except ParlError as error:
        return ("refused", "") if "\n" not in str(error) else ("fell: lines", str(error))
    except SystemExit:
        return "taken", ""  # of --help
    except TooSlow:
        return "fell: hang", ""
    except BaseException as error:
        return f"fell: {type(error).__name__}", traceback.format_exc(limit=-4)
    return "taken", ""


def flag_set(algorithm: str, random: Random) -> list[str]:
    """A command with some flags, of which some values are good."""
    words = ["train", algorithm, "--env", str(random.choice(RECIPES[algorithm]))]
    usual = recipe_class(algorithm)().settings()  # pyright: ignore[reportCallIssue]
    names = [*RUN_FLAGS, *usual]
    for name in random.choice(names, int(random.integers(1, 6)), replace=False):
        flag = "--" + str(name).rstrip("_").replace("_", "-")
        value = str(random.choice(WORDS))
        if random.random() < 0.6 and name in usual:
            value = str(usual[name]).strip("()").strip(",")
        words += [f"{flag}={value}"] if random.random() < 0.5 else [flag, value]
    return words


def commanded(words: list[str], runs: bool, out: Path) -> None:
    """Runs a command; what it refuses is an error here, too."""
    stop = mock.patch.object(api, "drive", side_effect=Started("the run starts"))
    with contextlib.nullcontext() if runs else stop:
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            code = command_line([*words, "--out", str(out)])
    lines = [x for x in said.getvalue().splitlines() if x.startswith(("parl: ", "Traceback"))]
    assert code in (0, 1, 2), f"exit code {code}"
    assert code == 0 or len(lines) == 1, said.getvalue()
    if code:
        raise ParlError(lines[0])


def flags(algorithm: str, count: int, run_every: int, random: Random) -> Counter[str]:
    """Outcomes of random flag sets of an algorithm."""
    found: Counter[str] = Counter()
    for i in range(count):
        runs, words = i % run_every == run_every - 1, flag_set(algorithm, random)
        if runs:
            words += TINY_RUN
        with tempfile.TemporaryDirectory() as folder:
            call = lambda w=words, r=runs, f=folder: commanded(w, r, Path(f) / "run")
            result = outcome(call, 300 if runs else 60)
        told(found, result, f"parl {' '.join(words)}")
    return found


def exchanged(content: Any, random: Random) -> Any:
    """JSON in which one place, however deep, has another value, is gone or is new."""
    content = copy.deepcopy(content)
    if random.random() < 0.02:
        return VALUES[random.integers(len(VALUES))]
    place = content
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = keys[random.integers(len(keys))]
        if not (isinstance(place[key], dict | list) and place[key]) or random.random() < 0.3:
            break
        place = place[key]
    how = random.random()
    if how < 0.15:
        del place[key]
    elif how < 0.25 and isinstance(place, dict):
        place[f"{key}x"] = place.pop(key)
    else:
        place[key] = VALUES[random.integers(len(VALUES))]
    return content


def changed(content: Any, random: Random) -> str:
    """A file's text after a change."""
    if random.random() < 0.03:
        return "[" * 100_000
    return json.dumps(exchanged(content, random))


def files(run: Path, name: str, count: int, random: Random) -> Counter[str]:
    """Outcomes of loading a run, one file of which was changed."""
    found: Counter[str] = Counter()
    file = run / name
    good = file.read_text()
    load_state(RunDir(run))  # as it was, it is taken
    for _ in range(count):
        text = changed(json.loads(good), random)
        file.write_text(text)
        told(found, outcome(lambda: load_state(RunDir(run)), 120), f"{name}: {text}")
    file.write_text(good)
    return found


def sealed(run: Path, count: int, run_every: int, random: Random) -> Counter[str]:
    """Outcomes of going on from a checkpoint whose manifest was changed and sealed again."""
    found: Counter[str] = Counter()
    place = run / MANIFEST
    good = json.loads(place.read_text())
    parts = resolve(RunDir(run).config())
    execution = make_execution(parts)
    progress = Progress(parts.config.steps, "", quiet=True)

    def go_on_from_it() -> None:
        here = RunDir(run)
        trainer = Trainer(parts, execution, here, progress, Clock())
        go_on(trainer, here, "latest", here.pick(parts.config.run_id, "latest"))
        execution.advance(1)

    go_on_from_it()  # as it was, it is taken
    for i in range(count):
        content = {key: good[key] for key in ("arrays", "meta")}
        key = str(random.choice(["arrays", "meta", "meta"]))
        content[key] = exchanged(content[key], random)
        write_manifest(place, content)
        with tempfile.TemporaryDirectory() as folder:
            call = go_on_from_it
            if i % run_every == run_every - 1:
                copy = shutil.copytree(run, Path(folder) / "run")
                call = lambda path=copy: parl.resume(path, 2 * STEPS, quiet=True)
            told(found, outcome(call, 300), f"sealed manifest: {json.dumps(content[key])}")
    write_manifest(place, {key: good[key] for key in ("arrays", "meta")})
    return found


def told(found: Counter[str], result: tuple[str, str], what: str) -> None:
    """Counts an outcome, and prints how it fell."""
    found[result[0]] += 1
    if found.total() % 50 == 0:
        print(dict(found), file=sys.stderr, flush=True)
    if result[0].startswith("fell"):
        print(f"{result[0]}: {what[:400]}\n{result[1]}", flush=True)


def trained(env: str, out: Path) -> Path:
    """A tiny run."""
    given = {"steps": STEPS, "num_envs": 4, "length": 8, "hidden": (8,), "eval_episodes": 1}
    path = parl.train("ppo", env, out, quiet=True, **given).path
    for earlier in (path / "checkpoints").iterdir():  # nothing to fall back on
        if earlier.name != str(STEPS):
            shutil.rmtree(earlier)
    return path


def table(results: dict[str, Counter[str]]) -> str:
    """Markdown."""
    lines = ["| input | tried | taken | refused | fell |", "| --- | --: | --: | --: | --- |"]
    for what, counts in results.items():
        fell = ", ".join(f"{n} {k[6:]}" for k, n in counts.items() if k.startswith("fell"))
        row = what, counts.total(), counts["taken"], counts["refused"], fell or 0
        lines.append("| " + " | ".join(map(str, row)) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--flags", type=int, default=300, help="sets for each recipe")
    parser.add_argument("--files", type=int, default=1000, help="of each kind")
    parser.add_argument("--run-every", type=int, default=30, help="one flag set in this many runs")
    parser.add_argument("--memory", type=float, default=14, help="GB that the process may have")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (int(arguments.memory * 1e9),) * 2)
    random = np.random.default_rng(arguments.seed)
    results = {}
    for algorithm in RECIPES if arguments.flags else ():
        results[f"flags of {algorithm}"] = flags(
            algorithm, arguments.flags, arguments.run_every, random
        )
    with tempfile.TemporaryDirectory() as folder:
        if arguments.files:
            run = trained("jax:CartPole-v1", Path(folder) / "run")
            for name in ("config.json", MANIFEST):
                results[name] = files(run, name, arguments.files, random)
            run = trained("CartPole-v1", Path(folder) / "host")
            each = arguments.files, arguments.run_every
            results["manifests sealed again"] = sealed(run, *each, random)
    print(table(results))
    return int(any(k.startswith("fell") for counts in results.values() for k in counts))


if __name__ == "__main__":
    sys.exit(main())
