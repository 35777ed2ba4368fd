"""Several learners in processes of their own: their numbers, their deaths, and their resume."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

import parl
from parl.core.errors import ConfigError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]
ON_POLICY = {"num_envs": 4, "length": 16, "hidden": (8,), "steps": 640, "eval_episodes": 1}
OFF_POLICY = {
    "num_envs": 2, "length": 4, "hidden": (8,), "steps": 240, "warmup": 64, "batch_size": 8,
    "capacity": 1_000, "eval_episodes": 1,
}  # fmt: skip
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "ppo": ("CartPole-v1", ON_POLICY),
    "sac": ("jax:Pendulum-v1", OFF_POLICY),
    "mappo": ("jax:simple_spread", ON_POLICY),
}


def with_learners(algorithm: str, out: Path, **more: Any) -> parl.Run:
    env, settings = RUNS[algorithm]
    options: dict[str, Any] = {"actors": 2, "learners": 2} | settings | more
    return parl.train(algorithm, env, out, quiet=True, curve=False, **options)


def on_two_devices(algorithm: str, out: Path, **more: Any) -> dict[str, Any]:
    """The result of one process with two simulated devices and as many workers."""
    env, settings = RUNS[algorithm]
    code = "import json, sys, parl; a, e, o, s = json.loads(sys.argv[1]); " + (
        "parl.train(a, e, o, True, curve=False, actors=2, **s)"
    )
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    given = json.dumps([algorithm, env, str(out), settings | more])
    environment = os.environ | {"XLA_FLAGS": flags}
    subprocess.run([sys.executable, "-c", code, given], env=environment, check=True, timeout=600)
    return json.loads((out / "result.json").read_text())


def ranks() -> list[psutil.Process]:
    """The processes of learners that descend from this one."""
    family = psutil.Process().children(recursive=True)
    return [each for each in family if each.cmdline()[:1] and "Rank" in each.cmdline()[0]]


@contextmanager
def sending(signum: int, times: int, apart: float) -> Iterator[list[float]]:
    """Sends a signal to one learner at random moments; yields when it did."""
    sent: list[float] = []
    ended, draw = threading.Event(), random.Random(3)

    def strike() -> None:
        while len(sent) < times and not ended.wait(apart * (0.5 + draw.random())):
            if len(found := ranks()) == 2:
                draw.choice(found).send_signal(signum)
                sent.append(time.monotonic())

    thread = threading.Thread(target=strike)
    thread.start()
    try:
        yield sent
    finally:
        ended.set()
        thread.join()


def lines(run: parl.Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.path / "metrics.jsonl").open()]


@pytest.mark.parametrize("algorithm", RUNS)
def test_two_learners_are_one_with_two_devices(algorithm: str, tmp_path: Path) -> None:
    """Bit for bit; that both ranks hold the same is checked with every checkpoint."""
    run = with_learners(algorithm, tmp_path / "group")
    one = on_two_devices(algorithm, tmp_path / "one")
    assert run.result["params_sha256"] == one["params_sha256"]
    assert run.result["updates"] == one["updates"]
    last = lines(run)[-1]
    assert (last["learners"], last["learner_restarts"]) == (2, 0)
    assert last["pool/trained"] == last["env_steps"] == one["env_steps"]


def test_killed_learners_leave_no_trace(tmp_path: Path) -> None:
    settings = {"steps": 6_400, "checkpoint_every": 640}
    undisturbed = with_learners("ppo", tmp_path / "calm", **settings)
    with sending(signal.SIGKILL, 3, apart=10) as sent:
        run = with_learners("ppo", tmp_path / "killed", **settings)
    assert sent and lines(run)[-1]["learner_restarts"] >= 1
    assert run.result["params_sha256"] == undisturbed.result["params_sha256"]
    records = lines(run)
    assert [r["env_steps"] for r in records] == sorted({r["env_steps"] for r in records})


def test_a_stopped_learner_is_noticed(tmp_path: Path) -> None:
    """Everyone waits for it in a collective; within the deadline all start again."""
    with sending(signal.SIGSTOP, 1, apart=30) as sent:
        run = with_learners("ppo", tmp_path / "run", steps=200_000, deadline=5.0, max_hours=0.05)
    restarts = [r for r in lines(run) if r["learner_restarts"]]
    assert sent and restarts


def test_other_learners_are_not_exact(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = with_learners("ppo", tmp_path / "run")
    longer = parl.resume(run.path, steps=1_280, quiet=True, learners=1, curve=False)
    assert longer.result["env_steps"] == 1_280
    assert "not bit for bit: it was saved on 2 x cpu, now on 1 x cpu" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="2 actors do not divide among 4 learners"):
        parl.resume(run.path, steps=2_560, quiet=True, learners=4)


@pytest.mark.parametrize("sync", [{"sync": "update"}, {"sync": "3"}, {"flat_gradients": True}])
def test_shares_that_are_averaged(sync: dict[str, Any], tmp_path: Path) -> None:
    """Its ranks agree at every checkpoint, and a resume goes on bit for bit."""
    run = with_learners("ppo", tmp_path / "run", **sync, steps=768, anneal=False)
    half = with_learners("ppo", tmp_path / "half", **sync, steps=384, anneal=False)
    longer = parl.resume(half.path, steps=768, quiet=True, curve=False)
    assert run.result["env_steps"] == longer.result["env_steps"] == 768
    assert run.result["params_sha256"] == longer.result["params_sha256"]
