"""Evaluation that ends, clocks and numbers that are honest, and what the environment says."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

import parl

from . import case

PPO: dict[str, Any] = dict(length=8, num_envs=2, hidden=(8,), minibatches=2, epochs=1, quiet=True)


def new() -> str:
    return tempfile.mkdtemp() + "/run"


class Env(gym.Env):
    """Pays 1 a step, tells whether it is done, ends after `length` steps."""

    observation_space, action_space = spaces.Box(-1, 1, (1,)), spaces.Discrete(2)
    length, pay, count = 5, 1.0, 0

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        type(self).count += 1
        done = self.t >= self.length
        return (
            np.zeros(1, np.float32),
            self.pay,
            done,
            False,
            {"success": done, "score": 2 * self.t},
        )


class Endless(Env):
    length = 10**9


def lines(run: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in open(run.path / "metrics.jsonl")]


def command(*words: str) -> list[str]:
    return [str(Path(sys.executable).with_name("parl")), *words]


@case("F06")
def cliff_walking_is_cut() -> None:
    """CliffWalking-v1 has no time limit: the evaluation is cut, and says so once."""
    run = parl.train(
        "ppo", "CliffWalking-v1", new(), steps=256, quiet=True, eval_episodes=2, hidden=(8,)
    )
    assert run.result["cut_episodes"] == 2 and run.result["length_mean"] == 1_000
    assert lines(run)[-1]["eval/cut_episodes"] == 2


@case("11")
def an_endless_episode_is_cut() -> None:
    """An own environment without an end, on the host and in parl.evaluate."""
    run = parl.train("ppo", Endless, new(), steps=100, eval_episodes=1, **PPO)
    assert run.result["return_mean"] == 1_000
    found = parl.evaluate(run.path, 3, env=Endless, max_steps=70)
    assert found.returns.tolist() == [70, 70, 70] and found.cut is not None and found.cut.all()


@case("11-jax")
def an_endless_jax_episode_is_cut() -> None:
    """The same as one program."""
    import jax.numpy as jnp

    class Mine:
        spec = parl.EnvSpec("mine", parl.Box((1,)), parl.Discrete(2))

        def reset(self, key: Any) -> Any:
            return jnp.int32(0), jnp.zeros(1)

        def step(self, state: Any, action: Any, key: Any) -> Any:
            return state, jnp.zeros(1), jnp.float32(1), jnp.bool_(False), jnp.bool_(False)

    run = parl.train("ppo", Mine(), new(), steps=100, eval_episodes=2, **PPO)
    assert run.result["return_mean"] == 1_000 and run.result["cut_episodes"] == 2


def interrupted(env: str, *words: str) -> float:
    """Seconds from SIGINT in an evaluation until the process ended, saved."""
    folder = Path(tempfile.mkdtemp())
    flags = ("--steps", "64", "--length", "8", "--num-envs", "2", "--minibatches", "1")
    long = ("--eval-max-steps", "1000000000", "--eval-episodes", "1", "--out", str(folder / "run"))
    (folder / "endless.py").write_text(ENDLESS)
    process = subprocess.Popen(
        command("train", "ppo", "--env", env, *flags, *long, *words),
        stderr=subprocess.PIPE, text=True, cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}"},
    )  # fmt: skip
    said = ""
    for line in process.stderr or ():
        said += line
        if "training starts" in line or line.startswith("compiled"):
            break
    time.sleep(8)
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[1]
    took = time.monotonic() - begin
    assert process.returncode == 130 and "saved at step" in rest, said + rest
    saved = [p.name for p in (folder / "run" / "checkpoints").iterdir()]
    assert saved != ["0"], saved
    return took


ENDLESS = """
import gymnasium as gym, numpy as np
class Endless(gym.Env):
    observation_space, action_space = gym.spaces.Box(-1, 1, (1,)), gym.spaces.Discrete(2)
    def reset(self, *, seed=None, options=None): return np.zeros(1, np.float32), {}
    def step(self, action): return np.zeros(1, np.float32), 1.0, False, False, {}
