"""Policies of every kind act in NumPy as they do in JAX."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import policies
import pytest
from flax import nnx
from gymnasium import spaces
from marks import quick, slow

import parl
from parl.algorithms.dqn import DQN
from parl.algorithms.ppo import PPO
from parl.core.errors import ConfigError, MissingPackage
from parl.deploy import observed, parity
from parl.deploy.arrays import Runner
from parl.deploy.artefact import Parts, Settings, Source, check_settings
from parl.deploy.backends import jax_backend, tflite_backend
from parl.deploy.builder import Builder, UnsupportedOperation
from parl.deploy.export import tflite
from parl.deploy.rows import Rows
from parl.envs.adapters.gymnasium_interface import describe_team
from parl.envs.adapters.gymnasium_team import Team
from parl.models.nnx import NnxModel
from parl.ops.distributions import Categorical
from parl.recipes import RECIPES

QUICK = (
    "simbav2 Box", "mappo gru groups", "ppo MultiDiscrete mask", "ppo dict with image",
    "sac normalized", "ppo bounds", "dqn Discrete",
)  # fmt: skip
ALL = quick(policies.CASES, *QUICK)


def sequences(rows: Rows, steps: int = 20) -> Rows:
    """Observations [1, B, ...] as sequences of steps, with resets in between."""
    cut = lambda x: x[0].reshape(steps, -1, *x.shape[2:])
    obs = {name: cut(x) for name, x in rows.obs.items()}
    width = len(rows.scale) // steps
    first = np.random.default_rng(1).random((steps, width)) < 0.1
    memory = {name: x[:width] for name, x in rows.memory.items()}
    return Rows(obs, first, memory, cut(rows.scale[None])[:, :].max(0))


def failures(found: Source, parts: Parts) -> list[str]:
    """What the program does otherwise than JAX on 100 observations, 20 steps with memory."""
    program = parts.programs["greedy"]
    rows = sequences(observed.adversarial(found.spec, parts.whole, 100, 0))
    start = {name: x[0] for name, x in parts.whole.memory.items()}
    act = jax_backend(parts.whole, parts.maps, policies.shared(parts.whole.call))
    case = parity.case("adversarial", act, parts.traced, rows, start)
    report = parity.compare("numpy", Runner(program), program, parts.start, [case])
    assert report["adversarial"]["observations"] == 100
    return report["failures"] + parity.map_failures(program, parts.maps, "numpy")


@pytest.mark.parametrize("name", ALL)
def test_every_recipe_acts_as_in_jax(name: str) -> None:
    recipe, env, settings = policies.CASES[name]
    found = policies.of_recipe(recipe, env, **settings)
    parts = policies.parts(found)
    assert not failures(found, parts)
    if found.spec.num_agents:  # execution is decentralised
        assert "obs.state" not in {port.name for port in parts.programs["greedy"].inputs}


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_acts_as_in_jax_on_every_kind_that_it_serves(name: str) -> None:
    """Whatever recipes there are: 20 steps with memory and resets each."""
    found = policies.served(name)
    wrong = {kind: failures(one, policies.parts(one)) for kind, one in found.items()}
    assert len(found) >= 1 and not {kind: lines for kind, lines in wrong.items() if lines}


def test_what_an_action_does_not_need_is_gone() -> None:
    lstm = policies.parts(policies.of_recipe(*policies.CASES["ppo lstm"][:2], recurrent="lstm"))
    assert len(lstm.whole.memory) == 4 and len(lstm.start) == 2  # the critic's is not needed
    flash = policies.parts(policies.of_recipe("flashsac", policies.PENDULUM))
    assert len(flash.whole.memory) == 2 and not flash.start  # noise is for exploring


def test_whole_numbers_of_an_agent_are_compared() -> None:
    """An agent with several whole numbers beside one with a real one."""
    own = [spaces.Box(0, 9, (2,), np.int32), spaces.Box(-3, 1, (1,), np.float32)]
    team = Team("zoo", ["a", "b"], [spaces.Box(-1, 1, (2,))] * 2, own)
    spec = dataclasses.replace(team.team, native=describe_team(team))
    found = policies.of_recipe("ippo", spec)
    parts = policies.parts(found)
    assert parts.programs["greedy"].outputs.keys() >= {"env_action.a", "env_action.b"}
    assert not failures(found, parts)
    want = parity.Expected({}, {}, np.ones(3))
    clear, numbers = np.ones((1, 3, 2, 2), bool), np.zeros((1, 3, 2), np.int32)
    clear[0, 1] = False  # this row's choices are too close to be counted
    other = numbers + np.array([0, 1, 1])[None, :, None]
    difference = parity.compared("env_action.a", other, numbers, clear, want.scale)
    assert (difference.unequal, difference.compared) == (2, 4)


class Odd(nn.Module):
    """Layers that no recipe has."""

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array:
        x = nn.Conv(4, (3,), padding="SAME")(obs[..., None])
        x = nn.gelu(nn.LayerNorm()(x), approximate=False).reshape(*obs.shape[:-1], -1)
        place = nn.Embed(5, 3)(jnp.clip(jnp.round(obs[..., 0]), 0, 4).astype(int))
        x = jnp.concatenate([x, place, jnp.cumsum(obs, -1)], -1)
        x = nn.silu(nn.GroupNorm(None, group_size=1)(x)) + jnp.sin(x) ** 3
        weights = jax.nn.softmax(jnp.einsum("...i,...j->...ij", x, x), -1)
        return nn.Dense(3)(jnp.einsum("...ij,...j->...i", weights, x[..., ::-1]))


def test_a_model_of_the_users_own_in_linen() -> None:
    spec = parl.EnvSpec("own", parl.Box((6,)), parl.Discrete(3))
    found = policies.source(DQN(q=Odd()), spec)
    assert not failures(found, policies.parts(found))


class Head(nnx.Module):
    """A policy in nnx."""

    def __init__(self, rngs: nnx.Rngs, size: int):
        self.first = nnx.Linear(6, 8, rngs=rngs)
        self.scale = nnx.RMSNorm(8, rngs=rngs)
        self.last = nnx.Linear(8, size, rngs=rngs)

    def __call__(self, obs: jax.Array) -> Any:
        return self.last(nnx.leaky_relu(self.scale(self.first(obs))))


class Actor(Head):
    """The same as a distribution."""

    def __call__(self, obs: jax.Array) -> Any:
        return Categorical(super().__call__(obs))


def test_a_model_of_the_users_own_in_nnx() -> None:
    spec = parl.EnvSpec("own", parl.Box((6,)), parl.Discrete(3))
    critic = NnxModel(lambda rngs: Head(rngs, 1))
    found = policies.source(PPO(actor=NnxModel(lambda rngs: Actor(rngs, 3)), critic=critic), spec)
    assert not failures(found, policies.parts(found))


def test_loops_are_unrolled_for_tflite() -> None:
    """The function that is converted is `act` itself, without the loop that cannot be written."""

    def call(x: jax.Array) -> list[jax.Array]:
        step = lambda carry, row: (carry * 2 + row, jnp.tanh(carry))
        return list(jax.lax.scan(step, x[0], x, reverse=True))

    x = jnp.arange(6.0).reshape(3, 2)
    closed = jax.make_jaxpr(call)(x)
    found = tflite.unrolled(closed.jaxpr, closed.consts, [x])
    for mine, wanted in zip(found, call(x), strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-6)
    flat = jax.make_jaxpr(lambda x: tflite.unrolled(closed.jaxpr, closed.consts, [x]))(x)
    assert "scan" not in str(flat) and "while" not in str(flat)


def test_tflite_names_the_package_that_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("litert_converter.converter_api_ext", "ai_edge_litert.interpreter"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingPackage, match=r"needs litert-converter: pip install 'parl-jax\[tfl"):
        tflite.converted("", [], [])
    with pytest.raises(
        MissingPackage, match=r"needs ai-edge-litert: pip install 'parl-jax\[tflite"
    ):
        tflite_backend(Path())


def test_integers_of_numpy_are_attributes_as_others() -> None:
    """JAX keeps the axes of a sum as they were given."""
    builder = Builder()
    name = builder.add("sum", builder.input("x", (-1, 2, 3), "float32"), axes=(np.int64(1), 2))
    (operation,) = builder.operations.values()
    assert operation.attributes == {"axes": [1, 2]} and operation.output == (name, (-1,), "float32")
    assert all(type(axis) is int for axis in operation.attributes["axes"])


class Sorting(nn.Module):
    """An operation that programs do not have."""

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array:
        return nn.Dense(3)(jnp.sort(obs, -1))


def test_an_operation_that_there_is_not_is_named() -> None:
    spec = parl.EnvSpec("own", parl.Box((6,)), parl.Discrete(3))
    with pytest.raises(UnsupportedOperation, match="operation 'sort'"):
        policies.parts(policies.source(DQN(q=Sorting()), spec))


def test_what_a_form_has_not_is_one_sentence() -> None:
    with pytest.raises(UnsupportedOperation, match="stablehlo holds the weights as they were"):
        check_settings("stablehlo", Settings(weights="int8"))
    with pytest.raises(UnsupportedOperation, match=r"tflite acts greedily: .* without --sample"):
        check_settings("tflite", Settings(sample=True))
    check_settings("onnx", Settings(sample=True, weights="int8"))
    check_settings("tflite", Settings())


def test_an_agent_that_there_is_not_is_named() -> None:
    with pytest.raises(ConfigError, match="no agent 'agent_9'"):
        policies.parts(policies.of_recipe("ippo", policies.SPREAD), agent="agent_9")


def test_one_agent_alone_acts_as_among_the_others() -> None:
    """Agent 1 of a team with parameters of its own: its row of the joint action."""
    found = policies.of_recipe("ippo", policies.SPREAD, sharing="none")
    team, alone = policies.parts(found), policies.parts(found, agent="agent_1")
    rows = observed.adversarial(found.spec, team.whole, 50, 0)
    obs = {name: x[0] for name, x in rows.obs.items()}
    obs["obs.alive"][:] = True
    joint = Runner(team.programs["greedy"])(obs, 50)["action"]
    assert {port.name for port in alone.programs["greedy"].inputs} == {"obs.view", "obs.legal"}
    own = {name: obs[name][:, 1] for name in ("obs.view", "obs.legal")}
    assert (Runner(alone.programs["greedy"])(own, 50)["action"] == joint[:, 1]).all()
    assert (joint[:, 0] != joint[:, 1]).any()


@pytest.mark.parametrize("name", ["ppo Box", slow("mappo agents")])
def test_sampled_actions_are_those_of_jax(name: str) -> None:
    recipe, env, settings = policies.CASES[name]
    parts = policies.parts(policies.of_recipe(recipe, env, **settings), sample=True)
    act = jax_backend(parts.acts["sample"], parts.maps)
    rng = np.random.default_rng(0)
    obs = {n: np.ones((8, *x.shape[1:]), x.dtype) for n, x in parts.whole.obs.items()}
    obs = {
        n: x if x.dtype == bool else rng.standard_normal(x.shape).astype(x.dtype)
        for n, x in obs.items()
    }
    drawn = []
    for seed in range(32):
        key = np.array([0, seed], np.uint32)
        noise = Runner(parts.programs["noise"])({"key": key}, 8)
        drawn.append(Runner(parts.programs["sample"])(obs | noise, 8)["action"])
        np.testing.assert_allclose(drawn[-1], act(obs | {"key": key}, 8)["action"], atol=1e-5)
    assert (drawn[0] != drawn[1]).any()
