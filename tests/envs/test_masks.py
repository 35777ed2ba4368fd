"""Masks of environments with one agent, wherever these tell them."""

from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from marks import slow

from parl import ops
from parl.agents.execution.collector import Collector
from parl.agents.execution.protocol import Seeds
from parl.core.errors import EnvError, SpaceError
from parl.core.spec import Box, Discrete, EnvSpec, MultiDiscrete
from parl.envs.adapters.gymnasium import GymnasiumVectorEnv
from parl.envs.factory import from_jax, make_factory
from parl.envs.jax_checks import checked
from parl.recipes import make_recipe

FOUR = Discrete(4)
X = spaces.Box(-1, 1, (2,))


class Masked(gymnasium.Env):
    """Legal is what was drawn last; `shown` makes an (observation, info) of (x, mask)."""

    def __init__(self, seen: spaces.Space, shown: Any, act: Any = None, length: int = 20):
        self.observation_space, self.shown, self.length = seen, shown, length
        self.action_space = act or spaces.Discrete(4)
        self.illegal = self.steps = 0

    def look(self) -> Any:
        nvec = getattr(self.action_space, "nvec", [getattr(self.action_space, "n", 1)])
        parts = [np.zeros(n, np.int8) for n in nvec]
        for part in parts:
            part[self.np_random.integers(len(part))] = 1
        self.legal = np.concatenate(parts)
        self.ends = np.cumsum([0, *nvec[:-1]])
        return self.shown(np.zeros(2, np.float32), self.legal)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return self.look()

    def step(self, action: Any) -> Any:
        self.steps += 1
        self.illegal += not self.legal[self.ends + np.asarray(action).reshape(-1)].all()
        self.time += 1
        obs, info = self.look()
        return obs, 0.0, False, self.time >= self.length, info


def entry(mask: spaces.Space, name: str = "legal", form: Any = lambda m: m) -> Any:
    """An environment whose dict of observations holds the mask."""
    seen = spaces.Dict({"x": X, name: mask})
    return lambda **how: Masked(seen, lambda x, m: ({"x": x, name: form(m)}, {}), **how)


def nested(**how: Any) -> Masked:
    seen = spaces.Dict(x=X, task=spaces.Dict(legal=spaces.MultiBinary(4), goal=spaces.Discrete(3)))
    shown = lambda x, m: ({"x": x, "task": {"legal": m, "goal": 1}}, {})
    return Masked(seen, shown, **how)


def informed(**how: Any) -> Masked:
    return Masked(X, lambda x, m: (x, {"action_mask": m}), **how)


BOOL: Any = bool
ONE = [
    entry(spaces.MultiBinary(4)),
    entry(spaces.Box(0, 1, (4,), np.int8)),
    entry(spaces.Box(0, 1, (4,), np.uint8), form=lambda m: m.astype(np.uint8)),
    entry(spaces.Box(0, 1, (4,), np.int64), form=lambda m: m.astype(np.int64)),
    entry(spaces.Box(0, 1, (4,), BOOL), form=lambda m: m.astype(bool)),
    entry(spaces.Box(0, 1, (4,)), form=lambda m: m.astype(np.float32)),
    entry(spaces.Box(0, 1, (2, 2), np.float64), form=lambda m: m.reshape(2, 2).astype(float)),
    entry(spaces.MultiDiscrete([2] * 4)),
    entry(spaces.MultiBinary(4), "action_mask"),
    nested,
    informed,
]
PAIRS = spaces.MultiDiscrete([2, 3])
SEVERAL = [
    entry(spaces.MultiBinary(5)),
    entry(spaces.Box(0, 1, (5,), np.int8)),
    entry(
        spaces.Tuple([spaces.MultiBinary(2), spaces.MultiBinary(3)]), form=lambda m: (m[:2], m[2:])
    ),
    informed,
    lambda **how: Masked(X, lambda x, m: (x, {"action_mask": (m[:2], m[2:])}), **how),
]


