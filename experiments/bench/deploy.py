"""Figures of exported policies: export, actions in NumPy, C and a browser, a fresh process.

    python experiments/bench/deploy.py [--out DIR] [--browser chromium]

Policies of 64x64, 256x256 and a GRU of 64 units after one short iteration of PPO: their speed does
not depend on what they learned. Seconds of an export are those behind the loading of the run, wall
and CPU, children included; what a form adds is told one by one. An action is the best
median of 20 rounds of 100, as other processes share the cores.
What cannot be measured here (no compiler, no browser, no package onnx) is named. Prints a table
with the goal beside every figure; the last line is one JSON object. Exit code 1 where a figure
misses its goal.
"""

import json
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro

import parl
from parl.deploy.backends import FLAGS
from parl.deploy.export import c

RUNS: dict[str, dict[str, Any]] = {
    "64x64": {"env": "CartPole-v1", "hidden": (64, 64)},
    "256x256": {"env": "CartPole-v1", "hidden": (256, 256)},
    "GRU 64": {"env": "jax:CartPoleMasked-v1", "hidden": (64, 64), "recurrent": "gru"},
}
ACTING = {"64x64": 25.0, "256x256": 40.0, "GRU 64": 80.0}  # microseconds in NumPy, at most
FORMS = ("numpy", "onnx", "c", "js")
FRESH = """
import time; began = time.perf_counter()
import sys; sys.path.insert(0, "."); import numpy as np, policy
actor = policy.load(); actor.act(np.zeros(actor.contract.leaves[0].own_shape), actor.start())
passed, status = time.perf_counter() - began, open("/proc/self/status").read()
print(passed, time.process_time(), int(status.split("VmHWM:")[1].split()[0]) / 1024)
"""
TIMED = """
#include <stdio.h>
#include <time.h>
static double in[8][4096], out[8][4096], workspace[POLICY_WORKSPACE / sizeof(double) + 1];
static double seconds(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec; }
int main(void) {
  double best = 1e9;
  for (int i = 0; i < 200; i++) {
    double began = seconds();
    for (int k = 0; k < 200; k++) act(%s, workspace);
    double passed = (seconds() - began) / 200;
    best = passed < best ? passed : best;
  }
  printf("%%f %%d", 1e6 * best, (int)POLICY_WORKSPACE);
  return 0;
}
"""


class Figure(NamedTuple):
    """A figure beside its goal."""

    name: str
    value: float
    goal: float | None = None  # at most
    unit: str = ""

    @property
    def is_met(self) -> bool:
        return self.goal is None or self.value <= self.goal

    def __str__(self) -> str:
        goal = "" if self.goal is None else f"<= {self.goal:g}{'' if self.is_met else ' MISSED'}"
        return f"| {self.name} | {self.value:.3g} {self.unit} | {goal} |"


def seconds(call: Callable[[], Any]) -> tuple[float, float]:
    """(wall, CPU) of a call, with the processes that it started."""

    def spent() -> float:
        both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(each.ru_utime + each.ru_stime for each in both)

    began, used = time.perf_counter(), spent()
    call()
    return time.perf_counter() - began, spent() - used


def exports(run: Path, place: Path) -> list[Figure]:
    """Seconds of the export of an MLP, first whole, then what each form adds."""
    agent = parl.load(run)
    told: list[Any] = []
    whole = lambda: told.append(parl.export(agent, place / "whole", FORMS, env="CartPole-v1"))
    wall, used = seconds(whole)
    for form, reason in told[0].report["missing"].items():
        print(f"not measured: {form}: {reason}")
    made = [
        Figure("export of 64x64 to numpy, onnx, c, js: wall", wall, 5.0, "s"),
        Figure("export of 64x64 to numpy, onnx, c, js: CPU", used, None, "s"),
        Figure("the same again in this process: CPU", seconds(whole)[1], None, "s"),
    ]
    plain = 0.0
    for form in FORMS:
        _, used = seconds(
            lambda form=form: parl.export(agent, place / form, form, env="CartPole-v1")
        )
        plain = used if form == "numpy" else plain
        name = "numpy alone" if form == "numpy" else f"what {form} adds"
        made.append(Figure(f"{name}: CPU", used if form == "numpy" else used - plain, None, "s"))
    return made


