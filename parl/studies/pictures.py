"""The pictures and tables of a comparison, as files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from parl.core.errors import ParlError
from parl.core.files import make_directory, write_json, write_text
from parl.report.plotting import LABELS, curves_figure, heat_map, profile_figure, save
from parl.studies.compare import Comparison, as_json, latex, markdown
from parl.studies.find import FoundRun, grouped


def write(found: Comparison, runs: Sequence[FoundRun], by: str, key: str, out: Path) -> list[Path]:
    """Writes all of a comparison into a directory; returns the paths."""
    make_directory(out)
    write_json(out / "compare.json", as_json(found))
    write_text(out / "table.md", markdown(found))
    write_text(out / "table.tex", latex(found))
    paths = [out / "compare.json", out / "table.md", out / "table.tex"]
    groups = grouped(runs, by)
    for env in found.envs:
        name = "curves.png" if len(found.envs) == 1 else f"curves-{file_name(env)}.png"
        paths.append(save(curves_figure(paths_on(env, groups), env, key), out / name))
    scores = {s.group: s.scores for s in found.summaries if s.env == found.summaries[-1].env}
    label = LABELS.get(key, key)
    paths.append(save(profile_figure(scores, found.summaries[-1].env, label), out / "profile.png"))
    if len(found.groups) > 1 and np.isfinite(found.improvement).all():
        title = "how likely the row is above the column"
        figure = heat_map(found.improvement, found.groups, title, "", (0.0, 1.0))
        paths.append(save(figure, out / "improvement.png"))
    return paths


def paths_on(env: str, groups: Mapping[str, Sequence[FoundRun]]) -> dict[str, list[Path]]:
    """The directories of each group's runs on an environment, without groups that have none."""
    paths = {
        label: [run.path for run in members if run.config["env"] == env]
        for label, members in groups.items()
    }
    return {label: found for label, found in paths.items() if found}


def file_name(env: str) -> str:
    """An environment's id as part of a file's name."""
    return "".join(c if c.isalnum() or c in "-." else "-" for c in env)


def plot(runs: Sequence[FoundRun], by: str, key: str, x: str, smooth: int, out: Path) -> Path:
    """Draws the learning curves of groups of runs. Raises ParlError for several environments."""
    envs = {run.config["env"] for run in runs}
    if len(envs) > 1:
        raise ParlError(
            f"runs of {len(envs)} environments do not share an axis ({', '.join(sorted(envs))}); "
            "plot those of one, or use parl compare."
        )
    env = envs.pop()
    groups = paths_on(env, grouped(runs, by))
    return save(curves_figure(groups, env, key, x=x, smooth=smooth), out)
