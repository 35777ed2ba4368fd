"""A run that was killed at any moment goes on as if nothing had happened."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from marks import quick, slow

import parl
from parl.cli import main

TINY = {"hidden": (16,), "eval_episodes": 2}
MEMORY = {"recurrent": "gru", "memory_size": 8}
POPULATION = TINY | {"num_envs": 8}
OFF_POLICY = TINY | {
    "batch_size": 16, "warmup": 200, "length": 8, "updates": 4, "capacity": 3_000,
}  # fmt: skip
RUNS = {
    "ppo-fused": ("ppo", "jax:CartPole-v1", 60_000, 2_000, TINY),
    "memory-fused": ("impala", "jax:CartPoleMasked-v1", 60_000, 2_000, TINY | MEMORY),
    "sac-fused": ("sac", "jax:Pendulum-v1", 12_000, 1_000, OFF_POLICY),
    "dqn-fused": ("dqn", "jax:CartPole-v1", 20_000, 1_000, OFF_POLICY),
    "es-fused": ("es", "jax:CartPole-v1", 1_200_000, 8_000, POPULATION),
    "ppo-host": ("ppo", "CartPole-v1", 12_000, 1_000, TINY),
    "sac-host": ("sac", "Pendulum-v1", 5_000, 400, OFF_POLICY),
    "dqn-host": ("dqn", "CartPole-v1", 5_000, 400, OFF_POLICY),
    "es-host": ("es", "CartPole-v1", 80_000, 4_000, POPULATION),
}
# what those of the default run do not show, with -m slow
NARROW = {k: v for k, v in OFF_POLICY.items() if k != "hidden"} | {"width": 8, "actor_width": 8}
CONTROL = {
    **dict.fromkeys(("td3", "ddpg", "oac", "redq", "droq"), OFF_POLICY),
    **dict.fromkeys(("tqc", "crossq"), OFF_POLICY | {"actor_hidden": (16,)}),
    **dict.fromkeys(("simba", "simbav2", "flashsac"), NARROW),
}
for name, settings in CONTROL.items():
    RUNS[f"{name}-fused"] = (name, "jax:Pendulum-v1", 12_000, 1_000, settings)
    RUNS[f"{name}-host"] = (name, "Pendulum-v1", 5_000, 400, settings)
SEGMENTS = {k: v for k, v in OFF_POLICY.items() if k != "length"} | {"capacity": 500}
TEAM = {
    **dict.fromkeys(("ippo", "mappo"), TINY | {"num_envs": 16, "minibatches": 4}),
    **dict.fromkeys(("pqn_vdn", "coma"), TINY | {"num_envs": 16}),
    **dict.fromkeys(("iql", "vdn", "qmix"), SEGMENTS),
    **dict.fromkeys(("maddpg", "matd3"), OFF_POLICY),
}
for name, settings in TEAM.items():
    RUNS[f"{name}-fused"] = (name, "jax:simple_spread", 20_000, 2_000, settings)


def command(name: str, out: Path) -> list[str]:
    algorithm, env, steps, every, settings = RUNS[name]
    words = [sys.executable, "-m", "parl.cli", "train", algorithm, "--env", env, "--out", str(out)]
    words += ["--steps", str(steps), "--eval-every", str(every)]
    for flag, value in settings.items():
        values = value if isinstance(value, tuple) else (value,)
        words += ["--" + flag.replace("_", "-"), *map(str, values)]
    return words


def start(name: str, out: Path, log: Path) -> subprocess.Popen:
    """The run in a process of its own, once it has a checkpoint beyond the first."""
    with log.open("w") as file:
        process = subprocess.Popen(command(name, out), stdout=file, stderr=subprocess.STDOUT)
    limit = time.monotonic() + 300
    checkpoints = out / "checkpoints"
    while not (
        checkpoints.is_dir()
        and any(p.name.isdecimal() and p.name != "0" for p in checkpoints.iterdir())
    ):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < limit, log.read_text()
        time.sleep(0.01)
    return process


@pytest.fixture(scope="module", params=quick(RUNS, "ppo-host"))
def reference(request, tmp_path_factory) -> tuple[str, str]:
    """A run's name, and the digest of its parameters when nothing interrupts it."""
    algorithm, env, steps, every, settings = RUNS[request.param]
    out = tmp_path_factory.mktemp("whole") / "run"
    # another evaluation rhythm: what is learned must not depend on it
    run = parl.train(algorithm, env, out, quiet=True, steps=steps, eval_every=every * 3, **settings)
    return request.param, run.result["params_sha256"]


def test_killed_run_resumes_bit_for_bit(reference, tmp_path: Path) -> None:
    name, digest = reference
    out = tmp_path / "run"
    process = start(name, out, tmp_path / "log")
    time.sleep(random.uniform(0.0, 0.3))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (out / "result.json").exists(), "it finished before it was killed"
    run = parl.resume(out, quiet=True)
    assert run.result["params_sha256"] == digest
    steps = [json.loads(line)["env_steps"] for line in (out / "metrics.jsonl").open()]
    assert steps == sorted(set(steps))


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), slow(signal.SIGTERM, 143)])
def test_signals_save_and_say_how_to_go_on(signum, code, tmp_path: Path) -> None:
    out, log = tmp_path / "run", tmp_path / "log"
    process = start("dqn-host", out, log)
    process.send_signal(signum)
    assert process.wait(timeout=300) == code
    saved = max(int(p.name) for p in (out / "checkpoints").iterdir())
    last = log.read_text().splitlines()[-1]
    assert last.endswith(f"saved at step {saved}; go on with 'parl resume {out}'")


@pytest.mark.slow
def test_resume_from_the_command_line_extends_a_run(tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings: dict[str, Any] = OFF_POLICY | {"anneal": False}  # a schedule would be stretched
    parl.train("dqn", "jax:CartPole-v1", out, quiet=True, steps=2_000, **settings)
    assert main(["resume", str(out), "--steps", "3000"]) == 0
    result = json.loads((out / "result.json").read_text())
    assert result["env_steps"] == 3_000
    whole = parl.train(
        "dqn", "jax:CartPole-v1", tmp_path / "whole", quiet=True, steps=3_000, **settings
    )
    assert whole.result["params_sha256"] == result["params_sha256"]
