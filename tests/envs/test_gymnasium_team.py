"""Gymnasium environments whose spaces are tuples over agents: lbforaging, rware and our own."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from parl.core.errors import SpaceError
from parl.core.spec import Box, Discrete
from parl.envs.adapters.gymnasium import GymnasiumVectorEnv
from parl.envs.adapters.gymnasium_team import TupleTeam, flattener
from parl.envs.adapters.resilient import resilient
from parl.envs.factory import make_factory


class Pair(gymnasium.Env):
    """Two agents; rewards are a list of their actions; ends after three steps, or is cut."""

    def __init__(self, cut: bool = False, fails: bool = False):
        self.observation_space = spaces.Tuple((spaces.Box(0, 9, (1,)), spaces.Box(0, 9, (2,))))
        self.action_space = spaces.Tuple((spaces.Discrete(2), spaces.Discrete(3)))
        self.cut, self.fails = cut, fails

    def seen(self) -> Any:
        return tuple(np.full(n, self.time, np.float32) for n in (1, 2))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.time = 0
        return self.seen(), {}

    def step(self, action: Any) -> Any:
        self.time += 1
        if self.fails and self.time == 2:
            raise RuntimeError("broken")
        over = self.time == 3
        return self.seen(), list(map(float, action)), over and not self.cut, over and self.cut, {}


@pytest.mark.parametrize("cut", [False, True])
def test_tuples_become_arrays(cut: bool) -> None:
    env = GymnasiumVectorEnv(lambda: Pair(cut), 2, 0)
    assert env.spec.observation_space == {
        "view": Box((2, 2)),
        "alive": Box((2,), "bool"),
        "legal": Box((2, 3), "bool"),
        "state": Box((3,)),
    }
    assert (env.spec.action_space, env.spec.groups) == (Discrete(3), (0, 1))
    assert (env.spec.id, env.spec.agents) == ("Pair", ("agent_0", "agent_1"))
    obs = env.reset()
    np.testing.assert_array_equal(obs["legal"], [[[1, 1, 0], [1, 1, 1]]] * 2)
    for time in (1, 2, 3):
        new = env.step(np.array([[1, 2], [0, 1]]))
        np.testing.assert_array_equal(new.reward, [[1, 2], [0, 1]])
        np.testing.assert_array_equal(new.next_obs["view"], [[[time, 0], [time, time]]] * 2)
    assert (new.truncated if cut else new.terminated).all()
    assert not (new.terminated if cut else new.truncated).any()
    np.testing.assert_array_equal(new.obs["state"], np.zeros((2, 3)))


def test_an_environment_that_breaks_can_be_replaced() -> None:
    env = GymnasiumVectorEnv(resilient(lambda: Pair(fails=True)), 1, 0)
    env.reset()
    env.step(np.ones((1, 2), int))
    new = env.step(np.ones((1, 2), int))
    assert new.truncated.all() and not new.reward.any() and new.reward.shape == (1, 2)


def test_flattened_observations() -> None:
    pixels = spaces.Box(0, 255, (2, 2), np.uint8)
    size, flatten = flattener(pixels)
    assert size == 4
    np.testing.assert_allclose(flatten(np.full((2, 2), 51, np.uint8)), [0.2] * 4)
    mixed = spaces.Dict(
        {
            "place": spaces.Box(-1, 1, (2,)),
            "kind": spaces.Discrete(3),
            "action_mask": spaces.MultiBinary(4),
        }
    )
    size, flatten = flattener(mixed)
    assert size == 5
    value = {"place": np.array([0.5, -0.5]), "kind": 2, "action_mask": np.ones(4, np.int8)}
    np.testing.assert_allclose(flatten(value), [0, 0, 1, 0.5, -0.5])
    with pytest.raises(SpaceError, match="no fixed size"):
        flattener(spaces.Sequence(spaces.Discrete(2)))


@pytest.mark.parametrize(
    "id, agents, view", [("Foraging-8x8-2p-2f-coop-v3", 2, 12), ("rware-tiny-2ag-v2", 2, 71)]
)
def test_libraries_by_id(id: str, agents: int, view: int) -> None:
    pytest.importorskip("lbforaging" if id.startswith("Foraging") else "rware")
    factory = make_factory(id)
    spec, env = factory.spec, factory.vector(2, 0)
    assert (spec.id, spec.num_agents, spec.groups) == (id, agents, (0,) * agents)
    assert factory.jax is None and spec.observation_space["view"] == Box((agents, view))  # pyright: ignore[reportIndexIssue]
    env.reset()
    rng, limit = np.random.default_rng(0), spec.max_steps or 0
    action: Any = spec.action_space
    for time in range(1, limit + 1):
        new = env.step(rng.integers(action.n, size=(2, agents)))
        assert new.reward.shape == (2, agents)
        # the library calls its time limit a termination
        np.testing.assert_array_equal(new.truncated, [time == limit] * 2)
    assert limit in (50, 500) and new.next_obs["alive"].all()


@pytest.mark.parametrize("seen", [spaces.Tuple([spaces.Discrete(2)] * 2), spaces.Discrete(2)])
def test_hybrid_actions_of_one_agent_name_the_wrapper(seen: spaces.Space) -> None:
    env = gymnasium.Env()
    env.observation_space = seen
    env.action_space = spaces.Tuple([spaces.Discrete(2), spaces.Box(-1, 1, (1,))])
    with pytest.raises(SpaceError, match=r"has Tuple.*gymnasium\.wrappers\.TransformAction"):
        TupleTeam(env)
