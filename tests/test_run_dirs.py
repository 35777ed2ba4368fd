"""Run directories: who may start or go on in one, which checkpoints stay, what signals do."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small import SMALL

import parl
from parl.core import checkpoint, files, pieces
from parl.core.errors import CheckpointError, ConfigError, ParlError
from parl.core.locks import Held, Lock, read_lock
from parl.core.pieces import Ring
from parl.report.metrics import RunLog, read_metrics
from parl.runs import checkpoints as run_checkpoints
from parl.runs.config import RunConfig, new_run_id
from parl.runs.directory import RunDir
from parl.runs.interruption import Interrupted, Signals
from parl.runs.session import changed, default_out, started

CONFIG = RunConfig("ppo", "jax:CartPole-v1", run_id="mine")


def make_run(path: Path, *steps: int) -> RunDir:
    run = RunDir.create(path, CONFIG)
    for step in steps:
        save(run, step)
    run.release()
    return run


def save(run: RunDir, step: int, run_id: str = "mine", **tree: Any) -> None:
    run.save(step, {"run": {"x": np.full(8, float(step))}} | tree, {"run_id": run_id})


def flip(run: RunDir, step: int, file: str = "arrays.bin") -> None:
    path = run.checkpoints / str(step) / file
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data)


def names(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir())


# -- starting -------------------------------------------------------------------------------------


def test_a_run_is_not_started_over(tmp_path: Path) -> None:
    make_run(tmp_path / "r", 0)
    with pytest.raises(ConfigError, match="already holds a run: continue it with 'parl resume"):
        RunDir(tmp_path / "r").claim("other")


@pytest.mark.parametrize("killed", ["before anything", "writing", "saved", "config first"])
def test_a_start_that_was_killed_is_started_again(tmp_path: Path, killed: str) -> None:
    run = RunDir(tmp_path / "r")
    if killed == "config first":  # as earlier versions did
        run.checkpoints.mkdir(parents=True)
        run.write_config(CONFIG)
        (run.path / "metrics.jsonl").write_text("")
    else:
        run.claim("dead")
        (run.path / "metrics.jsonl").write_text("")
        (run.path / "tensorboard").mkdir()
        if killed != "before anything":
            save(run, 0, "dead")
        if killed == "writing":
            (run.checkpoints / "0").rename(run.checkpoints / ".writing-0-999999")
        run.release()
        with pytest.raises(ConfigError, match="did not become a run: start it again with 'parl tr"):
            run.config()
    again = RunDir(tmp_path / "r")
    again.claim("mine")
    assert names(again.path) == [".lock", "checkpoints"] and not names(again.checkpoints)
    assert read_lock(again.path / ".lock")["run_id"] == "mine"
    again.release()


def test_a_failed_start_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "r"
    with pytest.raises(ZeroDivisionError), started(out, CONFIG, {}) as run:
        save(run, 0)
        run.write_config(CONFIG)
        raise ZeroDivisionError
    assert not out.exists()
    (out / "mine").mkdir(parents=True)
    with pytest.raises(Interrupted), started(out, CONFIG, {}):
        raise Interrupted("", signal.SIGTERM)
    assert names(out) == ["mine"]


@pytest.mark.parametrize("error", [Interrupted("", signal.SIGTERM), parl.EnvError("NaN")])
def test_what_was_learned_or_saved_stays(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), started(tmp_path / "r", CONFIG, {}) as run:
        save(run, 0)
        run.write_config(CONFIG)
        run.iterations = isinstance(error, Exception)  # a signal is no failure of the run
        raise error
    assert RunDir(tmp_path / "r").config() == CONFIG and run.saved() == [0]


@pytest.mark.parametrize("odd", ["checkpoints/7", "metrics.jsonl", "result.json", "tensorboard"])
def test_nothing_of_others_is_written_over(tmp_path: Path, odd: str) -> None:
    (tmp_path / "checkpoints" / ".git").mkdir(parents=True)
    thing = tmp_path / odd
    thing.mkdir() if "." not in odd else thing.write_text("x")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match=f"holds {odd}, which is not of a run"):
        RunDir(tmp_path).claim("mine")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a" * 256, "is longer than 255 bytes"),
        ("nul\0", "holds the character NUL"),
        ("file", "cannot use .* as a run's directory"),
        ("file/below", "cannot use .* as a run's directory"),
    ],
)
def test_names_that_cannot_be(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=said):
        RunDir(tmp_path / name).claim("mine")
    with pytest.raises(ConfigError):
        RunDir(tmp_path / name).config()


def test_names_that_are_not_given_are_free(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda _: "now")
    made = [RunDir.of_new(None, default_out(CONFIG, {}), new_run_id()).path for _ in range(3)]
    base = "runs/ppo-jax-CartPole-v1"
    assert [str(p) for p in made] == [f"{base}-0-now{n}" for n in ("", "-2", "-3")]
    assert str(default_out(CONFIG, {"learning_rate": 3e-4})) == f"{base}-learning_rate=0.0003-0-now"
    assert str(default_out(CONFIG, {"hidden": (64, 64)})) == f"{base}-hidden=64x64-0-now"
    assert str(default_out(CONFIG, {"a": "x" * 41})) == f"{base}-0-now"


# -- locks ----------------------------------------------------------------------------------------


def test_a_run_that_is_going_on_is_not_resumed(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "r", CONFIG)
    save(run, 0)
    with pytest.raises(Held, match=f"{tmp_path}/r is in use: this process trains there"):
        RunDir(tmp_path / "r").hold()
    run.release()
    RunDir(tmp_path / "r").hold()


def test_two_starts_in_one_directory(tmp_path: Path) -> None:
    first = RunDir(tmp_path / "r")
    first.claim("a")
    with pytest.raises(Held):
        RunDir(tmp_path / "r").claim("b")
    assert read_lock(first.path / ".lock")["run_id"] == "a"
    first.abandon()
    first.release()
    assert not first.path.exists()


def test_a_lock_ends_with_its_process_and_not_with_its_children(tmp_path: Path) -> None:
    """A child that was forked outlives the holder."""
    code = f"""if True:
        import os, sys, time
        from pathlib import Path
        from parl.core.locks import Lock
        lock = Lock(Path({str(tmp_path / "lock")!r}))
        if os.fork() == 0:
            print("the child runs", flush=True)
        time.sleep(60)"""
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline()
        with pytest.raises(Held):
            Lock(tmp_path / "lock")
        holder.kill()
        holder.wait()
        Lock(tmp_path / "lock").close()
    finally:
        os.killpg(holder.pid, signal.SIGKILL)
        holder.communicate()


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    def flock(*_: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    Lock(tmp_path / "lock").close()
    assert "file system without locks (No locks available)" in capsys.readouterr().err


# -- checkpoints that stay ------------------------------------------------------------------------


@pytest.mark.parametrize("noted", [3.5, ["a"], {"user/a": "b"}])
def test_metrics_of_a_checkpoint_that_are_none_do_not_cost_the_last_good_one(
    tmp_path: Path, noted: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run = parl.train("ppo", "jax:CartPole-v1", tmp_path / "run", True, **SMALL)
    RunDir(run.path).amend(64, {"noted": noted})
    (run.path / "result.json").unlink()
    assert parl.resume(run.path, steps=96, quiet=True).result["env_steps"] == 96
    assert "checkpoints/64 cannot be resumed" in capsys.readouterr().err


def test_a_damaged_newer_checkpoint_does_not_cost_the_last_good_one(tmp_path: Path) -> None:
    run = make_run(tmp_path, 2_000, 3_000)
    flip(run, 3_000)
    run = RunDir(tmp_path)
    save(run, 2_008)
    run.prune(keep=1, best=None, run_id="mine")
    assert run.saved() == [2_008, 3_000] or run.saved() == [2_008]
    assert run.latest("mine").meta["env_steps"] == 2_008


def test_what_is_not_the_runs_is_neither_counted_nor_removed(tmp_path: Path) -> None:
    run = make_run(tmp_path, 1, 2)
    save(run, 50, "theirs")
    (run.checkpoints / "99999").write_text("a stray file")
    for name in ("100", ".git", ".cache", "007", "notes"):
        (run.checkpoints / name).mkdir()
        (run.checkpoints / name / "x").write_text("")
    run.prune(keep=1, best=None, run_id="mine")
    kept = [".cache", ".git", "007", "100", "2", "50", "99999", "notes"]
    assert names(run.checkpoints) == kept
    assert run.latest("mine").meta["env_steps"] == 2
    with pytest.raises(CheckpointError, match="/50 belongs to another run: move it away"):
        save(run, 50)
    with pytest.raises(CheckpointError, match="holds something that is not a checkpoint"):
        save(run, 100)


def test_the_best_stays(tmp_path: Path) -> None:
    run = make_run(tmp_path, 1, 2, 3, 4)
    run.prune(keep=1, best=2, run_id="mine")
    assert run.saved() == [2, 4]


def test_what_was_set_aside_is_found_and_kept(tmp_path: Path) -> None:
    """A writer died between the two renames that replace the only checkpoint."""
    run = make_run(tmp_path, 5)
    (run.checkpoints / "5").rename(run.checkpoints / ".old-5-999999")
    assert run.saved() == [5]
    run.prune(keep=1, best=None, run_id="mine")
    assert run.latest("mine").meta["env_steps"] == 5
    save(run, 5)
    assert names(run.checkpoints) == ["5"]


def test_a_checkpoint_that_vanishes_while_it_is_read(tmp_path: Path, monkeypatch: Any) -> None:
    run = make_run(tmp_path, 1)
    read = checkpoint.read

    def moved_on(path: Path, *args: Any) -> Any:
        if path.name == "1":
            shutil.rmtree(path, ignore_errors=True)
            save(run, 2)
        return read(path, *args)

    monkeypatch.setattr(checkpoint, "read", moved_on)
    assert run.latest("mine").meta["env_steps"] == 2


def test_checkpoints_by_name(tmp_path: Path) -> None:
    run = make_run(tmp_path, 0, 8, 16)
    log = RunLog(tmp_path, tensorboard=False)
    for step, value in ((4, 9.0), (8, 5.0), (12, None), (16, 5.0)):
        log.write({"env_steps": step, "eval/return_mean": value})
    steps = lambda which: run.pick("mine", which).meta["env_steps"]
    assert [steps(which) for which in ("latest", "best", "0", 16)] == [16, 8, 0, 16]
    there = r"there are 0, 8 \(best\), 16\.$"
    with pytest.raises(CheckpointError, match=f"has no checkpoint 7; {there}"):
        run.pick("mine", 7)
    with pytest.raises(ConfigError, match=f"no checkpoint is called 'newest'.*{there}"):
        run.pick("mine", "newest")
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(CheckpointError, match=r"was evaluated; there are 0, 8, 16\.$"):
        run.pick("mine", "best")


def test_a_large_replay_is_kept_once(tmp_path: Path, monkeypatch: Any) -> None:
    run = make_run(tmp_path)
    for step in (1, 2):
        save(run, step, replay={"rows": np.ones((4, 2))})
    run.keep_one_replay(2, "mine")
    has = [(run.checkpoints / str(step) / "replay.bin").exists() for step in (1, 2)]
    assert has == [True, True], "these are small"
    monkeypatch.setattr(run_checkpoints, "LARGE", 63)
    run.keep_one_replay(2, "mine")
    assert run.checked(1, "mine").arrays.keys() == {"run/x"}
    assert run.checked(2, "mine").arrays.keys() == {"run/x", "replay/rows"}
    flip(run, 2, "replay.bin")
    assert run.pick("mine", "2", replay=False).arrays.keys() == {"run/x"}
    assert run.latest("mine").meta["env_steps"] == 1


def test_a_large_replay_is_shared_in_pieces(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(run_checkpoints, "LARGE", 63)
    monkeypatch.setattr(pieces, "SIZE", 16)
    run, rows = make_run(tmp_path), np.arange(8.0).reshape(4, 2)
    places = lambda: {f.name: f.stat().st_ino for f in (tmp_path / "replay").iterdir()}
    has = lambda step: "replay/float64" in RunDir(tmp_path).checked(step, "mine").arrays
    run.save(1, {"x": np.ones(1), "replay": {"float64": rows[:2]}}, {"run_id": "mine"})
    assert (run.checkpoints / "1" / "replay.bin").exists() and has(1), "this is small"
    run.save(
        2, tree := {"x": np.ones(1), "replay": {"float64": rows}}, {"run_id": "mine"}, Ring(0, 4)
    )
    first = places()
    assert len(first) == 4 and names(run.checkpoints / "2") == ["arrays.bin", "manifest.json"]
    rows[0] = -1.0
    run.save(3, tree, {"run_id": "mine"}, Ring(1, 5))
    run.sweep()
    assert len(places()) == 5 and first.items() <= places().items() and has(2)
    found = RunDir(tmp_path).checked(3, "mine").arrays["replay/float64"]
    assert np.array_equal(found, rows) and RunDir(tmp_path).is_good(3, "mine")
    run.keep_one_replay(3, "mine")
    run.sweep()
    assert len(places()) == 4 and [has(step) for step in (1, 2, 3)] == [False, False, True]
    assert "replay/float64" not in run.checked(3, "mine", replay=False).arrays
    assert not capsys.readouterr().err
    next((tmp_path / "replay").iterdir()).unlink()
    assert not has(3)
    said = capsys.readouterr().err
    assert "WARNING: the replay of" in said and "checkpoints/3 is damaged" in said
    assert said.endswith("Going on without it.\n")
    run.save(4, {"x": np.ones(1)}, {"run_id": "mine"})
    run.prune(keep=1, best=None, run_id="mine")
    RunDir(tmp_path).sweep()
    assert not (tmp_path / "replay").exists()


@pytest.mark.parametrize("end", ["full", "killed"])
def test_a_save_of_pieces_that_fails_leaves_what_was(
    tmp_path: Path, monkeypatch: Any, end: str
) -> None:
    """At whichever file the disk is full, or the process killed."""
    monkeypatch.setattr(run_checkpoints, "LARGE", 31)
    monkeypatch.setattr(pieces, "SIZE", 16)
    run, rows = make_run(tmp_path), np.arange(8.0).reshape(4, 2)
    tree = {"x": np.ones(1), "replay": {"float64": rows}}
    run.save(1, tree, {"run_id": "mine"}, Ring(0, 4))
    before, first = rows.copy(), names(tmp_path / "replay")
    rows[:2] -= 9.0
    for at in range(4):  # two pieces, then the arrays and the manifest
        calls = iter(range(9))

        def full(file: Any, at: int = at, calls: Any = calls) -> None:
            if next(calls) == at:
                raise (OSError(28, "No space left on device") if end == "full" else Killed)

        with monkeypatch.context() as patch:
            patch.setattr(pieces, "sync", full)
            patch.setattr(checkpoint, "sync", full)
            with pytest.raises(CheckpointError if end == "full" else Killed) as caught:
                run.save(2, tree, {"run_id": "mine"}, Ring(2, 6))
        if end == "full":
            assert "No space left on device; earlier checkpoints are intact" in str(caught.value)
            assert names(tmp_path / "replay") == first
        again = RunDir(tmp_path)
        assert again.saved() == [1]
        assert np.array_equal(again.latest("mine").arrays["replay/float64"], before)
        again.sweep()
        assert names(tmp_path / "replay") == first
    run.save(2, tree, {"run_id": "mine"}, Ring(2, 6))
    assert np.array_equal(RunDir(tmp_path).latest("mine").arrays["replay/float64"], rows)


class Killed(BaseException):
    pass


# -- disks and files ------------------------------------------------------------------------------


def test_a_full_disk_at_a_json_file(tmp_path: Path, monkeypatch: Any) -> None:
    def full(_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "sync", full)
    with pytest.raises(ParlError, match=r"could not write .*config.json: No space left on device"):
        RunDir(tmp_path).write_config(CONFIG)
    with pytest.raises(ParlError, match=r"result.json"):
        RunDir(tmp_path).write_result({})
    assert names(tmp_path) == []


def test_a_result_is_json(tmp_path: Path) -> None:
    RunDir(tmp_path).write_result({"a": np.inf, "b": [float("nan"), 1.0], "c": np.float32(2)})
    assert json.loads((tmp_path / "result.json").read_text()) == {"a": None, "b": [None, 1], "c": 2}
    files.write_json(tmp_path / "x.json", {"a": 1}, indent=None)


def test_a_finished_run_has_its_last_checkpoint(tmp_path: Path) -> None:
    run = make_run(tmp_path, 8)
    assert run.result(8, "mine") is None
    run.write_result({"env_steps": 8})
    assert run.result(8, "mine") == {"env_steps": 8} and run.result(9, "mine") is None
    flip(run, 8)
    assert RunDir(tmp_path).result(8, "mine") is None
    for odd in ("[]", "{}", "", '{"env_steps": "8"}', "[" * 100_000):
        (tmp_path / "result.json").write_text(odd)
        assert run.result(8, "mine") is None


def test_resume_mends_the_metrics(tmp_path: Path) -> None:
    lines = ["12", "{}", '{"env_steps": null}', '{"env_steps": 8, "x": 1}', "\0\0", "[]"]
    lines += ['{"env_steps": 4}', '{"env_steps": 8, "x": 2}', '{"env_steps": true}', '{"env_steps"']
    file = tmp_path / "metrics.jsonl"
    file.write_text("\n".join(lines))
    with pytest.raises(ParlError, match=r"line 1 is not JSON with env_steps; delete that line"):
        read_metrics(tmp_path)
    log = RunLog(tmp_path, resume_from=16, tensorboard=False)
    assert log.kept == read_metrics(tmp_path) == [{"env_steps": 4}, {"env_steps": 8, "x": 2}]


def test_other_versions_are_told() -> None:
    assert changed({"jax": "1", "numpy": "2"}, {"jax": "1", "numpy": "2", "python": "3"}) == []
    said = changed({"jax": "1", "numpy": "2"}, {"jax": "1.1", "numpy": "3"})
    assert said == ["it was saved with jax 1, now 1.1, numpy 2, now 3"]


# -- signals --------------------------------------------------------------------------------------


@pytest.fixture
def hang_up() -> Iterator[None]:
    """SIGHUP is not ignored, whoever started the tests."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def send(signum: int) -> None:
    signal.raise_signal(signum)


