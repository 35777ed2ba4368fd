"""The study runner: tables of cells, kills, what it counts and what it writes."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import parl
from parl.core.errors import ConfigError

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))

import control
import flops
import study
import study_record
import study_report

TINY = {
    "hidden": [8], "eval_episodes": 2, "batch_size": 16, "warmup": 200, "length": 8, "updates": 4,
    "capacity": 3_000,
}  # fmt: skip
TABLE = f"""
title: Two tiny cells
at: [800]
defaults: {{num_seeds: 2, seed: 5, {", ".join(f"{k}: {v}" for k, v in TINY.items())}}}
cells:
  - {{algorithm: sac, env: 'jax:Pendulum-v1', steps: 800}}
  - {{algorithm: sac, env: Pendulum-v1, steps: 2_400, eval_every: 400, label: sac host}}
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "tiny.yaml").write_text(TABLE)
    return tmp_path / "tiny.yaml"


def words(table: Path, *more: str) -> list[str]:
    out = str(table.parent / "runs")
    return ["--study", str(table), "--out", out, "--results", f"{out}/results", *more]


# -- the table ------------------------------------------------------------------------------------


def test_rows_are_products_over_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "grid.yaml"
    file.write_text(
        "defaults: {steps: 100, env: A-v0}\n"
        "cells:\n"
        "  - {algorithm: [sac, td3], env: [A-v0, B-v0], steps: 7}\n"
        "  - {algorithm: sac, label: sac wide, hidden: [512, 512]}\n"
        "  - {algorithm: oac, seed: [0, 3]}\n"
    )
    found = study.load(str(file))
    assert (found.name, found.title, found.at) == ("grid", "grid", ())
    names = ["sac-A-v0", "sac-B-v0", "td3-A-v0", "td3-B-v0", "sac-wide-A-v0"]
    names += ["oac-A-v0", "oac-A-v0-seed-3"]
    assert [cell.name for cell in found.cells] == names
    assert found.cells[1] == study.Cell("sac", "B-v0", "sac", {"steps": 7})
    assert found.cells[4].command == "parl train sac --env A-v0 --steps 100 --hidden 512 512"
    assert [cell.settings.get("seed") for cell in found.cells[5:]] == [None, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cells: []", "must hold 'cells:'"),
        ("cells: [{algorithm: sac, env: A}]\ntitel: x", "unknown key 'titel'"),
        ("cells: [{algorithm: sac, env: A}, {algorithm: sac, env: A}]", "two cells called sac-A"),
        (
            "defaults: {algorithm: sac, env: A}\ncells: [{tau: 0.1}, {tau: 0.2, seed: 1}]",
            "sac-A and sac-A-seed-1, which differ in more than their seeds",
        ),
        ("cells: [{algorithm: sac}]", "needs an algorithm and an env"),
        ("cells: [", "cannot read the study"),
    ],
)
def test_tables_that_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        study.load(str(tmp_path / "bad.yaml"))


@pytest.mark.slow
def test_the_studies_that_come_with_it_are_sound() -> None:
    """Every cell's settings exist and fit; its task, if of MuJoCo, has a row to be held to."""
    names = [path.stem for path in study.STUDIES.glob("*.yaml")]
    assert {"paper", "heavy", "many_updates", "tasks", "ppo"} <= set(names)
    reference = study_report.published()
    for name in names:
        for cell in study.load(name).cells:
            parts = cell.parts()
            rows = study_report.beside(cell, parts.config.steps, reference)
            assert bool(rows) == (name != "pendulum"), cell.name  # which nobody publishes


def test_a_mistake_in_the_last_cell_is_told_before_the_first_runs(table: Path, capsys) -> None:
    table.write_text(TABLE.replace("label: sac host", "hiden: [4]"))
    assert control.main(words(table)) == 2
    assert "unknown setting 'hiden'. Did you mean hidden?" in capsys.readouterr().err
    assert not (table.parent / "runs").exists()


# -- running --------------------------------------------------------------------------------------


