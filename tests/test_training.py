"""What surrounds learning: checkpoints kept, the previous good one used, metrics, divergence."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import slow
from optax.tree_utils import tree_get_all_with_path
from small import SMALL

import parl
from parl.algorithms.ppo import PPO
from parl.core import pieces, programs
from parl.core.checkpoint import params_sha256
from parl.core.errors import CheckpointError, ConfigError
from parl.core.finite import not_finite
from parl.core.pieces import files_of
from parl.core.seeding import run_keys
from parl.report.metrics import read_metrics
from parl.runs import checkpoints as run_checkpoints
from parl.runs.config import RunConfig, from_dict
from parl.runs.directory import RunDir
from parl.runs.meter import per_seed
from parl.runs.saver import Diverged
from parl.runs.trainer import Trainer

TINY: dict[str, Any] = SMALL | {"eval_episodes": 2, "steps": 160, "eval_every": 16}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> parl.Run:
    out = tmp_path_factory.mktemp("training") / "run"
    return parl.train("ppo", "jax:CartPole-v1", out, quiet=True, **TINY)


def best_step(path: Path) -> int:
    lines = [json.loads(line) for line in (path / "metrics.jsonl").open()]
    scores = {x["env_steps"]: x["eval/return_mean"] for x in lines if "eval/return_mean" in x}
    return max(scores, key=lambda step: (scores[step], -step))


def test_the_last_three_checkpoints_and_the_best_are_kept(run: parl.Run) -> None:
    saved = RunDir(run.path).saved()
    assert saved == sorted({128, 144, 160, best_step(run.path)})


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    for step in (1, 2, 3):
        run.save(step, {"x": np.zeros(2)}, {})
    for left in (".writing-3-999", ".old-2-999"):
        shutil.copytree(run.checkpoints / "3", run.checkpoints / left)
    run.prune(keep=2, best=None)
    assert sorted(p.name for p in run.checkpoints.iterdir()) == ["2", "3"]


def test_metrics_are_one_line_per_point_with_rising_steps(run: parl.Run) -> None:
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").open()]
    steps = [line["env_steps"] for line in lines]
    assert steps == sorted(set(steps)) and steps[-1] == 160
    evaluated = [x["env_steps"] for x in lines if "eval/return_mean" in x]
    assert evaluated == [16 * i for i in range(1, 11)]
    assert lines[-1]["updates"] == 10
    assert all(line["wall_s"] > 0 for line in lines)
    assert lines[0]["sps"] is None, "nothing but the iteration that compiles"
    assert all(line["sps"] > 0 for line in lines[1:])


def test_a_corrupt_newest_checkpoint_gives_way_to_the_one_before(run, tmp_path, capsys) -> None:
    directory = RunDir(run.path)
    config = directory.config()
    newest = directory.checkpoints / "160" / "arrays.bin"
    good = newest.read_bytes()
    newest.write_bytes(good[:-4] + b"\0\1\2\3")
    try:
        assert directory.latest(config.run_id).meta["env_steps"] == 144
        assert capsys.readouterr().err.startswith("WARNING: ")
    finally:
        newest.write_bytes(good)
    assert directory.latest(config.run_id).meta["env_steps"] == 160


def test_a_checkpoint_of_another_run_or_name_is_refused(run: parl.Run) -> None:
    directory = RunDir(run.path)
    with pytest.raises(CheckpointError, match="belongs to another run"):
        directory.checked(160, "someone else's")
    moved = (directory.checkpoints / "144").rename(directory.checkpoints / "145")
    try:
        with pytest.raises(CheckpointError, match="under another name"):
            directory.checked(145, directory.config().run_id)
    finally:
        moved.rename(directory.checkpoints / "144")


def test_manifest_says_whether_environments_continue_exactly(run: parl.Run) -> None:
    manifest = json.loads((run.path / "checkpoints" / "160" / "manifest.json").read_text())
    assert manifest["meta"]["exact"] is True and manifest["schema"] == 2
    assert {"jax", "gymnasium", "python"} <= manifest["meta"]["versions"].keys()
    entry = manifest["arrays"][0]
    assert {"name", "dtype", "shape", "sha256"} <= entry.keys()


@pytest.mark.slow
def test_diverged_learning_stops_and_saves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"updates in a row became NaN or infinite; .*points/0, tr"):
        parl.train(
            "sac", "jax:Pendulum-v1", tmp_path / "run", quiet=True, learning_rate=1e30,
            warmup=16, batch_size=8, capacity=400, hidden=(8,), eval_episodes=2, steps=2_560,
        )  # fmt: skip
    assert RunDir(tmp_path / "run").saved() == [0]


def break_ppo(monkeypatch: pytest.MonkeyPatch, is_bad: Callable[[Any, Any], Any]) -> None:
    """Updates give NaN where `is_bad(state, key)`."""
    update = PPO.update

    def broken(self: PPO, state: Any, batch: Any, key: Any) -> Any:
        new, metrics = update(self, state, batch, key)
        factor = jnp.where(is_bad(state, key), jnp.nan, 1.0)
        params = jax.tree.map(lambda x: x * factor, new.net.params)
        return new.replace(net=new.net._replace(params=params)), metrics

    monkeypatch.setattr(PPO, "update", broken)
    monkeypatch.setattr(programs, "is_value", lambda x: False)  # other tests' programs are not this


@pytest.mark.slow
def test_single_bad_updates_are_skipped_and_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    break_ppo(monkeypatch, lambda state, key: jax.random.bernoulli(key))
    run = parl.train("ppo", "jax:CartPole-v1", tmp_path / "run", quiet=True, num_seeds=2, **TINY)
    skipped = run.result["skipped_updates"]
    keys = [run_keys(seed).learn for seed in (0, 1)]
    bad = lambda key, i: bool(jax.random.bernoulli(jax.random.fold_in(key, i)))
    assert skipped == [sum(bad(key, i) for i in range(10)) for key in keys]
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").open()]
    assert lines[-1]["skipped_updates_seeds"] == skipped and min(skipped) > 0
    assert lines[-1]["skipped_updates"] == np.mean(skipped)
    directory = RunDir(run.path)
    for step in directory.saved():
        arrays = directory.checked(step, directory.config().run_id).under(
            "run/learner/algorithm_state"
        )
        assert all(np.isfinite(x).all() for x in arrays.values())


def test_ten_bad_updates_in_a_row_end_a_run_at_its_last_good_checkpoint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Three updates are good, and seven bad ones are not the end yet."""
    updates = lambda state: tree_get_all_with_path(state, "count")[0][1]
    break_ppo(monkeypatch, lambda state, key: updates(state) >= 3)
    settings: dict[str, Any] = TINY | {"epochs": 1, "minibatches": 1}
    run = parl.train("ppo", "jax:CartPole-v1", tmp_path / "run", quiet=True, **settings)
    assert run.result["skipped_updates"] == 7
    assert RunDir(run.path).saved()[-2:] == [48, 160], "none while it was unclear"
    with pytest.raises(Diverged, match=r"before step 208: 10 updates .*checkpoints/160, train"):
        parl.resume(run.path, steps=640, quiet=True)
    directory = RunDir(run.path)
    assert directory.saved()[-1] == 160
    saved = [directory.checked(step, directory.config().run_id).arrays for step in (48, 160)]
    assert params_sha256(saved[0]) == params_sha256(saved[1])


