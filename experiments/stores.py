"""Copies of runs in an S3-like store under kill -9 and while the store is away.

    python experiments/stores.py kills --kills 50
    python experiments/stores.py outage --seconds 60

Needs the extra `cloud` and moto's server (pip install 's3fs' 'moto[server]'), which runs on
loopback and keeps everything in memory.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import parl
from parl.core.store import Store
from parl.runs import fetch, mirror
from parl.runs.config import RunConfig
from parl.runs.directory import RunDir

BUCKET = "runs"
STEPS = 2_000_000  # of the run whose store goes away


@contextlib.contextmanager
def moto() -> Iterator[subprocess.Popen]:
    """An S3-like server on loopback, and the environment that names it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "experiment",
        "AWS_SECRET_ACCESS_KEY": "experiment",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.2)
        yield server
    finally:
        server.send_signal(signal.SIGCONT)
        server.kill()
        server.wait()


def in_child(function: Callable[[], None]) -> int:
    """Starts a forked process. Its parent never uses a store: fsspec's thread does not fork."""
    child = os.fork()
    if not child:
        code = 1
        try:
            function()
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    return child


def succeeds(function: Callable[[], None]) -> bool:
    """Whether a function in a process of its own returns."""
    return os.waitpid(in_child(function), 0)[1] == 0


def make_bucket() -> None:
    """The bucket of all runs."""
    import s3fs

    s3fs.S3FileSystem().mkdir(BUCKET)


def write_for_ever(out: Path, uri: str, seed: int) -> None:
    """A run that saves checkpoints of 100 kB and 400 kB of replay as fast as it can."""
    rng = np.random.default_rng(seed)
    mirror.OFTEN = 0.01
    config = RunConfig("ppo", "jax:CartPole-v1", run_id=f"run{seed}", store=uri)
    run = RunDir.of_new(out, out, config.run_id)
    with mirror.mirrored(run.path, uri, config.run_id, is_new=True) as copying:
        for step in range(0, 1_000_000, 10):
            tree = {"run": {"x": np.full(25_000, step)}, "replay": {"x": rng.random((50, 1000))}}
            run.save(step, tree, {"run_id": config.run_id})
            run.write_config(config)
            with (run.path / "metrics.jsonl").open("a") as file:
                file.write(json.dumps({"env_steps": step}) + "\n")
            run.prune(3, None, config.run_id)
            copying[0].on_checkpoint({})
            if not (run.path / "there").exists() and Store(uri).get("config.json") is not None:
                (run.path / "there").touch()
            time.sleep(rng.random() * 0.05)


def found_again(uri: str, path: Path) -> None:
    """What another machine finds: the newest checkpoint, with the content of its step."""
    run = RunDir(fetch.working_copy(uri))
    newest = run.latest(run.config().run_id)
    step = newest.meta["env_steps"]
    assert (newest.arrays["run/x"] == step).all()
    assert newest.arrays["replay/x"].shape == (50, 1000)
    path.write_text(str(step))


def kills(count: int, seed: int) -> None:
    """Kills `count` writers at random moments; each run is then fetched to an empty disk."""
    random.seed(seed)
    at, behind = [], []
    with tempfile.TemporaryDirectory() as scratch, moto():
        os.chdir(scratch)
        assert succeeds(make_bucket)
        for number in range(count):
            uri, out = f"s3://{BUCKET}/kill{number}", Path(scratch) / f"kill{number}"
            child = in_child(lambda uri=uri, out=out, n=number: write_for_ever(out, uri, n))
            end = time.monotonic() + 300
            # until the store has it, there is nothing to go on from
            while not (out / "there").exists() and time.monotonic() < end:
                time.sleep(0.01)
            time.sleep(random.random() * 2.0)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            last = max(RunDir(out).saved())
            shutil.rmtree(out)
            answer = Path(scratch) / "answer"
            if succeeds(lambda uri=uri, answer=answer: found_again(uri, answer)):
                at.append(int(answer.read_text()))
                behind.append((last - at[-1]) // 10)
            shutil.rmtree("runs", ignore_errors=True)
            print(f"{len(at)} of {number + 1}", file=sys.stderr, flush=True)
    print(
        f"{len(at)} of {count} found a good checkpoint; checkpoints behind: median "
        f"{np.median(behind):.0f}, most {max(behind)}; newest at a kill: step {min(at)} to "
        f"{max(at)}"
    )


def outage(seconds: float) -> None:
    """Trains with a pause at every record, while the store is there, stopped, and there again.

    Prints medians over records while it was stopped as ratios to those of the others: the time
    between pauses, and the process's CPU time, which other programs disturb least.
    """
    stopped, began, last = False, 0.0, (0.0, 0.0)
    spent: dict[bool, list[tuple[float, float]]] = {True: [], False: []}  # time, CPU; by stopped

    with tempfile.TemporaryDirectory() as scratch, moto() as server:
        os.chdir(scratch)
        make_bucket()

        def on_record(_: dict[str, Any]) -> None:
            nonlocal stopped, began, last
            now, cpu = time.monotonic(), time.process_time()
            began = began or now
            if now - began > seconds / 10:  # all is compiled by then
                spent[stopped].append((now - last[0], cpu - last[1]))
            time.sleep(seconds / 45)  # so that 100 records take more than twice as long
            away = seconds / 2 < now - began < 1.5 * seconds
            if away != stopped:
                server.send_signal(signal.SIGSTOP if away else signal.SIGCONT)
            stopped, last = away, (time.monotonic(), cpu)  # CPU time within the pause counts

        uri = f"s3://{BUCKET}/outage"
        parl.train(
            "ppo", "jax:CartPole-v1", uri, quiet=True, curve=False, steps=STEPS,
            eval_episodes=1, eval_every=STEPS, checkpoint_every=STEPS // 20, on_record=on_record,
        )  # fmt: skip
        mine = sorted(p.name for p in (fetch.working_directory(uri) / "checkpoints").iterdir())
        there = sorted(map(str, fetch.steps_in(Store(uri).names())))
        away, usual = (np.median(spent[was], axis=0) for was in (True, False))
        print(
            f"{len(spent[True])} records while the store was stopped for {seconds:g} s and "
            f"{len(spent[False])} others; while it was: time {away[0] / usual[0]:.3f}, CPU time "
            f"{away[1] / usual[1]:.3f} of {usual[0]:.3f} s and {usual[1]:.3f} s; checkpoints here "
            f"{mine}, there {there}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("kills", "outage"))
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    if given.what == "kills":
        kills(given.kills, given.seed)
    else:
        outage(given.seconds)


if __name__ == "__main__":
    main()