def test_two_studies_do_not_share_their_runs(table: Path, capsys) -> None:
    with control.alone(table.parent / "runs"):
        assert control.main(words(table)) == 2
    assert "another study is running" in capsys.readouterr().err


@pytest.mark.slow
def test_a_study_that_is_killed_goes_on_with_the_same_command(table: Path, capsys) -> None:
    runs = table.parent / "runs"
    log = table.parent / "log"
    with log.open("w") as file:
        command = [sys.executable, control.__file__, *words(table)]
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    first, second = runs / "sac-jax-Pendulum-v1-seed-5", runs / "sac-host-Pendulum-v1-seed-5"
    limit = time.monotonic() + 600
    try:
        while not any(p.name.isdecimal() and p.name != "0" for p in second.glob("checkpoints/*")):
            assert process.poll() is None and time.monotonic() < limit, log.read_text()
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (second / "result.json").exists(), "it finished before it was killed"
    before = (first / "result.json").stat().st_mtime_ns
    assert "sac host" not in (runs / "results" / "tiny.md").read_text().split("Not finished")[0]

    assert control.main(words(table)) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "[1/2] sac-jax-Pendulum-v1-seed-5: finished"
    assert said[2].startswith("[2/2] sac-host-Pendulum-v1-seed-5: at step ")
    assert (first / "result.json").stat().st_mtime_ns == before
    whole = parl.train(
        "sac", "Pendulum-v1", table.parent / "whole", quiet=True, steps=2_400, num_seeds=2, seed=5,
        **TINY,
    )  # fmt: skip
    result = json.loads((second / "result.json").read_text())
    assert result["params_sha256"] == whole.result["params_sha256"]

    # what it wrote
    results = runs / "results"
    lines = (results / "tiny.csv").read_text().splitlines()
    assert lines[0] == "label,env,seed,steps,return"
    steps = [int(line.split(",")[3]) for line in lines if line.startswith("sac host,Pendulum-v1,6")]
    assert steps == [400 * i for i in range(1, 7)]
    text = (results / "tiny.md").read_text()
    assert "| sac host | Pendulum-v1 | 800 |" in text and "Not finished" not in text
    begin = "| sac host | Pendulum-v1 | 2,400"
    row = next(line for line in text.splitlines() if line.startswith(begin))
    cells = row.split(" | ")
    assert cells[2:6] == [
        "2,400", "5-6", ", ".join(f"{x:,.0f}" for x in result["return_mean"]),
        f"**{np.mean(result['return_mean']):,.0f}**",
    ]  # fmt: skip
    assert cells[8:10] == ["8", "0.5"]  # width, updates a step
    assert (results / "tiny-Pendulum-v1.png").read_bytes()[:4] == b"\x89PNG"
    table.write_text(TABLE.replace("steps: 2_400", "steps: 5_000"))
    assert control.main(words(table)) == 1  # a finished cell is not passed off as another
    assert "was begun with settings" in capsys.readouterr().err
    assert "Not finished: sac-host-Pendulum-v1-seed-5." in (results / "tiny.md").read_text()


@pytest.mark.slow
def test_a_run_that_was_killed_before_its_first_checkpoint_starts_anew(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "commit", lambda: "abc1234")
    cell = study.load(str(table)).cells[0]
    path = table.parent / "runs" / cell.name
    control.note(cell, path, finished=False)
    (path / "checkpoints" / ".writing-0").mkdir(parents=True)
    (path / "config.json").write_text("{}")
    control.train(cell, path)
    assert control.state(path) == "finished"
    note = json.loads((path / "cell.json").read_text())
    assert note["commits"] == ["abc1234"] and note["gflop_per_step"] >= 0


# -- what it counts -------------------------------------------------------------------------------