@pytest.mark.parametrize(
    ("signum", "code", "kind"),
    [
        (signal.SIGINT, 130, KeyboardInterrupt),
        (signal.SIGTERM, 143, SystemExit),
        (signal.SIGHUP, 129, SystemExit),
        (signal.SIGINT, 130, SystemExit),
    ],
)
@pytest.mark.usefixtures("hang_up")
def test_a_signal_ends_what_may_end_at_once(signum: int, code: int, kind: type) -> None:
    with pytest.raises(parl.Interrupted) as caught, Signals(at_once="nothing is left"):
        send(signum)
    error = caught.value
    assert isinstance(error, kind) and not isinstance(error, Exception)
    assert str(error) == f"{signal.Signals(signum).name}: nothing is left"
    assert error.exit_code == code and getattr(error, "code", code) == code


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_script_ends_with_the_signals_code_and_its_sentence(signum: int, code: int) -> None:
    script = f"""if True:
        import signal
        from parl.runs.interruption import ending

        @ending("so it is")
        def train():
            signal.raise_signal({int(signum)})

        for _ in range(3):
            try:
                train()
            except Exception:
                pass"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == code
    assert done.stderr == f"{signal.Signals(signum).name}: so it is\n"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_whose_exception_is_lost_still_counts() -> None:
    """As where it comes within a destructor, or a callback of the garbage collector."""

    class Dropped:
        def __del__(self) -> None:
            send(signal.SIGTERM)

    with pytest.raises(Interrupted, match="SIGTERM: before it began"), Signals("before it began"):
        drop = Dropped()
        del drop
        with Signals() as signals:
            assert signals.name == "SIGTERM"
    with Signals() as signals:
        assert not signals.name


def test_a_run_notes_the_first_signal_and_ends_at_the_second() -> None:
    with pytest.raises(Interrupted) as caught, Signals() as signals:
        send(signal.SIGTERM)
        assert (signals.name, signals.signum) == ("SIGTERM", signal.SIGTERM)
        send(signal.SIGINT)
    assert caught.value.exit_code == 130


def test_a_save_under_way_may_finish() -> None:
    with Signals() as signals:
        with signals.save():
            send(signal.SIGTERM)
            send(signal.SIGTERM)
        assert signals.name == "SIGTERM"
        with pytest.raises(Interrupted), signals.save():
            send(signal.SIGTERM)


@pytest.mark.usefixtures("hang_up")
def test_where_nothing_is_lost_an_earlier_signal_counts() -> None:
    with Signals() as signals:
        with pytest.raises(Interrupted, match="SIGHUP: saved"), signals.may_raise("saved"):
            send(signal.SIGHUP)
        with pytest.raises(Interrupted, match="SIGHUP: saved"), signals.may_raise("saved"):
            pytest.fail("is not reached")


def test_what_the_user_ignores_or_handles_stays(monkeypatch: Any) -> None:
    own = lambda *_: None
    before = [
        signal.signal(s, h) for s, h in ((signal.SIGHUP, signal.SIG_IGN), (signal.SIGUSR1, own))
    ]
    try:
        with Signals(at_once="x") as signals:
            send(signal.SIGHUP)
            assert signal.getsignal(signal.SIGUSR1) is own and not signals.asked_to_save()
    finally:
        signal.signal(signal.SIGHUP, before[0])
        signal.signal(signal.SIGUSR1, before[1])


def test_sigusr1_asks_for_a_checkpoint() -> None:
    with Signals(at_once="x"), Signals() as signals:
        assert not signals.asked_to_save()
        send(signal.SIGUSR1)
        assert signals.asked_to_save() and not signals.asked_to_save() and not signals.name
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
