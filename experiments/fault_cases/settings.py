"""Settings, schedules, arguments of environments, manners of the command line."""

import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

import parl

from . import case

SMALL: dict[str, Any] = {"hidden": (8,), "quiet": True, "eval_episodes": 1}


def new() -> str:
    return tempfile.mkdtemp() + "/run"


def refused(function: Callable[[], Any], *words: str) -> None:
    """That a call is refused in one sentence that holds the words."""
    try:
        function()
    except parl.core.errors.ParlError as error:
        said = str(error)
        assert "\n" not in said and all(word in said for word in words), said
        return
    raise AssertionError("it was taken")


def parl_command(*words: str, folder: str = ".") -> subprocess.CompletedProcess:
    command = Path(sys.executable).with_name("parl")
    return subprocess.run([command, *words], capture_output=True, text=True, cwd=folder)


class Pictures(gymnasium.Env):
    """96 x 96 pixels in colour, and three torques."""

    observation_space = Box(0, 255, (96, 96, 3), np.uint8)
    action_space = Box(-1, 1, (3,))

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        return self.observation_space.sample(), 0.0, False, False, {}


@case("F05")
def a_longer_run_learns() -> None:
    """resume --steps of PPO trains on at a rate that is not 0."""
    settings = {"length": 32, "num_envs": 8} | SMALL
    run = parl.train("ppo", env="jax:CartPole-v1", steps=2048, out=new(), **settings)
    for schedule in (None, "restart"):
        copy = new()
        shutil.copytree(run.path, copy)
        more = parl.resume(copy, steps=8192, quiet=True, schedule=schedule)
        assert more.result["updates"] == 4 * run.result["updates"]
        assert more.result["params_sha256"] != run.result["params_sha256"]


@case("B1", seconds=600, slow=True)
def a_longer_run_reaches_what_the_fresh_one_reaches() -> None:
    """PPO on CartPole: 10,240 steps extended to 102,400, and a fresh run of 102,400."""
    run = parl.train("ppo", "jax:CartPole-v1", new(), quiet=True, steps=10_240)
    longer = parl.resume(run.path, 102_400, quiet=True)
    fresh = parl.train("ppo", "jax:CartPole-v1", new(), quiet=True, steps=102_400)
    assert min(longer.result["return_mean"], fresh.result["return_mean"]) >= 475


@case("S1")
def steps_are_whole_numbers() -> None:
    """1e5 is a number of steps; fractions, words and switches are not."""
    run = parl.train("ppo", "jax:CartPole-v1", new(), steps=1e3, **SMALL)
    assert run.result["env_steps"] == 1024
    for value in (3000.5, True, None, "5", "0o17"):
        refused(lambda v=value: parl.train("ppo", "jax:CartPole-v1", new(), steps=v), "steps")
    for name in ("num_seeds", "eval_episodes"):
        refused(lambda n=name: parl.train("ppo", "jax:CartPole-v1", new(), **{n: 2.5}), name)
    refused(lambda: parl.train("ppo", "jax:CartPole-v1", new(), hidden=[32, 32.5]), "hidden")
    refused(lambda: parl.resume(run.path, steps="5"), "steps")  # pyright: ignore


@case("S13")
def values_out_of_range_are_refused() -> None:
    """Rates, discounts, sizes and counts outside their bounds."""
    ppo = {"learning_rate": -1, "gamma": 1.5, "clip": -1, "epochs": 0, "num_envs": 0}
    dqn = {"epsilon_end": 2, "priority": -1, "n_step": 0, "updates": 0, "batch_size": 0, "tau": 2}
    for algorithm, settings in (("ppo", ppo | {"minibatches": 0, "length": 0}), ("dqn", dqn)):
        for name, value in settings.items():
            refused(
                lambda a=algorithm, n=name, v=value: parl.train(
                    a, "jax:CartPole-v1", new(), **{n: v}
                ),
                name,
            )


@case("S16")
def environments_take_arguments() -> None:
    """FrozenLake without ice, from its id."""
    env = "FrozenLake-v1?is_slippery=False"
    run = parl.train("ppo", env, new(), steps=64, **SMALL)
    assert env in (run.path / "config.json").read_text()


@case("F22")
def modules_beside_the_user_are_found() -> None:
    """No stranger's package is advised."""
    folder = tempfile.mkdtemp()
    Path(folder, "my_envs.py").write_text(
        "import gymnasium as gym\n"
        'gym.register("Grid-v0", "gymnasium.envs.classic_control:CartPoleEnv", '
        "max_episode_steps=7)\n"
    )
    done = parl_command(
        "train", "ppo", "--env", "my_envs:Grid-v0", "--steps", "64", "--quiet", folder=folder
    )
    assert done.returncode == 0, done.stderr
    done = parl_command("train", "ppo", "--env", "my_other:Grid-v0", folder=folder)
    assert done.returncode == 2 and "pip install" not in done.stderr


@case("F21")
def replay_of_pictures_is_refused_before_it_is_asked_for() -> None:
    """55 GB where 14 GB may be had."""
    resource.setrlimit(resource.RLIMIT_AS, (14 * 10**9,) * 2)
    refused(lambda: parl.train("sac", Pictures, new(), steps=100), "--capacity")


@case("F24")
def a_warm_up_longer_than_the_run_is_told() -> None:
    """One line on stderr."""
    words = "train sac --env jax:Pendulum-v1 --steps 64 --warmup 5000 --hidden 8 --quiet"
    done = parl_command(*words.split(), "--eval-episodes", "1", "--out", new())
    assert done.returncode == 0 and "--warmup" in done.stderr, done.stderr


@case("A2")
def help_is_everywhere() -> None:
    """Version, and help of commands that have no flags."""
    for words in ("--version", "help", "list --help", "cluster --help", "train auto --help"):
        done = parl_command(*words.split())
        assert done.returncode == 0 and done.stdout and not done.stderr, words


@case("R-ids")
def names_that_cannot_be() -> None:
    """Ids, paths and values of the Python face."""
    for id in ("pz:", "pz:..os", ".x:Y"):
        refused(lambda i=id: parl.train("ppo", i, new()))
    for out in ("a" * 256, "a\0b"):
        refused(lambda o=out: parl.train("ppo", "jax:CartPole-v1", o, steps=64))
    run = parl.train("ppo", "jax:CartPole-v1", new(), steps=64, **SMALL)
    for bad in ({"episodes": 0}, {"episodes": -1}, {"seed": -1}):
        refused(lambda b=bad: parl.evaluate(run.path, **b), next(iter(bad)))