def test_operations_of_matmuls_loops_and_branches() -> None:
    def program(x, w):
        y = x @ w  # [4, 3] @ [3, 5]: 2 * 4 * 3 * 5 = 120
        z, _ = jax.lax.scan(lambda c, _: (jnp.tanh(c @ c.T) @ c, None), y, None, length=7)
        # each time [4, 5] @ [5, 4] and [4, 4] @ [4, 5]: 160 + 160
        side = jax.lax.cond(z.sum() > 0, lambda: z @ z.T, lambda: jnp.zeros((4, 4)))  # 160 or 0
        return jax.vmap(lambda a: a @ w)(side[:, :, None] * jnp.ones(3))  # [4, 4, 3] @ [3, 5]: 480

    jaxpr = jax.make_jaxpr(program)(jnp.ones((4, 3)), jnp.ones((3, 5))).jaxpr
    assert flops.flops(jaxpr) == 120 + 7 * 320 + 160 + 480
    assert flops.flops(jaxpr, period=4) == 120 + 7 * 320 + 40 + 480


def test_operations_of_a_convolution() -> None:
    def convolve(x, kernel):
        return jax.lax.conv(x, kernel, (1, 1), "VALID")

    jaxpr = jax.make_jaxpr(convolve)(jnp.ones((2, 3, 6, 6)), jnp.ones((8, 3, 3, 3))).jaxpr
    assert flops.flops(jaxpr) == 2 * (2 * 8 * 4 * 4) * (3 * 3 * 3)


def test_a_step_of_sac_costs_what_its_matmuls_do() -> None:
    """Critics: targets, values and their gradients; the actor through them: by hand."""
    batch, obs, action, hidden, critics = 16, 3, 1, 8, 2
    cell = study.Cell("sac", "jax:Pendulum-v1", "sac", {k: v for k, v in TINY.items()})
    q = (obs + action) * hidden + hidden * 1  # weights of one critic
    pi = obs * hidden + hidden * 2 * action
    update = pi  # next actions
    update += critics * q  # targets
    update += critics * (q + q + hidden * 1)  # values, weights' gradients, that of the first layer
    update += pi + pi + hidden * 2 * action  # the policy, its weights' gradients, its first layer's
    update += critics * (q + q)  # values and their gradients by the action
    expected = 2 * batch * update * TINY["updates"] / TINY["length"] / 1e9
    assert flops.gflop_per_step(cell.parts()) == pytest.approx(expected, rel=0.1)


# -- the reference --------------------------------------------------------------------------------


def test_published_rows_are_those_of_the_nearest_step_count() -> None:
    reference = study_report.published()
    cell = lambda algorithm, env: study.Cell(algorithm, env, algorithm, {})
    (sac,) = study_report.beside(cell("sac", "HalfCheetah-v4"), 100_000, reference)
    assert str(sac) == "6,156 ± 738 (SAC, gym-v4, 100k)"
    (later,) = study_report.beside(cell("sac", "HalfCheetah-v5"), 260_000, reference)
    assert later.steps == 300_000
    both = study_report.beside(cell("ppo", "HalfCheetah-v4"), 1_000_000, reference)
    assert [round(row.mean) for row in both] == [1443, 5784]
    (other,) = study_report.beside(cell("oac", "Ant-v4"), 100_000, reference)
    assert (other.recipe, round(other.mean)) == ("sac", 747)
    dmc = study_report.beside(cell("simba", "dmc:cheetah-run?repeat=2"), 100_000, reference)
    assert [(row.steps, round(row.mean)) for row in dmc] == [(250_000, 815)]
    assert study_report.beside(cell("sac", "Pendulum-v1"), 1_000, reference) == []


@pytest.mark.parametrize(
    ("seeds", "named"), [([0], "0"), ([3, 4, 5], "3-5"), ([0, 2], "0, 2"), ([1, 0], "1, 0")]
)
def test_how_seeds_are_named(seeds: list[int], named: str) -> None:
    assert study_report.names(seeds) == named


