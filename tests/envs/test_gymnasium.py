import json
import sys
import time
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from marks import quick

from parl.core.errors import CheckpointError, EnvError, MissingPackage, SpaceError
from parl.core.spec import Box, Discrete, MultiDiscrete
from parl.envs.adapters.gymnasium import GymnasiumVectorEnv
from parl.envs.adapters.gymnasium_make import make_gymnasium
from parl.envs.adapters.gymnasium_spaces import convert_space
from parl.envs.protocol import EnvState

CLASSIC = [
    "CartPole-v1",
    "Pendulum-v1",
    "Acrobot-v1",
    "MountainCar-v0",
    "MountainCarContinuous-v0",
]
MUJOCO = [
    "HalfCheetah-v4",
    "Hopper-v4",
    "Walker2d-v4",
    "Ant-v4",
    "Humanoid-v4",
    "HalfCheetah-v5",
    "Hopper-v5",
    "Walker2d-v5",
    "Ant-v5",
    "Humanoid-v5",
    "HumanoidStandup-v5",
    "Swimmer-v5",
    "Reacher-v5",
    "Pusher-v5",
    "InvertedPendulum-v5",
    "InvertedDoublePendulum-v5",
]


@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes MUJOCO_LOG.TXT where it runs


class Toy(gymnasium.Env):
    """Counts its steps; observations, rewards and failures are set from outside."""

    def __init__(self, observation_space=None, action_space=None, obs=None, length=None):
        self.observation_space = observation_space or spaces.Box(-1, 1, (2,), np.float64)
        self.action_space = action_space or spaces.Discrete(2)
        self.obs = obs if obs is not None else np.zeros(self.observation_space.shape)
        self.length = length
        self.count = 0
        self.seeds, self.actions = [], []
        self.reward = 1.0
        self.fails = None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.count = 0
        return self.obs, {}

    def step(self, action):
        self.count += 1
        self.actions.append(action)
        if self.fails:
            raise self.fails
        return self.obs, self.reward, self.count == self.length, False, {}


def actions_for(spec, steps, num_envs, seed=0):
    rng = np.random.default_rng(seed)
    shape = (steps, num_envs, *spec.action_space.shape)
    if isinstance(spec.action_space, Discrete):
        return rng.integers(0, spec.action_space.n, shape).astype(np.int32)
    return rng.uniform(-1, 1, shape).astype(np.float32)