def test_not_finite_names_the_leaf() -> None:
    tree = {"a": jnp.ones(3), "b": {"c": jnp.array([1.0, np.inf])}, "n": jnp.arange(2)}
    assert not_finite(tree) == "b/c"
    assert not_finite({"a": jnp.ones(3)}) == ""


def test_per_seed() -> None:
    assert per_seed("x", 2.0) == {"x": 2.0}
    assert per_seed("x", [1.0, 3.0]) == {"x": 2.0, "x_seeds": [1.0, 3.0]}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"execution": "fuse"}, "Did you mean fused"),
        ({"steps": -1}, "steps must not be negative"),
        ({"seed": -1}, "seed must not be negative"),
        ({"execution": "ray"}, "add --actors 2"),
        ({"actors": 2, "num_seeds": 2}, "one seed"),
    ],
)
def test_config_refuses(change: dict, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        RunConfig("ppo", "CartPole-v1", **change).check()


def test_config_of_another_program_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown key 'colour'"):
        from_dict({"algorithm": "ppo", "env": "CartPole-v1", "colour": 1})
    with pytest.raises(ConfigError, match="incomplete"):
        from_dict({"env": "CartPole-v1"})


def test_cut_off_between_a_save_and_its_evaluation_nothing_is_lost_or_repeated(
    run: parl.Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The checkpoint comes first and holds what is still to be written."""
    complete = Trainer.complete

    def dies(self: Trainer) -> None:
        if self.env_steps == 64 and self.books.resumed_at is None:
            raise KeyboardInterrupt
        complete(self)

    monkeypatch.setattr(Trainer, "complete", dies)
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        parl.train("ppo", "jax:CartPole-v1", out, quiet=True, **TINY)
    directory = RunDir(out)
    due = directory.latest(directory.config().run_id).meta["due"]
    assert due["env_steps"] == directory.saved()[-1] == 64
    assert [line["env_steps"] for line in read_metrics(out)][-1] < 64
    result = parl.resume(out, quiet=True).result
    assert result["params_sha256"] == run.result["params_sha256"]
    times = {"wall_s", "sps", "start_s", "compile_s", "train_s", "eval_s", "save_s"}
    told = lambda path: [
        {k: x for k, x in line.items() if k not in times and not k.endswith("_share")}
        for line in read_metrics(path)
    ]
    assert told(out) == told(run.path)
    assert directory.saved() == RunDir(run.path).saved()


def test_a_finished_run_is_given_back_as_it_is(run: parl.Run, capsys: Any) -> None:
    before = {p: p.stat().st_mtime_ns for p in run.path.iterdir() if p.name != ".lock"}
    again = parl.resume(run.path)
    assert again.result == json.loads((run.path / "result.json").read_text())
    assert "is finished, at step 160; --steps with more" in capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in run.path.iterdir() if p.name != ".lock"} == before


def test_going_on_from_an_older_checkpoint_drops_the_newer_ones(
    run: parl.Run, tmp_path: Path, capsys: Any
) -> None:
    out = Path(shutil.copytree(run.path, tmp_path / "run"))
    again = parl.resume(out, checkpoint=128, quiet=True)
    newer = ", ".join(str(s) for s in RunDir(run.path).saved() if s > 128)
    said = f"goes on from step 128: checkpoints {newer} and metrics since then go."
    assert said in capsys.readouterr().err
    assert again.result["params_sha256"] == run.result["params_sha256"]
    steps = [line["env_steps"] for line in read_metrics(out)]
    assert steps == [line["env_steps"] for line in read_metrics(run.path)]


@pytest.mark.slow
def test_a_run_without_replay_fills_it_anew_and_says_so(tmp_path: Path, capsys: Any) -> None:
    tiny = {"hidden": (8,), "eval_episodes": 1, "batch_size": 8, "length": 8, "capacity": 64}
    run = parl.train(
        "dqn", "jax:CartPole-v1", tmp_path / "run", quiet=True, steps=128, warmup=32, updates=2,
        checkpoint_replay="no", **tiny,
    )  # fmt: skip
    assert run.result["updates"] == (128 - 32) // 8 * 2
    assert not list(run.path.glob("checkpoints/*/replay.bin"))
    again = parl.resume(run.path, steps=192, quiet=True)
    assert "not bit for bit: it has no replay, which fills anew" in capsys.readouterr().err
    assert again.result["updates"] == run.result["updates"] + (192 - 128 - 32) // 8 * 2


@pytest.mark.parametrize(
    ("env", "settings"),
    [
        ("CartPole-v1", {"replay_on_host": True}),
        slow("jax:CartPole-v1", {"num_seeds": 2}),
    ],
)
def test_a_run_with_a_large_replay_resumes_bit_for_bit(
    tmp_path: Path, monkeypatch: Any, capsys: Any, env: str, settings: dict[str, Any]
) -> None:
    """Every save writes what changed; a ring of 64 rows is full at step 64 and goes around."""
    tiny = {"hidden": (8,), "eval_episodes": 1, "batch_size": 8, "length": 8, "num_envs": 1}
    tiny |= {"warmup": 16, "updates": 1, "capacity": 64, "priority": 0.6}
    tiny |= {"eval_every": 24, "steps": 136}
    train = partial(parl.train, "dqn", env, quiet=True, **tiny | settings)
    whole = train(tmp_path / "whole")
    monkeypatch.setattr(run_checkpoints, "LARGE", 100)
    monkeypatch.setattr(pieces, "SIZE", 256)
    path, steps = train(tmp_path / "run", checkpoint_replay="yes").path, [96, 120, 136]
    named = lambda: [files_of(RunDir(path).meta(step).get("replay")) for step in steps]
    there = lambda: {file.stem for file in (path / "replay").iterdir()}
    assert all(a != b and a & b for a, b in pairwise(named())), "they share what is the same"
    assert set().union(*named()) <= there()
    again = parl.resume(path, checkpoint=96, quiet=True)
    assert again.result["params_sha256"] == whole.result["params_sha256"]
    last = [RunDir(out).latest(RunDir(out).config().run_id) for out in (whole.path, path)]
    wanted, found = (checkpoint.under("replay") for checkpoint in last)
    assert wanted.keys() == found.keys() and wanted
    assert all(np.array_equal(wanted[name], found[name]) for name in wanted)
    assert "not bit for bit" not in capsys.readouterr().err
    for digest in named()[-1]:
        (path / "replay" / f"{digest}.bin").write_bytes(b"")
    parl.resume(path, steps=144, quiet=True)
    said = capsys.readouterr().err
    assert "/136 is damaged" in said and "it has no replay, which fills anew" in said