gym.register("Endless-v0", Endless)
"""


@case("B6", seconds=240)
def one_interrupt_ends_an_evaluation() -> None:
    """The first Ctrl-C ends an evaluation that would never end, and the training is saved."""
    took = interrupted("endless:Endless-v0")
    assert took < 6, took  # saving and leaving included, on a busy machine


@case("S9", seconds=240)
def evaluation_is_a_tenth() -> None:
    """With the default, evaluation takes a tenth of the steps, and times are told apart."""

    class Long(Env):
        length = 200

    run = parl.train("ppo", Long, new(), steps=20_000, **PPO | dict(length=100))
    told = [line for line in lines(run) if "eval/episodes" in line]
    steps = sum(line["eval/episodes"] * line["eval/length_mean"] for line in told)
    assert 0 < steps <= 2_000, steps
    assert run.result["episodes"] >= 5
    parts = [run.result[f"{name}_s"] for name in ("start", "compile", "train", "eval", "save")]
    assert abs(sum(parts) - run.result["wall_s"]) < 0.1 and min(parts) > 0
    assert run.result["sps"] > 1.2 * 20_000 / run.result["wall_s"]


@case("S21", seconds=240)
def numbers_are_shown_to_their_scale() -> None:
    """No 22 steps/s that was the compiler's, no 1.0 of 0.95, no infinity."""
    run = subprocess.run(
        command("train", "ppo", "--env", "jax:CartPole-v1", "--steps", "3000", "--hidden", "8"),
        capture_output=True, text=True, cwd=tempfile.mkdtemp(),
    )  # fmt: skip
    rates = [float(line.split(" steps/s")[0].split()[-1].replace(",", ""))
             for line in run.stderr.splitlines() if "steps/s" in line]  # fmt: skip
    assert run.returncode == 0 and rates and max(rates) < 10 * min(rates), run.stderr

    class Small(Env):
        pay = 0.19 / 5

    class Huge(Env):
        pay = 3e38

    from parl.runs.result import returns_line

    small = parl.train("ppo", Small, new(), steps=64, eval_episodes=2, **PPO)
    assert returns_line(small.result).startswith("return 0.19 ± 0 over"), small.result
    huge = parl.train(
        "ppo", Huge, new(), steps=64, eval_episodes=2, **PPO | dict(learning_rate=1e-9)
    )
    assert abs(huge.result["return_mean"] / 1.5e39 - 1) < 1e-5


@case("S22")
def seeds_have_an_interval() -> None:
    """Several seeds or one: the same scalars, and each seed's numbers in the log."""
    settings = PPO | dict(steps=512, eval_episodes=3)
    runs = [parl.train("ppo", "jax:CartPole-v1", new(), num_seeds=k, **settings) for k in (1, 3)]
    for run in runs:
        told = run.result["return"]
        assert told["low"] <= told["mean"] <= told["high"]
        assert all(isinstance(told[name], float) for name in ("mean", "low", "high"))
    assert len(runs[1].result["return"]["seeds"]) == 3
    last = lines(runs[1])[-1]
    assert len(last["value_loss_seeds"]) == 3 and isinstance(last["value_loss"], float)
    out = new() + ".png"
    assert parl.plot_curves({"a": [str(run.path) for run in runs], "b": str(runs[0].path)}, out)
    assert Path(out).stat().st_size > 1_000


@case("B5-info", seconds=240)
def what_the_environment_says() -> None:
    """Lengths, counts, extremes and info's numbers reach the log, on the host and from actors."""
    for more in ({}, {"num_seeds": 2}, {"actors": 1}, {"actors": 1, "mode": "async"}):
        name = "impala" if "mode" in more else "ppo"
        settings = dict(length=10, num_envs=2, hidden=(8,), quiet=True, eval_episodes=2)
        run = parl.train(name, Env, new(), steps=80, log_info="success,score", **settings, **more)
        last = next(line for line in reversed(lines(run)) if line["episodes"])
        expected = {
            "length_mean": 5,
            "return_min": 5,
            "return_max": 5,
            "info/success": 1,
            "info/score": 10,
        }
        assert {name: last[name] for name in expected} == expected, (more, last)
        assert np.all(np.array(run.result["info/score"]) == 10)
    found = parl.evaluate(run.path, 3, env=Env, log_info="score", sample=True)
    assert found.infos["score"].tolist() == [10, 10, 10] and found.lengths.tolist() == [5, 5, 5]


@case("F20")
def only_one_may_exist() -> None:
    """An environment of which only one may exist trains: not evaluated, or lending itself."""

    class Robot(Env):
        alive = 0

        def __init__(self) -> None:
            Robot.alive += 1
            if Robot.alive > 1:
                raise RuntimeError("port 5005 is in use")

        def close(self) -> None:
            Robot.alive -= 1

    one = PPO | dict(num_envs=1, minibatches=1)
    for more in (
        dict(eval_episodes=0),
        dict(eval_env="none"),
        dict(eval_env="train", eval_episodes=2),
    ):
        run = parl.train("ppo", Robot, new(), steps=32, **one, **more)
        assert run.result["return"]["mean"] == 5.0, run.result
    assert Robot.alive == 0


@case("F20-index")
def makers_are_told_the_index() -> None:
    """Every environment of a run has a number of its own."""
    alive: set[int] = set()

    class Port(Env):
        def __init__(self, index: int = 0) -> None:
            assert index not in alive, index
            self.index = index
            alive.add(index)

        def close(self) -> None:
            alive.remove(self.index)

    parl.train("ppo", Port, new(), steps=32, num_seeds=2, eval_episodes=3, **PPO)
    assert not alive


@case("S21-first-word", seconds=120)
def the_first_word_comes_soon() -> None:
    """Something is said before anything is loaded, also with Ray."""
    for more in ([], ["--actors", "1"]):
        process = subprocess.Popen(
            command("train", "ppo", "--env", "CartPole-v1", "--steps", "64", *more),
            stderr=subprocess.PIPE, cwd=tempfile.mkdtemp(), start_new_session=True,
        )  # fmt: skip
        timer = threading.Timer(60, os.killpg, [process.pid, signal.SIGKILL])
        timer.start()
        begin = time.monotonic()
        assert process.stderr and process.stderr.read(1)
        took = time.monotonic() - begin
        timer.cancel()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert took < 4, took  # two on an idle machine
