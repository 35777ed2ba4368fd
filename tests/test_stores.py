"""Runs in stores: copied while they train, read and continued from a URI, by one writer."""

import itertools
import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small import SMALL

import parl
from parl.cli import main
from parl.core.errors import ConfigError, MissingPackage, StoreError
from parl.core.store import Store, is_inside, uri_of
from parl.runs import fetch, mirror, store_lock, store_wait
from parl.runs.config import RunConfig
from parl.runs.directory import RunDir
from parl.runs.mirror import Copy, Mirror, mirrored
from parl.runs.store_lock import StoreLock, Taken
from parl.runs.store_wait import told_of_waiting

pytest.importorskip("fsspec")


@pytest.fixture
def uri() -> Iterator[str]:
    """A place in fsspec's memory, which is this process's."""
    from fsspec.implementations.memory import MemoryFileSystem

    yield "memory://tests/run"
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written outside of the test's directory, and no copy is taken for fresh."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(mirror, "OFTEN", 0.02)
    monkeypatch.setattr(fetch, "fetched", {})


def make_run(path: Path, *steps: int) -> RunDir:
    run = RunDir.create(path, RunConfig("ppo", "jax:CartPole-v1", run_id="mine"))
    for step in steps:
        save(run, step)
    return run


def save(run: RunDir, step: int, value: float = 1.0, **tree: Any) -> None:
    run.save(step, {"run": {"x": np.full(8, value)}} | tree, {"run_id": "mine"})


class Failing(Store):
    """A store that goes away before a certain write, as by a kill or a cut."""

    left = 0

    def send(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise StoreError("the store is away")

    def put(self, name: str, data: bytes) -> None:
        self.send()
        super().put(name, data)

    def put_file(self, name: str, file: Any, sent: Any) -> None:
        self.send()
        super().put_file(name, file, sent)

    def remove(self, names: Any) -> None:
        for name in names:
            self.send()
            super().remove([name])


# -- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("s3://bucket/run/", "s3://bucket/run"),
        (Path("s3://bucket/run"), "s3://bucket/run"),  # a Path makes one slash of two
        ("file:///tmp/run", "file:///tmp/run"),
        (Path("file:///tmp/run"), "file:///tmp/run"),
        ("runs/cheetah", ""),
        ("my_lab.sac:MySAC", ""),
        ("C:/runs", ""),
        (None, ""),
    ],
)
def test_what_is_a_uri(name: Any, found: str) -> None:
    assert uri_of(name) == found


def test_no_name_of_a_store_leaves_the_copy() -> None:
    names = "checkpoints/0/arrays.bin", "../x", "a/../../x", "/etc/x", "a//b", ".writing-x-1"
    assert [is_inside(name) for name in names] == [True, False, False, False, False, False]


def test_bad_stores_are_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is of no known kind of store"):
        Store("nonsense://bucket/run")
    with pytest.raises(ConfigError, match="hold no credentials here: set AWS_ACCESS") as told:
        Store("s3://me:hidden@bucket/run")
    assert "hidden" not in str(told.value)
    import importlib.util

    if importlib.util.find_spec("gcsfs") is None:
        with pytest.raises(MissingPackage, match="gs:// needs a package: pip install gcsfs"):
            Store("gs://bucket/run")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be used"):
        Store(f"file://{tmp_path}/file").put("name", b"")
    with pytest.raises(ConfigError, match="holds no run: there is nothing"):
        parl.load(f"file://{tmp_path}/nowhere")


def test_refused_credentials_are_one_sentence_without_secrets(uri: str) -> None:
    store = Store(uri)

    def refuse(*_: Any, **__: Any) -> bytes:
        raise PermissionError(
            "The AWS Access Key Id is unknown at https://me:hidden@host/x?sig=hidden"
        )

    store.files.cat_file = refuse
    with pytest.raises(StoreError, match=r"refuses this machine's credentials .*: set ") as told:
        store.get("config.json")
    assert "hidden" not in str(told.value)