@pytest.mark.parametrize("make", ONE)
def test_a_mask_becomes_booleans(make: Any) -> None:
    env: Any = GymnasiumVectorEnv(make, 2, 0)
    assert env.spec.has_mask and env.spec.action_space == FOUR
    space: Any = env.spec.observation_space
    assert space["legal"] == Box((4,), "bool")
    obs = env.reset()
    for _ in range(30):
        legal = np.stack([game.legal for game in env.envs])
        assert obs["legal"].dtype == bool
        np.testing.assert_array_equal(obs["legal"], legal)
        obs = env.step(legal.argmax(1)).obs
    assert [game.illegal for game in env.envs] == [0, 0]


@pytest.mark.parametrize("make", SEVERAL)
def test_masks_of_several_choices_stand_after_one_another(make: Any) -> None:
    env: Any = GymnasiumVectorEnv(lambda: make(act=PAIRS), 2, 0)
    assert env.spec.action_space == MultiDiscrete((2, 3))
    obs = env.reset()
    np.testing.assert_array_equal(obs["legal"], np.stack([game.legal for game in env.envs]))


def test_what_is_no_mask_is_an_observation() -> None:
    space = spaces.Dict(x=X, task=spaces.Dict(legal=spaces.MultiBinary(3)))
    env: Any = GymnasiumVectorEnv(
        lambda: Masked(space, lambda x, m: ({"x": x, "task": {"legal": m[:3]}}, {})), 1, 0
    )
    assert env.spec.observation_space == {
        "x": Box((2,)),
        "task": {"legal": MultiDiscrete((2, 2, 2))},
    }
    box = lambda: Masked(
        spaces.Dict(x=X, legal=spaces.Box(0, 1, (4,), np.int8)),
        lambda x, m: ({"x": x, "legal": np.ones(4, np.int8)}, {"action_mask": m}),
        spaces.Box(-1, 1, (1,)),
    )
    env: Any = GymnasiumVectorEnv(box, 1, 0)
    assert env.spec.observation_space == {"x": Box((2,)), "legal": Box((4,))}
    assert not env.spec.has_mask


@pytest.mark.parametrize("size", [3, 5])
def test_a_mask_of_another_length(size: int) -> None:
    with pytest.raises(
        SpaceError, match=r"'legal' is MultiBinary.*Discrete\(4\) it needs 4 numbers"
    ):
        GymnasiumVectorEnv(entry(spaces.MultiBinary(size)), 1, 0)
    wrong = lambda: Masked(X, lambda x, m: (x, {"action_mask": np.ones(size)}))
    with pytest.raises(EnvError, match=f"its mask has {size} numbers instead of 4"):
        GymnasiumVectorEnv(wrong, 1, 0).reset()


def test_two_masks() -> None:
    seen = spaces.Dict(legal=spaces.MultiBinary(4), action_mask=spaces.MultiBinary(4), x=X)
    with pytest.raises(SpaceError, match=r"(legal|action_mask) and \w+ could each be the mask"):
        GymnasiumVectorEnv(lambda: Masked(seen, lambda x, m: ({}, {})), 1, 0)


def test_masks_hold_zero_and_one() -> None:
    half = entry(spaces.Box(0, 1, (4,)), form=lambda m: np.full(4, 0.5))
    with pytest.raises(EnvError, match=r"its mask holds 0.5, not only 0 and 1"):
        GymnasiumVectorEnv(half, 1, 0).reset()


@pytest.mark.parametrize("act", [spaces.Discrete(4), PAIRS])
def test_no_legal_action_is_an_error_at_its_step(act: Any) -> None:
    class Stuck(Masked):
        def look(self) -> Any:
            super().look()
            if self.time == 3:
                self.legal[: 2 if act is PAIRS else 4] = 0  # of the pairs, the first only
            return self.shown(np.zeros(2, np.float32), self.legal)

    shown = lambda x, m: (x, {"action_mask": m})
    env: Any = GymnasiumVectorEnv(lambda: Stuck(X, shown, act), 2, 0)
    obs = env.reset()
    shape = (2, 2) if act is PAIRS else (2,)
    for _ in range(2):
        env.step(np.zeros(shape, int))
    with pytest.raises(EnvError, match="no legal action in environment 0 at step 3"):
        env.step(np.zeros(shape, int))
    last = GymnasiumVectorEnv(lambda: Stuck(X, shown, act, length=3), 1, 0)
    last.reset()
    for _ in range(4):  # nothing has to be legal when the episode is over
        obs = last.step(np.zeros((1, *shape[1:]), int))
    assert not obs.truncated.any()


