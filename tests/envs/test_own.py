"""Names of the user's own environments, and the look at pure JAX ones before they are compiled."""

import functools
from pathlib import Path
from typing import Any

import gymnasium
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

import parl
from parl.core.errors import ConfigError, EnvError, ParlError
from parl.core.spec import Box, Discrete, EnvSpec
from parl.envs.adapters import gymnasium_checks
from parl.envs.factory import make_factory

MODULE = """
import gymnasium, numpy as np, jax.numpy as jnp, parl

class Maze(gymnasium.Env):
    observation_space = gymnasium.spaces.Discrete(3)
    action_space = gymnasium.spaces.Discrete(2)
    def reset(self, seed=None, options=None):
        self.time = 0
        return 0, {}
    def step(self, action):
        self.time += 1
        return 0, 1.0, False, self.time == 4, {}

class Pure:
    spec = parl.EnvSpec("pure", parl.Box((2,)), parl.Discrete(2), max_steps=3)
    def __init__(self, goal=2):
        self.goal = goal
    def reset(self, key): return jnp.int32(0), jnp.zeros(2)
    def step(self, state, action, key):
        return state + 1, jnp.zeros(2), jnp.float32(1), state < 0, state == self.goal

class Late(Pure):  # its spec is there once it is made
    spec = None
    def __init__(self, goal=2):
        self.goal, self.spec = goal, Pure.spec

gymnasium.register("Grid-v0", Maze)
thing = 5
pure = Pure(3)
def made(goal=2): return Late(goal)
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "my_own_envs.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)


class Local(gymnasium.Env):
    observation_space, action_space = spaces.Box(-1, 1, (1,)), spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.zeros(1, np.float32), {}


def test_what_environments_of_ones_own_are_called() -> None:
    class Inner(Local):
        pass

    def make() -> Local:
        return Inner()

    ids = [make_factory(env).spec.id for env in (Inner, make, functools.partial(make))]
    assert ids == ["Inner", "make", "make"]
    assert make_factory(lambda: Inner()).spec.id == "Inner"
    assert make_factory(lambda: gymnasium.make("CartPole-v1")).spec.id == "CartPoleEnv"
    assert make_factory(lambda: Inner(), "maze").spec.id == "maze"
    assert make_factory(Local).spec.id == f"{__name__}:Local"


def test_a_name_finds_them_again(own_module: None) -> None:
    pure = dict.fromkeys(("Pure", "Late", "made", "pure"), "pure")
    for name, spec_id in ({"Maze": "my_own_envs:Maze", "Grid-v0": ""} | pure).items():
        factory = make_factory(f"my_own_envs:{name}")
        assert factory.id == f"my_own_envs:{name}"
        assert factory.spec.id == (spec_id or factory.id)
        assert (factory.jax is not None) == (name in pure)

    class Counted(Pure):
        def __init__(self, num_envs: int = 2, index: int = 7):
            self.given = num_envs, index

    counted = make_factory(Counted).jax  # these are its own, not what makers of others are told
    assert counted is not None and vars(counted)["given"] == (2, 7)
    named = make_factory(Pure, "maze")  # a name of the user's own, for an object and for its maker
    assert named.id == make_factory(Pure(), "maze").id == "maze" and named.jax is not None
    with pytest.raises(ConfigError, match=r"'my_own_envs' has no 'Mase'. Did you mean Maze"):
        make_factory("my_own_envs:Mase")
    with pytest.raises(EnvError, match="env must be an id"):
        make_factory("my_own_envs:thing")


def test_arguments_reach_pure_ones_too(own_module: None) -> None:
    for name in ("Pure", "Late", "made"):
        factory = make_factory(f"my_own_envs:{name}?goal=7")
        assert factory.id == f"my_own_envs:{name}?goal=7"
        assert factory.jax is not None and vars(factory.jax)["goal"] == 7
    for id, said in (
        ("my_own_envs:Pure?colour=1", "Pure could not be made: .*argument 'colour'"),
        ("my_own_envs:Maze?colour=1", "colour|no arguments"),
        ("my_own_envs:pure?goal=1", "made already, so it takes no arguments"),
    ):
        with pytest.raises(ParlError, match=said) as caught:
            make_factory(id)
        assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_run_names_its_environment(own_module: None, tmp_path: Path) -> None:
    small: Any = {"length": 8, "num_envs": 2, "hidden": (8,), "minibatches": 1, "epochs": 1}
    small |= {"eval_episodes": 2, "quiet": True, "steps": 16}
    run = parl.train("ppo", env="my_own_envs:Maze", out=tmp_path / "run", **small)
    assert run.result["env"] == "my_own_envs:Maze"
    assert parl.evaluate(run.path, 2).mean == 4.0
    with pytest.raises(ConfigError, match="env_id is a name for an environment of your own"):
        parl.train("ppo", env="CartPole-v1", env_id="mine")


# pure JAX environments


class Pure:
    """Right in all; episodes of ten steps."""

    spec = EnvSpec("mine", Box((2,)), Box((1,), low=-1.0, high=1.0), max_steps=10)

    def reset(self, key: Any) -> Any:
        return jnp.int32(0), jnp.zeros(2)

    def step(self, state: Any, action: Any, key: Any) -> Any:
        return state + 1, jnp.zeros(2), jnp.float32(0), jnp.bool_(False), state == 9


Z, R, NO = jnp.zeros(2), jnp.float32(0), jnp.bool_(False)


def answers(*answer: Any) -> Any:
    return type("Odd", (Pure,), {"step": lambda self, state, action, key: (state + 1, *answer)})()


def that(step: Any) -> Any:
    return type("Odd", (Pure,), {"step": step})()


class Counting(Pure):
    count = 0

    def step(self, state: Any, action: Any, key: Any) -> Any:
        self.count += 1
        return super().step(state, action, key)


class Keeping(Pure):
    total = jnp.zeros(())

    def step(self, state: Any, action: Any, key: Any) -> Any:
        self.total = self.total + state
        return super().step(state, action, key)


def random_step(self: Any, state: Any, action: Any, key: Any) -> Any:
    return state + 1, Z + np.random.default_rng().random(), R, NO, NO


def branching(self: Any, state: Any, action: Any, key: Any) -> Any:
    return state, Z, (R if state > 3 else -R), NO, NO


class Bright(Pure):
    spec = EnvSpec("mine", Box((12, 12, 3), low=0.0, high=255.0), Discrete(2))


# ruff: noqa: E501
WRONG = [
    (answers(Z, Z, NO, NO), r"step gives the reward float32\[2\]; it has to be float32\[\]"),
    (answers(Z, 0, NO, NO), r"the reward int32\[\]; it has to be float32\[\]"),
    (answers(Z, R, jnp.float32(0), NO), r"step gives terminated float32\[\]; it has to be bool\[\]"),
    (answers(Z, R, NO, jnp.zeros(1, bool)), r"step gives truncated bool\[1\]; it has to be bool"),
    (answers(Z, R, NO), r"step gives 4 values in place of 5; step\(state, action, key\) has"),
    (answers(jnp.zeros(3), R, NO, NO), r"observation float32\[3\] where its spec has float32\[2\]"),
    (answers(jnp.zeros(2, int), R, NO, NO), r"observation int32\[2\] where its spec has float32\[2\]"),
    (that(lambda self, state, action: 0), r"TypeError in step: .*given \(step\(state, action, key\)"),
    (that(lambda self, s, a, k: {}["gone"]), r"KeyError in step, at \S+test_own.py:\d+: 'gone'"),
    (that(lambda self, s, a, k: (s + 1.5, Z, R, NO, NO)), r"state float32\[\] where reset gives int32"),
    (that(branching), r"TracerBoolConversionError in step, at \S+test_own.py:\d+: Attempted boolean"),
    (that(random_step), "is not pure: step is another each time"),
    (Counting(), r"is not pure: step changes self.count"),
    (Keeping(), r"is not pure: step keeps self.total"),
    (Bright(), r"images of floats in 0 .. 255: give bytes"),
]  # fmt: skip


@pytest.mark.parametrize("env, sentence", WRONG)
def test_one_sentence_for(env: Any, sentence: str) -> None:
    with pytest.raises(EnvError, match=sentence) as raised:
        make_factory(env)
    assert "\n" not in str(raised.value)
    assert len(parl.check_env(env)) == 1


def test_check_env_finds_nothing_in_good_ones() -> None:
    assert parl.check_env(Pure(), 12) == parl.check_env("CartPole-v1", 60) == []
    assert parl.check_env(answers(Z, 0.0, False, NO), 3) == []


def test_check_env_tells_what_training_would_not_notice(capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(gymnasium_checks, "REPORTED", set())  # each name is told of once a process

    class Odd(Local):
        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            return np.random.default_rng().random(1).astype(np.float32) + 2, {}

        def step(self, action: Any) -> Any:
            return np.zeros(1, np.float32), 0.0, False, False, {}

    seeds, endless, outside = parl.check_env(Odd, 5)
    assert "another observation for an equal seed" in seeds
    assert "no episode ended within 5 steps" in endless
    assert "outside their space: 2 of 2 numbers at step 0" in outside
    assert "WARNING: Odd gives observations outside" in capsys.readouterr().err
