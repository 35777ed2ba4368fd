"""PettingZoo's own tests of our environments."""

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from dying import Dying, DyingParallel
from marks import quick
from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test, seed_test, state_test
from pettingzoo.utils.conversions import parallel_to_aec, turn_based_aec_to_parallel

from parl.core.errors import EnvError
from parl.envs import as_pettingzoo
from parl.envs.adapters.gymnasium import GymnasiumVectorEnv
from parl.envs.adapters.pettingzoo import as_team
from parl.envs.adapters.to_pettingzoo import export
from parl.envs.builtin import JAX_ENVS

NAMES = [name for name, make in JAX_ENVS.items() if make().spec.num_agents]
TURNS = ["tic_tac_toe", "connect_four", "kuhn_poker", "leduc_poker"]
TOGETHER = [name for name in NAMES if name not in TURNS]
together = pytest.mark.parametrize("name", quick(TOGETHER, "simple_tag", "two_step"))
by_turns = pytest.mark.parametrize("name", quick(TURNS, "tic_tac_toe", "leduc_poker"))


@pytest.fixture(autouse=True)
def only_failures_count() -> Iterator[None]:
    """PettingZoo's tests also give advice, as warnings: on empty boards, on views that differ."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.filterwarnings("ignore", module="pettingzoo")
        yield


@together
def test_parallel_environments_pass(name: str) -> None:
    make = lambda: as_pettingzoo(f"jax:{name}")
    parallel_api_test(make(), num_cycles=60)
    parallel_seed_test(make, num_cycles=30)
    api_test(parallel_to_aec(make()), num_cycles=30)
    seed_test(lambda: parallel_to_aec(make()), num_cycles=30)
    state_test(parallel_to_aec(make()), make(), num_cycles=10)


@by_turns
def test_turn_based_environments_pass(name: str) -> None:
    make = lambda: as_pettingzoo(f"jax:{name}")
    api_test(make(), num_cycles=60)
    seed_test(make, num_cycles=30)
    state_test(make(), turn_based_aec_to_parallel(make()), num_cycles=10)


def test_agents_that_die_and_come_late_pass() -> None:
    game: Any = export(Dying())
    parallel_api_test(game, num_cycles=20)
    parallel_api_test(DyingParallel(), num_cycles=20)


@pytest.mark.parametrize("name", NAMES)
def test_the_adapter_gets_back_what_was_exported(name: str) -> None:
    spec = JAX_ENVS[name]().spec
    team = as_team(as_pettingzoo(f"jax:{name}"), spec.id).team
    assert (team.agents, team.groups) == (spec.agents, spec.groups)
    assert team.observation_space == spec.observation_space
    assert team.action_space == spec.action_space


@pytest.mark.parametrize("name", ["tic_tac_toe", "connect_four"])  # without chance
def test_games_there_and_back_are_the_same(name: str) -> None:
    """The JAX game, and the JAX game exported and adapted: every array of every step is equal."""
    env: Any = JAX_ENVS[name]()
    from parl.envs.jax_vector import JaxVectorEnv

    pair: list[Any] = [
        JaxVectorEnv(env, 3, 0),
        GymnasiumVectorEnv(lambda: as_pettingzoo(env), 3, 0, env.spec.id),
    ]
    first, second = (vector.reset() for vector in pair)
    rng = np.random.default_rng(0)
    for _ in range(60):
        assert first.keys() == second.keys()
        for part in first:
            np.testing.assert_array_equal(first[part], second[part], err_msg=part)
        action = (rng.random(first["legal"].shape) * first["legal"]).argmax(-1)
        one, other = (vector.step(action) for vector in pair)
        for part in ("reward", "terminated", "truncated"):
            np.testing.assert_array_equal(getattr(one, part), getattr(other, part))
        for part in ("view", "alive", "turn"):
            np.testing.assert_array_equal(one.next_obs[part], other.next_obs[part], err_msg=part)
        first, second = one.obs, other.obs


def test_one_agent_is_no_game() -> None:
    with pytest.raises(EnvError, match="one agent only"):
        as_pettingzoo("jax:CartPole-v1")
    with pytest.raises(EnvError, match="is not a JAX environment"):
        as_pettingzoo("CartPole-v1")