def test_info_has_to_tell_the_mask_always() -> None:
    class Forgetful(Masked):
        def step(self, action: Any) -> Any:
            return *super().step(action)[:4], {}

    env: Any = GymnasiumVectorEnv(lambda: Forgetful(X, lambda x, m: (x, {"action_mask": m})), 1, 0)
    env.reset()
    with pytest.raises(
        EnvError, match=r"gave info\['action_mask'\] at its first reset, but not in"
    ):
        env.step(np.zeros(1, int))
    last = GymnasiumVectorEnv(lambda: Forgetful(X, informed().shown, length=1), 1, 0)
    last.reset()
    assert last.step(np.zeros(1, int)).next_obs["legal"].all()


def test_taxi_tells_its_mask() -> None:
    env = make_factory("Taxi-v3" if "Taxi-v3" in gymnasium.registry else "Taxi-v4").vector(3, 0)
    obs = env.reset()
    game: Any = env.envs[1].unwrapped  # pyright: ignore[reportAttributeAccessIssue]
    np.testing.assert_array_equal(obs["legal"][1], game.action_mask(game.s))
    assert obs["observation"][1] == game.s


@pytest.mark.parametrize(
    "name, make, act",
    [
        ("dqn", informed, spaces.Discrete(4)),
        slow("es", SEVERAL[0], PAIRS),
        slow("ppo-gru", informed, PAIRS),
    ],
)
def test_algorithms_keep_to_the_mask(name: str, make: Any, act: Any) -> None:
    """When they explore, at random and greedily."""
    envs: Any = GymnasiumVectorEnv(lambda: make(act=act), 4, 0)
    name, _, cell = name.partition("-")
    recipe = make_recipe(name, envs.spec).override(
        {"hidden": (8,)} | ({"recurrent": cell} if cell else {})
    )
    algorithm = recipe.learner(envs.spec, 1000, 4).algorithm
    state = algorithm.init(jax.random.key(0), envs.spec)
    collector = Collector([envs], algorithm, Seeds((0,)))
    policy = jax.jit(algorithm.policy)(state)
    for random in (False, True):
        collector.collect(policy, 25, random)
    memory = algorithm.memory((4,))
    greedy = jax.jit(
        lambda obs, memory: algorithm.act(policy, obs, memory, jax.random.key(0), explore=False)
    )
    obs = envs.reset()
    for _ in range(10):
        action, memory, _ = greedy(obs, memory)
        obs = envs.step(np.asarray(action)).obs
    assert [game.illegal for game in envs.envs] == [0] * 4
    assert envs.envs[0].steps == 60


def test_masks_are_not_normalised() -> None:
    make = lambda: entry(spaces.Box(0, 1, (4,), np.int8))()
    recipe = make_recipe("dqn", make_factory(make).spec)
    learner = recipe.override({"normalize_obs": True}).learner(make_factory(make).spec, 100, 1)
    state = learner.algorithm.init(jax.random.key(0), make_factory(make).spec)
    assert set(state.obs) == {"['x']"}


def test_actions_drawn_at_random_keep_to_masks_of_several_choices() -> None:
    space, legal = MultiDiscrete((2, 3)), jnp.array([[0, 1, 1, 0, 1], [1, 0, 0, 1, 0]], bool)
    draw = lambda key: ops.uniform_action(key, space, (2,), legal)
    actions = np.asarray(jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), 64)))
    assert {tuple(a) for a in actions[:, 0]} == {(1, 0), (1, 2)}
    assert {tuple(a) for a in actions[:, 1]} == {(0, 1)}
    free = ops.uniform_action(jax.random.key(0), Box((3,)), (2,), legal)
    assert free.shape == (2, 3), "what is called legal is an observation where actions are numbers"
    with pytest.raises(ValueError, match=r"legal \(2, 4\) must be \(2, 5\)"):
        ops.uniform_action(jax.random.key(0), space, (2,), legal[:, :4])