def acting(place: Path, name: str) -> Figure:
    """Microseconds of an action in NumPy, in the environment's units."""
    actor = parl.Policy.load(place)
    state, obs = actor.start(), np.zeros(actor.contract.leaves[0].own_shape)
    medians = []
    for _ in range(20):
        times = []
        for _ in range(100):
            began = time.perf_counter()
            actor.act(obs, state)
            times.append(time.perf_counter() - began)
        medians.append(np.median(times))
    return Figure(f"NumPy, {name}: an action", float(min(medians)) * 1e6, ACTING[name], "us")


def fresh(place: Path) -> list[Figure]:
    """A process from the import of policy.py to its first action, the best of five."""
    command = [sys.executable, "-I", "-c", FRESH]
    run = lambda: subprocess.run(command, cwd=place, capture_output=True, text=True, check=True)
    found = np.array([[float(x) for x in run().stdout.split()] for _ in range(5)])
    first, used, memory = found.min(0)
    return [
        Figure("fresh process to its first action: wall", first, 0.5, "s"),
        Figure("the process whole: CPU", used, None, "s"),
        Figure("its memory at most", memory, 60.0, "MB"),
    ]


def compiled(place: Path) -> list[Figure]:
    """policy.h of a network of 64x64: all warnings are errors, so that this raises at one."""
    program = parl.Policy.load(place).contract.programs["greedy"]
    assert "malloc" not in (place / c.FILE).read_text()
    rows = [f"in[{i}]" for i in range(len(program.inputs))]
    rows += [f"out[{i}]" for i in range(len(program.outputs))]
    source = c.wrapper("greedy", program) + TIMED % ", ".join(rows)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(place / c.FILE, folder)
        (Path(folder) / "timed.c").write_text(source)
        flags = [flag for flag in FLAGS if flag not in ("-shared", "-fPIC", "-std=c99")]
        command = ["cc", "-std=c99", "-D_POSIX_C_SOURCE=199309L", *flags]
        subprocess.run([*command, "timed.c", "-o", "timed", "-lm"], cwd=folder, check=True)
        done = subprocess.run(["./timed"], cwd=folder, capture_output=True, text=True, check=True)
    speed, room = map(float, done.stdout.split())
    return [
        Figure("C (-Wall -Wextra -Werror), 64x64: an action", speed, 5.0, "us"),
        Figure("C, 64x64: working memory", room / 1024, 4.0, "KB"),
    ]


def shown(place: Path, browser: str) -> list[Figure]:
    """The page of a policy, and the time of an action that it measures in a browser by itself."""
    page = place / "index.html"
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
        command += [f"--user-data-dir={profile}", page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    told = re.search(r'id="act">([^<]*)<', done.stdout)
    assert told is not None, done.stderr[-500:]
    number, unit = told[1].split()[:2]
    milliseconds = float(number) * (1.0 if unit == "ms" else 1e-3)
    return [
        Figure("web page of 64x64", page.stat().st_size / 1000, 500.0, "KB"),
        Figure("web page: an action", milliseconds, 0.5, "ms"),
    ]


def main(out: Path | None = None, browser: str = "chromium") -> None:
    """Trains, exports and measures."""
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary) if out is None else out
        runs = {
            name: parl.train("ppo", out=place / name / "run", quiet=True, steps=1, **settings).path
            for name, settings in RUNS.items()
        }
        figures = exports(runs["64x64"], place)
        for name, run in runs.items():
            forms = ("numpy", "c", "web") if name == "64x64" else "numpy"
            policy = parl.export(run, place / name / "policy", forms, episodes=0).path
            figures.append(acting(policy, name))
        plain = place / "64x64" / "policy"
        figures += fresh(plain)
        for tool, measure in (
            ("cc", lambda: compiled(plain)),
            (browser, lambda: shown(plain, browser)),
        ):
            if shutil.which(tool) is None:
                print(f"not measured: there is no {tool}")
                continue
            figures += measure()
    print("| figure | measured | goal |", "|---|---|---|", *figures, sep="\n")
    print(json.dumps({figure.name: figure.value for figure in figures}))
    sys.exit(0 if all(figure.is_met for figure in figures) else 1)


if __name__ == "__main__":
    tyro.cli(main)
