"""What users bring: algorithms, networks, functions that a run calls."""

import contextlib
import pathlib
import subprocess
import sys

import flax.linen as nn

import parl
from fault_cases import case
from parl.algorithms.dqn import DQN

SMALL = {
    "steps": 256,
    "warmup": 64,
    "batch_size": 8,
    "capacity": 512,
    "length": 8,
    "updates": 1,
    "eval_episodes": 2,
    "quiet": True,
}

LAB = """
from dataclasses import dataclass
from parl.algorithms.dqn import DQN
from parl.recipes.dqn import DQNRecipe

class MDQN(DQN):
    bonus: float = 0.9

@dataclass(frozen=True)
class MDQNRecipe(DQNRecipe):
    algorithm: MDQN = MDQN(learning_rate=1e-3)

    @classmethod
    def for_env(cls, spec):
        return cls(hidden=(8,), length=8, updates=1, warmup=64, batch_size=8, capacity=512)
"""


class MyNetwork(nn.Module):
    actions: int

    @nn.compact
    def __call__(self, obs):
        return nn.Dense(self.actions)(nn.tanh(nn.Dense(8)(obs)))


@case("B4")
def own_algorithm() -> None:
    """An own network, algorithm, learner and recipe train, in Python."""
    own = DQN(q=MyNetwork(2))
    run = parl.train(own, env="CartPole-v1", out="own", **SMALL)
    assert run.result["env_steps"] == 256
    assert parl.load(run.path, algorithm=own).predict([0.0, 0.0, 0.0, 0.0]) in (0, 1)
    learner = parl.OffPolicy(own, parl.Replay(100), batch_size=4, updates=4, warmup=16)
    few = {"steps": 64, "eval_episodes": 2, "quiet": True}
    fused = parl.train(learner, "jax:CartPole-v1", out="learner", **few)
    assert fused.result["updates"] == 4 * (64 // 4 - 16 // 4)
    with contextlib.suppress(parl.ConfigError):
        parl.train(DQN(), env="CartPole-v1", out="none", **SMALL)
        raise AssertionError("an algorithm without a network was trained")


@case("B4-name", seconds=240)
def own_recipe_by_name() -> None:
    """A recipe in a file beside the user trains, also on Ray, resumes and is evaluated."""
    pathlib.Path("munchausen.py").write_text(LAB)
    parl_command = str(pathlib.Path(sys.executable).with_name("parl"))

    def said(*words: str) -> str:
        done = subprocess.run([parl_command, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    train = ["train", "munchausen:MDQNRecipe", "--env", "CartPole-v1", "--eval-episodes", "2"]
    said(*train, "--steps", "256", "--bonus", "0.5", "--quiet", "--out", "run")
    said("resume", "run", "--steps", "512", "--quiet")
    assert '"episodes": 2' in said("eval", "run", "--episodes", "2")
    said(*train, "--steps", "256", "--actors", "1", "--quiet", "--out", "ray")


@case("B5")
def hooks() -> None:
    """Functions are told of records, evaluations and checkpoints, and may end a run."""
    told: list[str] = []
    run = parl.train(
        "dqn",
        env="jax:CartPole-v1",
        out="run",
        hidden=(8,),
        eval_every=64,
        **SMALL,
        on_record=lambda line: told.append("record"),
        on_checkpoint=lambda values: told.append("checkpoint"),
        on_evaluation=lambda values: parl.Stop("enough"),
    )
    assert run.result["stopped"] == "enough" and run.result["env_steps"] == 64
    assert {"record", "checkpoint"} <= set(told)