def test_a_masked_distribution_of_several_choices() -> None:
    """By hand: of the logits (0, 9) the first alone is legal, of (1, 1, 5) the first two."""
    pi = ops.MultiCategorical((jnp.array([0.0, 9.0]), jnp.array([1.0, 1.0, 5.0])))
    pi = pi.masked(jnp.array([1, 0, 1, 1, 0], bool))
    assert pi.mode().tolist() == [0, 0]
    np.testing.assert_allclose(pi.entropy(), np.log(2), rtol=1e-6)
    np.testing.assert_allclose(pi.log_prob(jnp.array([0, 1])), -np.log(2), rtol=1e-6)
    assert pi.log_prob(jnp.array([1, 0])) < -1e8


class Bandit:
    """A pure JAX one: in state s, action s alone is legal, by a mask of floats."""

    def __init__(self, declared: Any, form: Any):
        self.spec = EnvSpec("bandit", {"x": Box((1,)), "legal": declared}, Discrete(4), max_steps=5)
        self.form = form

    def look(self, state: Any) -> Any:
        return {"x": jnp.zeros(1), "legal": self.form(jnp.arange(4) == state)}

    def reset(self, key: Any) -> Any:
        return jnp.int32(0), self.look(jnp.int32(0))

    def step(self, state: Any, action: Any, key: Any) -> Any:
        after = (state + 1) % 4
        return after, self.look(after), jnp.where(action == state, 1.0, -1.0), after < 0, after == 0


@pytest.mark.parametrize(
    "declared, form",
    [
        (Box((4,)), lambda m: m.astype(jnp.float32)),
        (Box((2, 2), "int8"), lambda m: m.reshape(2, 2).astype(jnp.int8)),
        (MultiDiscrete((2,) * 4), lambda m: m.astype(jnp.int32)),
    ],
)
def test_masks_of_pure_jax_environments(declared: Any, form: Any) -> None:
    env = checked(Bandit(declared, form))
    assert env.spec.observation_space["legal"] == Box((4,), "bool")  # pyright: ignore
    vector = from_jax(env).vector(2, 0)
    obs = vector.reset()
    for time in range(6):
        np.testing.assert_array_equal(obs["legal"], np.tile(np.arange(4) == time % 4, (2, 1)))
        obs = vector.step(np.full(2, time % 4)).obs


def test_a_mask_of_another_length_in_a_spec() -> None:
    with pytest.raises(SpaceError, match=r"'legal' of bandit is Box\(3,\).*needs 4 numbers"):
        Bandit(Box((3,)), None)


@pytest.mark.parametrize("act", [Discrete(4), Box((1,), low=-1.0, high=1.0)], ids=str)
def test_flags_of_a_single_agent_are_seen(act: Any) -> None:
    """Called alive they are no mask of agents, and with actions in a Box called legal neither."""
    bandit: Any = Bandit(MultiDiscrete((2,) * 4), lambda mask: mask)
    parts = {"x": Box((1,)), "alive": Box((4,), "bool"), "legal": Box((4,), "bool")}
    bandit.spec = EnvSpec("bandit", parts, act)
    bandit.look = lambda state: (
        {"x": jnp.zeros(1)} | dict.fromkeys(("alive", "legal"), jnp.arange(4) == state)
    )
    bandit.step = lambda state, action, key: (
        state, bandit.look(state), jnp.float32(0), state < 0, state < 0
    )  # fmt: skip
    space: Any = checked(bandit).spec.observation_space
    assert space["alive"] == Box((4,)) and space["legal"].dtype == (
        "bool" if isinstance(act, Discrete) else "float32"
    )
    obs = from_jax(checked(bandit)).vector(2, 0).reset()
    np.testing.assert_array_equal(obs["alive"], np.array([[1, 0, 0, 0]] * 2, np.float32))
    assert obs["alive"].dtype == np.float32 and obs["legal"].dtype == space["legal"].dtype