def test_several_tasks_are_aggregated_in_published_returns() -> None:
    reference = study_report.published()

    def row(env: str, returns: list[float]) -> study_record.Record:
        return record(study.Cell("sac", env, "sac", {}), [0, 1, 2], [100_000], [returns])

    rows = [row("HalfCheetah-v4", [6156.31] * 3), row("Ant-v4", [2 * 747.25] * 3)]
    lines = study_report.aggregate(rows, reference)
    assert lines[2] == "| sac | 1.50 (1.50 to 1.50) |"
    assert study_report.aggregate(rows[:1], reference) == []


def record(
    cell: study.Cell,
    seeds: list[int],
    steps: list[int],
    returns: list[Any],
    commits: tuple[str, ...] = ("aaa",),
) -> study_record.Record:
    """What came of a cell of ten seconds."""
    return study_record.Record(
        cell, [cell.command], seeds, steps[-1], 10.0, "8", "1", 0.5, "1 core, cpu", [*commits],
        np.array(steps), np.array(returns),
    )  # fmt: skip


def test_a_cell_is_reported_where_its_run_is_not(tmp_path: Path) -> None:
    """On another machine, from what was kept; not in place of a cell of other settings."""
    cell = lambda tau: study.Cell("sac", "Ant-v4", "sac", {"steps": 200, "tau": tau})
    record(cell(0.1), [3, 4], [100, 200], [[1.25, 2.0], [3.0, 4.123]]).write(tmp_path)
    found = study_record.read(cell(0.1), tmp_path)
    assert found is not None and found.cell == cell(0.1)
    assert found.returns.tolist() == [[1.25, 2.0], [3.0, 4.12]] and found.seeds == [3, 4]
    assert study_record.read(cell(0.2), tmp_path) is None
    for text in ("{", "[]", '{"algorithm": "sac"}'):
        odd = study.Cell("odd", "Ant-v4", "odd", {})
        study_record.file_of(odd, tmp_path).write_text(text)
        with pytest.raises(ConfigError, match="not the record of a cell"):
            study_record.read(odd, tmp_path)
    table = study.Study("two", "Two", (), (cell(0.1), study.Cell("td3", "Ant-v4", "td3", {})))
    study_report.write(table, tmp_path / "no-runs", tmp_path)
    text = (tmp_path / "two.md").read_text()
    assert "| sac | Ant-v4 | 200 | 3-4 | 3, 4 | **4** |" in text
    assert "Not finished: td3-Ant-v4." in text
    assert (tmp_path / "two.csv").read_text().splitlines()[1:] == [
        "sac,Ant-v4,3,100,1.25", "sac,Ant-v4,3,200,3.00",
        "sac,Ant-v4,4,100,2.00", "sac,Ant-v4,4,200,4.12",
    ]  # fmt: skip


def test_cells_of_other_seeds_are_one_row() -> None:
    def row(settings: dict[str, Any], seeds: list[int], returns: list[list[float]], commit: str):
        cell = study.Cell("sac", "Ant-v4", "sac", settings)
        steps = [1_000 * i for i in range(1, len(returns) + 1)]
        return record(cell, seeds, steps, returns, commits=(commit,))

    first = row({"num_seeds": 1, "tau": 0.1}, [0], [[1.0], [2.0]], "aaa")
    more = row({"num_seeds": 2, "tau": 0.1, "seed": 4}, [4, 5], [[3, 4], [5, 6], [7, 8]], "bbb")
    other = row({"num_seeds": 1, "tau": 0.2}, [0], [[9.0]], "aaa")
    rows = study_record.by_seeds([first, more, other])
    assert [row.seeds for row in rows] == [[0, 4, 5], [0]]
    assert rows[0].returns.tolist() == [[1, 3, 4], [2, 5, 6]]
    assert rows[0].steps.tolist() == [1_000, 2_000] and rows[0].env_steps == 2_000
    assert rows[0].wall_s == 20 and rows[0].commits == ["aaa", "bbb"]
    assert len(rows[0].commands) == 2 and "--seed 4" in rows[0].commands[1]
    again = row({"num_seeds": 1, "tau": 0.1, "seed": 5}, [5], [[1.0]], "ccc")
    with pytest.raises(ConfigError, match="ran the same seed"):
        study_record.by_seeds([more, again])