@pytest.mark.parametrize(
    "command",
    [
        ["plot", "runs/a", "--out", "s3://bucket/a.png"],
        ["compare", "runs/a", "--out", "file:///tmp/a"],
    ],
)
def test_what_writes_to_no_store_says_so(command: list[str], capsys: Any) -> None:
    assert main(command) == 2
    assert "--out takes a path of this machine, not " in capsys.readouterr().err


# -- copying --------------------------------------------------------------------------------------


def test_a_copy_has_the_run_and_what_changes(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, store = make_run(tmp_path / "run", 0, 10), Store(uri)
    copy = Copy(run.path, store)
    (run.path / "metrics.jsonl").write_text('{"env_steps": 10}\n{"env_st')
    copy.update()
    assert store.get("metrics.jsonl") == b'{"env_steps": 10}\n'  # whole lines only
    assert {n for n in store.names() if n.startswith("checkpoints/10/")} == {
        "checkpoints/10/arrays.bin",
        "checkpoints/10/manifest.json",
    }
    sent = []
    monkeypatch.setattr(store, "put_file", lambda name, file, each: sent.append(name))
    run.amend(10, {"due": None})  # changes the manifest alone
    save(run, 20)
    run.remove([0])
    copy.update()
    assert sent == ["checkpoints/20/arrays.bin"]
    assert not any(name.startswith("checkpoints/0/") for name in store.names())
    sent.clear()
    copy.update()
    assert sent == []


def test_a_store_that_fails_anywhere_keeps_a_good_checkpoint(tmp_path: Path, uri: str) -> None:
    """At whatever write the sender dies, what is there can be continued, and is caught up with."""
    for writes in itertools.count():
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        place = f"{uri}-{writes}"
        run, store = make_run(tmp_path / "run", 0), Failing(place)
        store.left = 100
        Copy(run.path, store).update()
        save(run, 10, 10.0, replay={"x": np.full((4, 2), 3.0)})
        run.remove([0])
        save(run, 20, 20.0)
        copy, store.left = Copy(run.path, store), writes
        try:
            copy.update()
            save(run, 20, 21.0)  # another one of the same name
            copy.update()
            ended = True
        except StoreError:
            ended = False
        back = tmp_path / "back"
        shutil.rmtree(back, ignore_errors=True)
        back.mkdir()
        fetch.fetch_run(Store(place), back, Store(place).names(), replay=True)
        found = RunDir(back).latest("mine")
        step = found.meta["env_steps"]
        assert found.arrays["run/x"][0] in {0: (1.0,), 10: (10.0,), 20: (20.0, 21.0)}[step]
        store.left = 100
        fresh = Copy(run.path, store)
        fresh.update()
        fetch.fetch_run(Store(place), back, Store(place).names(), replay=True)
        assert RunDir(back).saved() == run.saved()
        assert RunDir(back).latest("mine").meta["env_steps"] == 20
        if ended:
            break
    assert writes > 8


def test_a_run_that_saves_faster_than_its_store_leaves_a_good_checkpoint(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one checkpoint is sent, all of them are replaced by newer ones."""
    run, store = make_run(tmp_path / "run", 0), Store(uri)
    copy, put_file = Copy(run.path, store), store.put_file

    def meanwhile(name: str, *rest: Any) -> None:
        put_file(name, *rest)
        save(run, max(run.saved()) + 10)
        run.remove(run.saved()[:-1])

    monkeypatch.setattr(store, "put_file", meanwhile)
    for _ in range(3):
        copy.update()
        there = fetch.steps_in(store.names())
        assert there and {"config.json"} <= store.names().keys()
        back = tmp_path / "back"
        back.mkdir(exist_ok=True)
        fetch.fetch_run(store, back, store.names(), replay=True)
        assert RunDir(back).latest("mine").meta["env_steps"] == there[-1]
    monkeypatch.setattr(store, "put_file", put_file)
    copy.update()
    assert fetch.steps_in(store.names()) == run.saved()


def test_a_large_replay_goes_in_pieces_that_are_sent_once(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from parl.core.pieces import Ring
    from parl.runs import checkpoints

    monkeypatch.setattr(checkpoints, "LARGE", 0)
    monkeypatch.setattr("parl.core.pieces.SIZE", 64)
    run, store = make_run(tmp_path / "run"), Store(uri)
    rows = np.arange(64.0).reshape(32, 2)
    save_rows = lambda step, ring: run.save(
        step, {"run": {"x": np.ones(2)}, "replay": {"x": rows}}, {"run_id": "mine"}, ring
    )
    save_rows(10, Ring(8, 8))
    copy = Copy(run.path, store)
    copy.update()
    rows[8:12] = -1.0
    save_rows(20, Ring(12, 12))
    run.remove([10])
    run.sweep()
    sent, put_file = [], store.put_file
    both = lambda name, *rest: (sent.append(name), put_file(name, *rest))
    monkeypatch.setattr(store, "put_file", both)
    copy.update()
    assert len([name for name in sent if name.startswith("replay/")]) == 1
    pieces = {name for name in store.names() if name.startswith("replay/")}
    assert pieces == {f"replay/{file.name}" for file in (run.path / "replay").iterdir()}
    back = tmp_path / "back"
    back.mkdir()
    fetch.fetch_run(store, back, store.names(), replay=True)
    np.testing.assert_array_equal(RunDir(back).latest("mine").arrays["replay/x"], rows)
    assert "replay/x" not in RunDir(uri).pick("mine", replay=False).arrays


def test_a_store_that_is_away_is_told_once_and_caught_up_with(
    tmp_path: Path, uri: str, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "LONGEST_PAUSE", 0.05)
    run, store = make_run(tmp_path / "run", 0), Failing(uri)
    copying = Mirror(run.path, store, "mine", StoreLock(Store(uri), "mine", print))
    for step in range(10, 60, 10):
        save(run, step)
        copying.wanted.set()
        time.sleep(0.03)
    store.left = 10_000
    copying.close()
    said = capfd.readouterr().err
    assert said.count("the store is away The run goes on") == 1
    assert said.count("has caught up") == 1
    assert "checkpoints/50/manifest.json" in Store(uri).names()
    assert "lock.json" not in Store(uri).names()


def test_the_end_does_not_wait_for_ever(
    tmp_path: Path, uri: str, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "PATIENCE", 0.2)
    run, store = make_run(tmp_path / "run", 0), Failing(uri)
    copying = Mirror(run.path, store, "mine", StoreLock(Store(uri), "mine", print))
    begin = time.monotonic()
    copying.close()
    assert time.monotonic() - begin < 3
    assert f"{uri} lacks the last of this run (the store is away): 'parl resume" in (
        capfd.readouterr().err
    )
    store.left = 10_000  # let the thread end
    copying.thread.join(5)


# -- one writer -----------------------------------------------------------------------------------


def test_a_second_writer_is_refused_and_a_dead_one_replaced(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_lock, "WATCHED", 0.5)
    monkeypatch.setattr(store_lock, "BEAT", 0.05)
    store, said = Store(uri), []
    elsewhere = store_lock.whereabouts() | {"host": "elsewhere"}
    monkeypatch.setattr(store_lock, "whereabouts", lambda: elsewhere)
    first = StoreLock(store, "mine", said.append)
    monkeypatch.undo()
    monkeypatch.setattr(store_lock, "WATCHED", 0.5)
    monkeypatch.setattr(store_lock, "BEAT", 0.05)
    stop = threading.Event()

    def live() -> None:
        while not stop.wait(0.02):
            first.beat()

    living = threading.Thread(target=live)
    living.start()
    with pytest.raises(Taken, match=r"is in use: process .* on elsewhere writes there"):
        StoreLock(store, "mine", said.append)
    stop.set()
    living.join()
    second = StoreLock(store, "mine", said.append)  # which no longer beats
    assert "waiting 0.5 s to see whether it lives" in said[-1]
    time.sleep(0.06)
    with pytest.raises(Taken, match="another process has taken over"):
        first.beat()
    first.release()
    assert second.read()["session"] == second.session
    second.release()
    assert store.get("lock.json") is None


def test_a_process_of_this_machine_that_is_no_more_is_not_waited_for(uri: str) -> None:
    store, here = Store(uri), store_lock.whereabouts()
    if not here["space"]:
        pytest.skip("this system does not tell containers apart")
    gone = here | {"process": 2**22 + 1, "run_id": "mine", "session": "old"}
    assert store.create("lock.json", json.dumps(gone).encode())
    said: list[str] = []
    assert StoreLock(store, "mine", said.append).read()["session"] != "old"
    assert said == []


def test_a_place_with_another_run_is_refused(tmp_path: Path, uri: str) -> None:
    run = make_run(tmp_path / "run", 0)
    with mirrored(run.path, uri, "mine", is_new=True):
        pass
    with (
        pytest.raises(ConfigError, match=f"{uri} already holds a run: continue it with 'parl res"),
        mirrored(run.path, uri, "other", is_new=True),
    ):
        pass
    with pytest.raises(ConfigError, match="already holds a run"), mirrored(run.path, uri, "other"):
        pass
    assert "lock.json" not in Store(uri).names()


# -- whole runs -----------------------------------------------------------------------------------


def test_a_run_in_a_store_is_read_and_continued_like_one_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = f"file://{tmp_path}/store/cartpole"
    settings = SMALL | {"env": "jax:CartPole-v1", "eval_every": 32, "quiet": True, "curve": False}
    plain = parl.train("ppo", out=tmp_path / "plain", **settings)
    end = lambda line: parl.Stop("enough") if line["env_steps"] >= 32 else None
    run = parl.train("ppo", out=uri, on_record=end, **settings)
    assert run.path == fetch.working_directory(uri) and run.path.is_dir()
    shutil.rmtree("runs")  # another machine

    agent, here = parl.load(uri), parl.load(tmp_path / "plain", checkpoint=32)
    obs = np.array([0.1, -0.2, 0.3, -0.4], np.float32)
    assert agent.predict(obs) == here.predict(obs)
    for command in (["show", uri], ["runs", uri.removesuffix("/cartpole")]):
        assert main(command) == 0
    assert capsys.readouterr().out.count("finished") == 2

    more = parl.resume(uri, 64, quiet=True, curve=False)
    assert more.result["params_sha256"] == plain.result["params_sha256"]
    there = json.loads((tmp_path / "store/cartpole/result.json").read_text())
    assert there["params_sha256"] == plain.result["params_sha256"]
    assert not (tmp_path / "store/cartpole/lock.json").exists()
    with pytest.raises(ConfigError, match="already holds a run"):
        parl.train("ppo", out=uri, **settings)


def test_a_store_that_gives_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said that it is waited for, and there is an end."""

    class Mute:
        async_impl = True

        def pipe_file(self, path: str, data: bytes, timeout: float, **options: Any) -> None:
            assert timeout == 30 + len(data) / 65_536
            time.sleep(0.05)
            raise TimeoutError

    monkeypatch.setattr(store_wait, "SILENCE", 0.01)
    store = Store(f"file://{tmp_path}")
    store.scheme, store.files = "s3", Mute()
    with pytest.raises(StoreError, match="gives no answer for 30 s"), told_of_waiting(store):
        store.create("lock.json", b"{}")
    assert "waiting for file://" in capsys.readouterr().err
    with pytest.raises(StoreError, match="gives no answer for 31 s"):
        store.put("metrics.jsonl", bytes(65_536))


@pytest.mark.slow
def test_every_command_takes_a_run_in_a_store(tmp_path: Path) -> None:
    uri = f"file://{tmp_path}/store/cartpole"
    settings = SMALL | {"env": "jax:CartPole-v1", "eval_episodes": 1, "quiet": True}
    parl.train("ppo", out=uri, **settings)
    for command in (
        ["eval", uri, "--episodes", "1"],
        ["compare", uri],
        ["plot", uri],
        ["export", uri, "--episodes", "0"],
        ["video", uri, "--episodes", "1", "--out", "x.gif"],
        ["reproduce", uri],
    ):
        assert main(command) == 0, command
    assert (tmp_path / "policy").is_dir()  # not in the copy
    copy = tmp_path / "cache/parl/runs" / fetch.slug(uri)
    assert {path.name for path in copy.iterdir()} == {
        ".fetching", "config.json", "metrics.jsonl", "result.json", "curve.png", "checkpoints",
    }  # fmt: skip
