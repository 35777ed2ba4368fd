"""Algorithms and recipes of the user's own train, resume, evaluate and load as ours do."""

import json
import textwrap
from typing import Any

import flax.linen as nn
import numpy as np
import pytest

import parl
from parl.algorithms.dqn import DQN
from parl.algorithms.sac import SAC
from parl.cli import main
from parl.core.errors import ConfigError, SpaceError
from parl.recipes import algorithm_name, make_recipe
from parl.recipes.dqn import DQNRecipe

TINY = {"eval_episodes": 2, "quiet": True, "steps": 96}
SPEC = parl.EnvSpec("CartPole-v1", parl.Box((4,)), parl.Discrete(2))


class Q(nn.Module):
    """A network of the user's own."""

    @nn.compact
    def __call__(self, obs):
        return nn.Dense(2)(nn.tanh(nn.Dense(8)(obs)))


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A user's package beside the user."""
    (tmp_path / "own_lab.py").write_text(
        textwrap.dedent('''
        """Where the settings come from."""
        from __future__ import annotations
        from dataclasses import dataclass
        from parl.algorithms.dqn import DQN
        from parl.recipes.dqn import DQNRecipe
        import flax.linen as nn

        class Munchausen(DQN):
            bonus: float = 0.9

        @dataclass(frozen=True)
        class MDQN(DQNRecipe):
            """DQN with one more setting."""
            algorithm: Munchausen = Munchausen(learning_rate=1e-3)
            hidden: tuple[int, ...] = (8,)

            @classmethod
            def for_env(cls, spec):
                return cls(length=8, updates=1, warmup=16, batch_size=8, capacity=256)

        class Net(nn.Module):
            @nn.compact
            def __call__(self, obs):
                return nn.Dense(2)(obs)

        agent = DQN(q=Net(), learning_rate=1e-3)
        number = 3
        ''')
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_a_recipe_of_the_users_own_by_its_name(lab, capsys):
    flags = ["--steps", "64", "--eval-episodes", "2", "--quiet", "--bonus", "0.5"]
    train = ["train", "own_lab:MDQN", "--env", "jax:CartPole-v1", "--out", "run", *flags]
    assert main(train) == 0
    config = json.loads((lab / "run" / "config.json").read_text())
    assert config["algorithm"] == "own_lab:MDQN"
    assert config["settings"]["bonus"] == 0.5
    assert main(["resume", "run", "--steps", "128", "--quiet"]) == 0
    assert json.loads((lab / "run" / "result.json").read_text())["env_steps"] == 128
    assert main(["eval", "run", "--episodes", "2"]) == 0
    loaded: Any = parl.load("run").algorithm
    assert loaded.bonus == 0.5
    assert capsys.readouterr().err == ""


def test_an_algorithm_with_its_network_trains_and_is_asked_for_again(tmp_path):
    own = DQN(q=Q(), learning_rate=1e-3)
    small = {"warmup": 16, "batch_size": 8, "capacity": 256, "length": 8, "updates": 1}
    run = parl.train(own, "jax:CartPole-v1", out=tmp_path / "run", **small, **TINY)
    assert run.result["algorithm"] == "DQN()" and run.result["updates"] == 10
    with pytest.raises(ConfigError, match=r"DQN\(\) is an algorithm of your own: give it again"):
        parl.load(run.path)
    agent = parl.load(run.path, algorithm=own)
    assert agent.predict(np.zeros(4, np.float32)) in (0, 1)
    more = parl.resume(run.path, steps=128, quiet=True, algorithm=own)
    assert more.result["env_steps"] == 128
    assert parl.evaluate(run.path, 2, algorithm=own).returns.shape == (2,)


def test_a_learner_brings_its_own_replay(tmp_path):
    learner = parl.OffPolicy(DQN(q=Q()), parl.Replay(64), batch_size=4, updates=2, warmup=8)
    recipe = make_recipe(learner, SPEC)
    made: Any = recipe.learner(SPEC, 100, 1)
    assert (made.replay, made.batch_size, made.updates, made.warmup) == (learner.replay, 4, 2, 8)
    assert recipe.length == 2  # one update for each step
    assert "capacity" not in recipe.types() and "learning_rate" in recipe.types()


def test_collecting_is_that_of_the_nearest_recipe():
    class Mine(DQN):
        pass

    recipe: Any = make_recipe(Mine(q=Q()), SPEC)
    ours: Any = DQNRecipe.for_env(SPEC)
    assert recipe.batch_size == ours.batch_size and recipe.capacity == ours.capacity
    assert not recipe.normalize_obs  # the network is the user's: it sees what the environment says


@pytest.mark.parametrize(
    ("chosen", "error", "said"),
    [
        (DQN(), ConfigError, r"DQN has no network 'q': make it with DQN\(q=...\)"),
        (3, ConfigError, "int\\(\\) is not an algorithm"),
        (DQN, ConfigError, "is not an algorithm"),
        ("own_lab:number", ConfigError, "own_lab:number is not an algorithm"),
        ("own_lab:Nothing", ConfigError, "has no 'Nothing'"),
        ("no_lab:MDQN", ConfigError, "there is no module 'no_lab' here"),
        ("own_lab:MDQN", SpaceError, "own_lab:MDQN needs a discrete action space"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(lab, chosen, error, said):
    spec = parl.EnvSpec("Pendulum-v1", parl.Box((3,)), parl.Box((1,)))
    with pytest.raises(error, match=said):
        make_recipe(chosen, spec)


def test_names():
    assert algorithm_name("sac") == "sac"
    assert algorithm_name(DQNRecipe) == "parl.recipes.dqn:DQNRecipe"
    assert algorithm_name(DQN(q=Q())) == "DQN()"


def test_an_agent_says_which_network_is_missing():
    spec = parl.EnvSpec("Pendulum-v1", parl.Box((3,)), parl.Box((1,)))
    for own in (SAC(), parl.OffPolicy(SAC(), parl.Replay(8))):
        with pytest.raises(
            ConfigError, match=r"SAC has no network 'actor': make it with SAC\(actor="
        ):
            parl.Agent(own, spec)
    with pytest.raises(
        ConfigError, match="needs an Algorithm with its networks, or a Learner, not"
    ):
        parl.Agent("sac", spec)  # pyright: ignore[reportArgumentType]