def equal(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    return a.dtype == b.dtype and np.array_equal(a, b)


# Stepping


def test_time_limit_truncates_and_keeps_the_final_observation():
    env: Any = GymnasiumVectorEnv(make_gymnasium("Pendulum-v1", max_episode_steps=5), 2, seed=3)
    assert env.spec.max_steps == 5
    obs = env.reset()
    hands = []
    for index in range(2):
        hand = gymnasium.make("Pendulum-v1", max_episode_steps=5)
        seed = int(np.random.SeedSequence([3, index]).generate_state(1)[0])
        first, _ = hand.reset(seed=seed)
        np.testing.assert_array_equal(obs[index], first)
        hands.append(hand)
    for t, action in enumerate(actions_for(env.spec, 12, 2)):
        out = env.step(action)
        for index, hand in enumerate(hands):
            final, reward, terminated, truncated, _ = hand.step(2 * action[index])
            assert not terminated and not out.terminated[index]
            assert out.truncated[index] == truncated == (t % 5 == 4)
            np.testing.assert_array_equal(out.next_obs[index], final)
            assert out.reward[index] == np.float32(reward)
            fresh = hand.reset()[0] if truncated else final
            np.testing.assert_array_equal(out.obs[index], fresh)
    assert out.reward.dtype == np.float32 and out.obs.dtype == np.float32


def test_termination_is_not_truncation_and_only_ended_environments_are_reset():
    lengths = iter([3, 5])
    env: Any = GymnasiumVectorEnv(lambda: Toy(length=next(lengths)), 2, seed=0)
    env.reset()
    ends = [env.step(np.zeros(2, np.int32)) for _ in range(6)]
    assert [out.terminated.tolist() for out in ends] == [
        [False, False],
        [False, False],
        [True, False],
        [False, False],
        [False, True],
        [True, False],
    ]
    assert not any(out.truncated.any() for out in ends)


def test_environments_are_seeded_at_the_first_reset_only():
    env: Any = GymnasiumVectorEnv(lambda: Toy(length=1), 2, seed=7)
    env.reset()
    env.step(np.zeros(2, np.int32))
    env.reset()
    seeds = [toy.seeds for toy in env.envs]
    assert seeds[0][0] != seeds[1][0] and None not in (seeds[0][0], seeds[1][0])
    assert seeds[0][1:] == seeds[1][1:] == [None, None]


def test_returned_arrays_are_never_written_again():
    env: Any = GymnasiumVectorEnv(make_gymnasium("CartPole-v1"), 2, seed=0)
    env.reset()
    steps = [env.step(action) for action in actions_for(env.spec, 60, 2)]
    copies = [np.copy(out.next_obs) for out in steps]
    for action in actions_for(env.spec, 60, 2, seed=1):
        env.step(action)
    for out, copy in zip(steps, copies, strict=True):
        np.testing.assert_array_equal(out.next_obs, copy)


def test_an_observation_buffer_that_the_environment_reuses_is_copied():
    class Reusing(Toy):
        def reset(self, *, seed=None, options=None):
            self.obs[:] = 0
            return super().reset(seed=seed)

        def step(self, action):
            self.obs += 1
            return super().step(action)

    env: Any = GymnasiumVectorEnv(lambda: Reusing(length=2), 1, seed=0)
    env.reset()
    first, second = env.step(np.zeros(1, np.int32)), env.step(np.zeros(1, np.int32))
    assert first.next_obs[0, 0] == 1 and second.next_obs[0, 0] == 2 and second.obs[0, 0] == 0


def test_close_closes_all():
    env: Any = GymnasiumVectorEnv(Toy, 2, seed=0)
    closed = []
    for toy in env.envs:
        toy.close = lambda: closed.append(1)
    env.close()
    assert len(closed) == 2


def test_stepping_costs_little():
    env: Any = GymnasiumVectorEnv(Toy, 8, seed=0)
    env.reset()
    action = np.zeros(8, np.int32)
    start = time.thread_time()  # what others compute at the time does not count
    for _ in range(500):
        env.step(action)
    assert (time.thread_time() - start) / 500 < 500e-6  # ~12 us


# Actions


def test_box_actions_are_clipped_and_stretched_to_the_bounds():
    env: Any = GymnasiumVectorEnv(make_gymnasium("Pendulum-v1"), 6, seed=0)
    assert env.spec.action_space == Box((1,)) and env.spec.action_space.high == 1
    batch = np.array([[-1], [-0.5], [0], [1], [7], [-7]], np.float32)
    np.testing.assert_array_equal(
        np.stack(env._split(batch)), [[-2.0], [-1.0], [0.0], [2.0], [2.0], [-2.0]]
    )


@pytest.mark.parametrize(
    ("low", "high", "action", "expected", "bound"),
    [
        ([0.0, -0.4], [0.3, 0.4], [1.0, -1.0], [0.3, -0.4], 1.0),
        ([0.0, -10.0], [0.3, 30.0], [0.0, 0.5], [0.15, 20.0], 1.0),
        ([-1.0, -1.0], [1.0, 1.0], [5.0, -0.25], [1.0, -0.25], 1.0),
        ([-np.inf, -np.inf], [np.inf, np.inf], [5.0, -3.0], [5.0, -3.0], np.inf),
        ([-np.inf, -2.0], [np.inf, 4.0], [5.0, 5.0], [5.0, 4.0], [np.inf, 1.0]),
    ],
)
def test_box_bounds(low, high, action, expected, bound):
    space = spaces.Box(np.array(low, np.float32), np.array(high, np.float32), dtype=np.float32)
    env: Any = GymnasiumVectorEnv(lambda: Toy(action_space=space), 1, seed=0)
    env.reset()
    env.step(np.array([action], np.float32))
    (sent,) = env.envs[0].actions
    assert sent.dtype == np.float32
    np.testing.assert_array_equal(sent, np.array(expected, np.float32))
    np.testing.assert_array_equal(env.spec.action_space.high, bound)
    np.testing.assert_array_equal(env.spec.action_space.low, -np.asarray(bound))


def test_discrete_actions_respect_the_start():
    toy = Toy(action_space=spaces.Discrete(3, start=-1))
    env: Any = GymnasiumVectorEnv(lambda: toy, 1, seed=0)
    env.reset()
    for action in range(3):
        env.step(np.array([action], np.int32))
    assert toy.actions == [-1, 0, 1] and env.spec.action_space == Discrete(3)


@pytest.mark.parametrize(
    ("space", "nvec", "action", "expected"),
    [
        (spaces.MultiDiscrete([3, 4], start=[1, 0]), (3, 4), [2, 3], [3, 3]),
        (spaces.MultiBinary(3), (2, 2, 2), [1, 0, 1], [1, 0, 1]),
        (spaces.MultiBinary((2, 2)), (2, 2, 2, 2), [1, 0, 1, 1], [[1, 0], [1, 1]]),
    ],
)
def test_integer_vectors_as_actions(space, nvec, action, expected):
    toy = Toy(action_space=space)
    env: Any = GymnasiumVectorEnv(lambda: toy, 1, seed=0)
    assert env.spec.action_space == MultiDiscrete(nvec)
    env.reset()
    env.step(np.array([action], np.int32))
    np.testing.assert_array_equal(toy.actions[0], expected)
    assert space.contains(toy.actions[0])


def test_a_batch_of_the_wrong_shape_is_refused():
    env: Any = GymnasiumVectorEnv(make_gymnasium("Pendulum-v1"), 2, seed=0)
    env.reset()
    with pytest.raises(EnvError, match=r"takes actions of shape \(2, 1\), not \(2,\)"):
        env.step(np.zeros(2, np.float32))


def test_a_nan_action_is_refused():
    env: Any = GymnasiumVectorEnv(make_gymnasium("Pendulum-v1"), 2, seed=0)
    env.reset()
    with pytest.raises(EnvError, match="given a NaN or infinite action at step 1"):
        env.step(np.array([[0], [np.nan]], np.float32))


# Observations


@pytest.mark.parametrize(
    ("space", "obs", "converted", "expected"),
    [
        (spaces.Discrete(4, start=2), np.int64(5), Discrete(4), np.int32(3)),
        (
            spaces.Box(0, 255, (2, 2, 3), np.uint8),
            np.full((2, 2, 3), 200, np.uint8),
            Box((2, 2, 3), "uint8"),
            np.full((2, 2, 3), 200, np.uint8),
        ),
        (spaces.Box(-1, 1, (), np.float64), np.float64(0.5), Box(()), np.float32(0.5)),
        (
            spaces.MultiDiscrete([3, 4], start=[1, 1]),
            np.array([3, 1]),
            MultiDiscrete((3, 4)),
            np.array([2, 0], np.int32),
        ),
        (
            spaces.MultiBinary((2, 2)),
            np.array([[1, 0], [0, 1]], np.int8),
            MultiDiscrete((2, 2, 2, 2)),
            np.array([1, 0, 0, 1], np.int32),
        ),
        (
            spaces.Dict(
                a=spaces.Box(-1, 1, (2,), np.float64),
                b=spaces.Dict(c=spaces.Discrete(3), d=spaces.Box(0, 255, (4,), np.uint8)),
            ),
            {"a": np.ones(2), "b": {"c": 2, "d": np.arange(4, dtype=np.uint8)}},
            {"a": Box((2,)), "b": {"c": Discrete(3), "d": Box((4,), "uint8")}},
            {
                "a": np.ones(2, np.float32),
                "b": {"c": np.int32(2), "d": np.arange(4, dtype=np.uint8)},
            },
        ),
        (
            spaces.Tuple((spaces.Discrete(3), spaces.Box(-1, 1, (2,), np.float32))),
            (1, np.zeros(2, np.float32)),
            {"0": Discrete(3), "1": Box((2,))},
            {"0": np.int32(1), "1": np.zeros(2, np.float32)},
        ),
    ],
)
def test_observation_spaces(space, obs, converted, expected):
    def batched(tree):
        if isinstance(tree, dict):
            return {name: batched(part) for name, part in tree.items()}
        return np.stack([tree, tree])

    env: Any = GymnasiumVectorEnv(lambda: Toy(space, obs=obs, length=2), 2, seed=0)
    assert env.spec.observation_space == converted == convert_space(space)
    assert equal(env.reset(), batched(expected))
    for _ in range(3):
        out = env.step(np.zeros(2, np.int32))
        assert equal(out.obs, batched(expected)) and equal(out.next_obs, batched(expected))


def test_bounds_of_an_observation_box_are_scalars_where_they_are_equal():
    image: Any = convert_space(spaces.Box(0, 255, (8, 8, 3), np.uint8))
    assert (image.low, image.high) == (0, 255)
    vector: Any = convert_space(
        spaces.Box(np.array([0.0, 1.0]), np.array([2.0, 2.0]), dtype=np.float64)
    )
    np.testing.assert_array_equal(vector.low, [0, 1])


@pytest.mark.parametrize(
    "space", [spaces.Text(3), spaces.Sequence(spaces.Discrete(2)), spaces.Dict(a=spaces.Text(3))]
)
def test_spaces_without_a_fixed_shape_are_refused(space):
    with pytest.raises(SpaceError, match="not supported"):
        convert_space(space)


@pytest.mark.parametrize("space", [spaces.Dict(a=spaces.Discrete(2)), spaces.Text(3)])
def test_action_spaces_that_are_refused(space):
    with pytest.raises(SpaceError, match="not supported as an action space"):
        GymnasiumVectorEnv(lambda: Toy(action_space=space), 1, seed=0)


# Errors


def test_nan_observation():
    env: Any = GymnasiumVectorEnv(lambda: Toy(obs=np.zeros(2)), 4, seed=0, id="Toy-v3")
    env.reset()
    for _ in range(6):
        env.step(np.zeros(4, np.int32))
    env.envs[3].obs[1] = np.nan
    with pytest.raises(
        EnvError, match=r"^Toy-v3 returned a NaN observation in environment 3 at step 7; "
    ):
        env.step(np.zeros(4, np.int32))


def test_nan_in_a_nested_observation():
    space = spaces.Dict(a=spaces.Dict(b=spaces.Box(-1, 1, (1,))), n=spaces.Discrete(2))
    obs = {"a": {"b": np.array([np.nan], np.float32)}, "n": 0}
    env: Any = GymnasiumVectorEnv(lambda: Toy(space, obs=obs), 1, seed=0)
    with pytest.raises(EnvError, match="NaN observation in environment 0 at step 0"):
        env.reset()


def test_infinite_reward():
    env: Any = GymnasiumVectorEnv(Toy, 2, seed=0)
    env.reset()
    env.envs[1].reward = -np.inf
    with pytest.raises(EnvError, match=r"^Toy returned an infinite reward in environment 1"):
        env.step(np.zeros(2, np.int32))


def test_large_but_finite_numbers_pass():
    env: Any = GymnasiumVectorEnv(lambda: Toy(obs=np.full(2, 1e30)), 2, seed=0)
    assert env.reset()[0, 0] == np.float32(1e30)


def test_exceptions_of_the_environment_carry_its_id():
    env: Any = GymnasiumVectorEnv(Toy, 2, seed=0, id="Toy-v3")
    env.reset()
    env.envs[1].fails = RuntimeError("the physics broke")
    with pytest.raises(
        EnvError,
        match=r"^Toy-v3 raised RuntimeError in step of environment 1 at step 1, at \S*"
        r"test_gymnasium.py:\d+: the physics broke$",
    ) as raised:
        env.step(np.zeros(2, np.int32))
    assert isinstance(raised.value.__cause__, RuntimeError)
    env.envs[0].reset = None
    with pytest.raises(EnvError, match=r"^Toy-v3 raised TypeError in reset of environment 0"):
        env.reset()


def test_an_observation_outside_its_declared_shape():
    env: Any = GymnasiumVectorEnv(lambda: Toy(obs=np.zeros(3)), 2, seed=0)
    with pytest.raises(EnvError, match=r"does not fit its space: its shape is \(3,\) instead of"):
        env.reset()


def test_step_before_reset():
    env: Any = GymnasiumVectorEnv(Toy, 1, seed=0)
    with pytest.raises(EnvError, match="has to be reset"):
        env.step(np.zeros(1, np.int32))


@pytest.mark.parametrize(
    ("id", "hint"),
    [
        ("HalfCheeta-v5", " Did you mean HalfCheetah-v5?"),
        ("CartPole", " Did you mean CartPole-v1?"),
        ("qqq", ""),
        ("NoSuch/Thing-v0", ""),
    ],
)
def test_unknown_id(id, hint):
    with pytest.raises(EnvError) as raised:
        make_gymnasium(id)
    assert str(raised.value) == f"unknown environment '{id}'.{hint}"


def test_missing_box2d(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("gymnasium.envs.box2d")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "Box2D", None)
    with pytest.raises(MissingPackage) as raised:
        make_gymnasium("LunarLander-v3")()
    assert "LunarLander-v3 needs a package" in str(raised.value)
    assert "pip install 'gymnasium[box2d]'" in str(raised.value)


def test_missing_ale(monkeypatch):
    monkeypatch.setitem(sys.modules, "ale_py", None)
    with pytest.raises(MissingPackage, match=r"ALE/Pong-v5 needs .*: pip install ale-py$"):
        make_gymnasium("ALE/Pong-v5")


def test_missing_module_of_an_id():
    with pytest.raises(MissingPackage, match="there is no module 'no_such_module' here"):
        make_gymnasium("no_such_module:Thing-v0")


def test_an_environment_that_cannot_be_made():
    with pytest.raises(EnvError, match=r"CartPole-v1 could not be made: TypeError: .*colour"):
        make_gymnasium("CartPole-v1", colour=1)()


# State


def through_json(state):
    return EnvState(dict(state.arrays), json.loads(json.dumps(state.meta)), state.exact)


@pytest.mark.parametrize(
    "id", quick(CLASSIC + MUJOCO, "CartPole-v1", "Pendulum-v1", "HalfCheetah-v5")
)
def test_state_is_exact(id):
    # A short limit makes every environment cross episode ends within the steps compared.
    make = make_gymnasium(id, max_episode_steps=120)
    one = GymnasiumVectorEnv(make, 2, seed=1)
    one.reset()
    actions = actions_for(one.spec, 200, 2)
    for action in actions[:50]:
        before = one.step(action)
    state = one.get_state()
    assert state.exact
    expected = [one.step(action) for action in actions[50:]]
    assert any((out.terminated | out.truncated).any() for out in expected)

    two = GymnasiumVectorEnv(make, 2, seed=99)
    two.reset()
    for action in actions[:7]:
        two.step(action)
    two.close()
    for other in (GymnasiumVectorEnv(make, 2, seed=99), two):
        obs = other.set_state(through_json(state))
        assert equal(obs, before.obs)
        for action, out in zip(actions[50:], expected, strict=True):
            again = other.step(action)
            for left, right in zip(again, out, strict=True):
                assert equal(left, right)
    left, right = one.get_state(), two.get_state()
    assert left.meta == right.meta and equal(left.arrays, right.arrays)


def test_a_captured_state_does_not_change_afterwards():
    env: Any = GymnasiumVectorEnv(make_gymnasium("Hopper-v5"), 1, seed=0)
    env.reset()
    state = env.get_state()
    copies = {name: array.copy() for name, array in state.arrays.items()}
    for action in actions_for(env.spec, 5, 1):
        env.step(action)
    assert all(np.array_equal(array, state.arrays[name]) for name, array in copies.items())
    env.set_state(state)
    for action in actions_for(env.spec, 5, 1):
        env.step(action)
    assert all(np.array_equal(array, state.arrays[name]) for name, array in copies.items())


def test_other_environments_start_fresh_episodes_with_new_seeds():
    def make():
        return Toy(length=2)

    env: Any = GymnasiumVectorEnv(make, 2, seed=5)
    env.reset()
    for _ in range(3):
        env.step(np.zeros(2, np.int32))
    state = env.get_state()
    assert not state.exact
    others: list[Any] = [GymnasiumVectorEnv(make, 2, seed=5) for _ in range(3)]
    first, again, later = others
    first.set_state(through_json(state))
    again.set_state(through_json(state))
    later.set_state(state._replace(meta={**state.meta, "steps": 4}))
    seeds = [[toy.seeds[-1] for toy in e.envs] for e in (first, again, later)]
    assert seeds[0] == seeds[1]
    assert len({*seeds[0], *seeds[2], *(toy.seeds[0] for toy in env.envs)}) == 6
    out = first.step(np.zeros(2, np.int32))
    assert not out.terminated.any() and first.get_state().meta["steps"] == 4


def test_a_wrapper_with_a_state_of_its_own_is_not_exact():
    make = make_gymnasium("CartPole-v1")
    env: Any = GymnasiumVectorEnv(
        lambda: gymnasium.wrappers.NormalizeObservation(make()), 1, seed=0
    )
    env.reset()
    assert not env.get_state().exact


@pytest.mark.parametrize("change", ["id", "num_envs", "meta", "arrays", "shape", "layers"])
def test_foreign_states_are_refused(change):
    env: Any = GymnasiumVectorEnv(make_gymnasium("Hopper-v5"), 1, seed=0)
    env.reset()
    state = through_json(env.get_state())
    match change:
        case "id":
            state.meta["id"] = "Walker2d-v5"
        case "num_envs":
            state.meta["num_envs"] = 2
        case "meta":
            del state.meta["envs"]
        case "arrays":
            del state.arrays["0/data/qpos"]
        case "shape":
            state.arrays["obs"] = state.arrays["obs"][:, :3]
        case "layers":
            state.meta["envs"][0]["layers"] = ["Other"]
    with pytest.raises(CheckpointError, match="Hopper-v5"):
        env.set_state(state)


def test_no_state_before_the_first_reset():
    with pytest.raises(CheckpointError, match="before its first reset"):
        GymnasiumVectorEnv(Toy, 1, seed=0).get_state()


def test_remarks_of_mujoco_are_logged_and_not_printed(capfd, caplog, tmp_path, monkeypatch) -> None:
    """Neither on the terminal nor in a file where the run was started; what comes later is."""
    mujoco = pytest.importorskip("mujoco")
    from parl.envs.adapters.mujoco_log import remarks_logged

    monkeypatch.chdir(tmp_path)
    before = mujoco.get_mju_user_warning()
    make_gymnasium("HalfCheetah-v5")().close()  # which MuJoCo 3.17 finds out of date
    with caplog.at_level("INFO", "parl.mujoco"), remarks_logged():
        mujoco.get_mju_user_warning()("an odd model")
    assert "an odd model" in caplog.messages
    assert capfd.readouterr() == ("", "") and not list(tmp_path.iterdir())
    assert mujoco.get_mju_user_warning() is before
