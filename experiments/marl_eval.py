"""Evaluations of runs in the JSON layout of marl-eval, and their aggregates.

    python experiments/marl_eval.py RUN RUN ... --out results.json

The layout (Gorsane et al. 2022, arXiv:2209.10485) is environment -> task -> algorithm -> seed ->
step_k -> metrics, beside absolute_metrics: the best policy of each run over ten times as many
episodes. The environment is the id's prefix, such as jax or pz, the task its rest. Every seed of a
run is a seed here. Prints the interquartile mean over seeds of the absolute returns, or of the last
ones where a run has no absolute metric, with its 95 % bootstrap interval.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from parl import ops
from parl.core.errors import ConfigError
from parl.core.files import write_json
from parl.report.metrics import read_metrics
from parl.runs.directory import RunDir

METRICS = {"return_mean": "return", "win_rate": "win_rate"}  # ours to theirs
Tree = dict[str, Any]


def task_of(env: str) -> tuple[str, str]:
    """(environment, task) of an id."""
    prefix, colon, name = env.rpartition(":")
    return (prefix, name) if colon else ("gymnasium", name)


def of_seed(values: Tree, prefix: str, index: int) -> Tree:
    """One seed's metrics in a record or a result, as lists of one number."""
    found = {}
    for ours, theirs in METRICS.items():
        value = values.get(f"{prefix}{ours}")
        value = values.get(f"{prefix}{ours}_seeds", value)  # metrics.jsonl has both
        if value is not None:
            found[theirs] = [float(value[index] if isinstance(value, list) else value)]
    return found


def seeds_of(run: Path) -> Tree:
    """seed -> step_k -> metrics of one run. Raises ConfigError where it is not finished."""
    config, file = RunDir(run).config(), run / "result.json"
    if not file.exists():
        raise ConfigError(f"{run} is not finished: it has no result.json.")
    result = json.loads(file.read_text())
    records = [r for r in read_metrics(run) if "eval/return_mean" in r]
    found = {}
    for index, seed in enumerate(config.seeds):
        points = {}
        for k, record in enumerate(records):
            clock = {"step_count": record["env_steps"], "elapsed_time": record["wall_s"]}
            points[f"step_{k}"] = clock | of_seed(record, "eval/", index)
        last = of_seed(result, "", index)
        points["absolute_metrics"] = of_seed(result, "absolute/", index) or last
        found[f"seed_{seed}"] = points
    return found


def collect(runs: list[Path]) -> Tree:
    """All runs in one tree. Raises ConfigError where two runs are of the same seed."""
    tree: Tree = {}
    for run in runs:
        config = RunDir(run).config()
        environment, task = task_of(config.env)
        place = tree.setdefault(environment, {}).setdefault(task, {})
        place = place.setdefault(config.algorithm, {})
        seeds = seeds_of(run)
        if twice := place.keys() & seeds.keys():
            raise ConfigError(f"{run} has {min(twice)} again, which another run has already.")
        place |= seeds
    return tree


def aggregates(tree: Tree) -> list[str]:
    """One line for each algorithm on each task."""
    lines = []
    for environment, tasks in tree.items():
        for task, algorithms in tasks.items():
            for algorithm, seeds in algorithms.items():
                scores = [s["absolute_metrics"]["return"][0] for s in seeds.values()]
                point, low, high = ops.stratified_bootstrap(np.array(scores))
                lines.append(
                    f"{algorithm} on {environment}:{task}: IQM {point:.2f}, 95 % interval "
                    f"{low:.2f} to {high:.2f}, {len(scores)} seeds"
                )
    return lines


def main(runs: Annotated[list[Path], tyro.conf.Positional], out: Path) -> None:
    """Writes `out` and prints the aggregates."""
    tree = collect(runs)
    write_json(out, tree)
    print(*aggregates(tree), f"written: {out}", sep="\n")


if __name__ == "__main__":
    tyro.cli(main)
