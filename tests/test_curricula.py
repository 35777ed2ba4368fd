"""Hooks that change the environments to come, and numbers of the user's own among the metrics."""

import dataclasses
import json
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from marks import slow

import parl
from parl.core.errors import ConfigError, EnvError
from parl.envs import jax_vector
from parl.runs.hooks import Hooks, NextEnv, tell


@dataclasses.dataclass(frozen=True)
class Pay:
    """Four steps, each of them paid."""

    pay: float = 1.0
    level: int = 0
    max_steps: int = 4

    @property
    def spec(self):
        return parl.EnvSpec("pay", parl.Box((2,)), parl.Discrete(2), max_steps=self.max_steps)

    def reset(self, key):
        return jnp.int32(0), jax.random.uniform(key, (2,))

    def step(self, state, action, key):
        state, obs = state + 1, jax.random.uniform(key, (2,)) + self.level
        return state, obs, jnp.float32(self.pay), jnp.bool_(False), state >= self.max_steps


class HostPay(gymnasium.Env):
    """The same in Gymnasium."""

    observation_space = spaces.Box(-9, 9, (2,), np.float32)
    action_space = spaces.Discrete(2)
    pay = 1.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.time += 1
        return np.ones(2, np.float32), self.pay, False, self.time >= 4, {}


RUN = {
    "num_envs": 2,
    "length": 8,
    "minibatches": 1,
    "epochs": 1,
    "hidden": (8,),
    "steps": 128,
    "eval_every": 32,
    "eval_episodes": 2,
    "quiet": True,
}


def harder(values):
    """The pay doubles after half of the steps."""
    return [parl.NextEnv(pay=2.0), {"pay": 2}] if values["env_steps"] == 64 else None


def lines(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("env", "seeds"), [slow(Pay(), 2), (HostPay, 1)], ids=["fused, two seeds", "host"]
)
def test_a_curriculum_is_learned_in_and_resumed_bit_for_bit(env, seeds, tmp_path):
    whole = {"env": env, "on_evaluation": harder, "num_seeds": seeds}
    run = parl.train("ppo", out=tmp_path / "whole", **RUN, **whole)
    told = {line["env_steps"]: line for line in lines(run.path)}
    assert (told[64]["return_mean"], told[128]["return_mean"]) == (4.0, 8.0)
    assert told[64]["user/pay"] == 2.0 and "user/pay" not in told[128]
    assert run.result["return"]["mean"] == 4.0  # it is judged in the environment of the run
    end = lambda line: parl.Stop("half") if line["env_steps"] == 96 else None
    parl.train("ppo", out=tmp_path / "half", on_record=end, **RUN, **whole)
    more = parl.resume(tmp_path / "half", env=env, on_evaluation=harder, quiet=True)
    assert more.result["params_sha256"] == run.result["params_sha256"]
    assert lines(more.path)[-1]["return_mean"] == 8.0


def test_parameters_are_data_of_one_program():
    env, key = Pay(), jax.random.key(0)
    vector = jax_vector.reset(env, key, 3)
    step: Any = jax.jit(lambda vector: jax_vector.autostep(env, vector, jnp.zeros(3, jnp.int32)))
    for pay, level in ((2.0, 1), (3.0, 2)):
        vector = jax_vector.changed(env, vector, {"pay": pay, "level": level})
        vector, new = step(vector)
        assert new.reward.tolist() == [pay] * 3 and (new.next_obs >= level).all()
    assert step._cache_size() == 1
    assert vector.parameters["level"].dtype == jnp.int32
    host = jax_vector.JaxVectorEnv(env, 2, 0)
    host.reset()
    host.change({"pay": 5.0})
    again = jax_vector.JaxVectorEnv(env, 2, 1)
    again.set_state(host.get_state())
    action = np.zeros(2, np.int32)
    assert again.step(action).reward.tolist() == host.step(action).reward.tolist() == [5.0, 5.0]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"pays": 2.0}, "pay has no number 'pays'"),
        ({"pay": "much"}, "pay has no number 'pay', which 'much' could be"),
    ],
)
def test_what_an_environment_does_not_have(parameters, said):
    vector = jax_vector.reset(Pay(), jax.random.key(0), 2)
    with pytest.raises(EnvError, match=said):
        jax_vector.changed(Pay(), vector, parameters)


def test_answers_are_checked():
    ask = lambda name, answer: tell([Hooks(**{name: lambda values: answer})], name, {})
    assert ask("on_record", {"a": np.float32(1)}).metrics == {"user/a": 1.0}
    assert ask("on_start", NextEnv(a=1, b="x")).parameters == {"a": 1, "b": "x"}
    with pytest.raises(ConfigError, match="on_end cannot change the environments"):
        ask("on_end", NextEnv(a=1))
    with pytest.raises(ConfigError, match="the metric 'a' of a hook is 'x'"):
        ask("on_record", {"a": "x"})
    with pytest.raises(ConfigError, match=r"NextEnv\(a=...\) must be a number or a word"):
        NextEnv(a=[1])  # pyright: ignore[reportArgumentType]
