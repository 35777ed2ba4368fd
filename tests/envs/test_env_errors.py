"""What goes wrong in environments is told in one sentence, and never bent."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import parl
from parl.core.errors import EnvError
from parl.core.spec import Box
from parl.envs.adapters import gymnasium_checks as checks
from parl.envs.adapters.gymnasium import GymnasiumVectorEnv
from parl.envs.adapters.gymnasium_team import flattener, numbers
from parl.envs.factory import make_factory

SEEN = np.zeros(2, np.float32)


class Good(gymnasium.Env):
    """Two numbers, two actions, five steps."""

    observation_space: spaces.Space = spaces.Box(-1, 1, (2,))
    action_space: spaces.Space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return SEEN, {}

    def step(self, action: Any) -> Any:
        self.time += 1
        return SEEN, 1.0, False, self.time >= 5, {}


def that(**methods: Any) -> Any:
    """Good with other methods."""
    return type("Odd", (Good,), methods)


def answering(*answer: Any) -> Any:
    """Good whose step returns this."""
    return that(step=lambda self, action: answer)


def raises(error: BaseException) -> Any:
    def method(self: Any, *arguments: Any, **named: Any) -> Any:
        raise error

    return method


ONE = Good()
FIVE = "step of environment 0, which has to return five values"
# ruff: noqa: E501
WRONG = [
    (answering(SEEN, 1.0, False, {}), f"returned 4 values from {FIVE}.*old Gym"),
    (answering(SEEN, 1.0, False), f"returned 3 values from {FIVE}"),
    (that(step=lambda self, action: None), f"returned None from {FIVE}"),
    (that(step=lambda self, action: SEEN), f"returned one value, ndarray, from {FIVE}"),
    (answering(SEEN, np.ones(2), False, False, {}), r"the reward array\(\[1., 1.\]\) in environment 0"),
    (answering(SEEN, "1.0", False, False, {}), "the reward '1.0' in environment 0"),
    (answering(SEEN, None, False, False, {}), "the reward None in environment 0"),
    (answering(SEEN, 1.0, np.array([True]), False, {}), r"terminated array\(\[ True\]\) in environment"),
    (answering(SEEN, 1.0, None, False, {}), "terminated None in environment 0"),
    (answering(SEEN, 1.0, float("nan"), False, {}), "terminated nan in environment 0"),
    (answering(SEEN, 1.0, False, "no", {}), "truncated 'no' in environment 0"),
    (answering(None, 1.0, False, False, {}), "does not fit its space: it is None, not numbers"),
    (that(step=raises(KeyError("missing"))), r"KeyError in step .* at step 1, at \S+py:\d+: 'missing'"),
    (that(step=raises(SystemExit(3))), r"SystemExit in step of environment 0 at step 1.*: 3"),
    (that(reset=raises(SystemExit())), "SystemExit in reset of environment 0"),
    (that(reset=lambda self: (SEEN, {})), r"'seed'; it has to be reset\(self, \*, seed=None"),
    (that(reset=lambda self, **k: SEEN), "from reset, which has to return two values"),
    (that(reset=lambda self, **k: (SEEN, None)), "the info None from reset: it has to be a dict"),
    (that(close=raises(OSError("busy"))), r"raised OSError in close .*, at \S+py:\d+: busy"),
    (that(__init__=raises(RuntimeError("no licence"))), r"made: RuntimeError, at \S+:\d+: no licence"),
    (that(__init__=lambda self, size: None), "missing 1 required .*'size'; give a function without"),
    (that(__init__=raises(SystemExit("bye"))), "could not be made: SystemExit.*: bye"),
    (that(observation_space=None), "has no observation_space: set self.observation_space"),
    (that(action_space=5), "has 5 as its action_space"),
    (lambda: None, "makes None, which is not an environment"),
    (lambda: gymnasium.make_vec("CartPole-v1", num_envs=2), "resets ended environments in the step after"),
    (lambda: ONE, "the same environment again"),
]  # fmt: skip


@pytest.mark.parametrize("make, sentence", WRONG)
def test_one_sentence_for(make: Any, sentence: str) -> None:
    with pytest.raises(EnvError, match=sentence) as raised:
        env = make_factory(make).vector(2, 0)
        env.reset()
        env.step(np.zeros(2, int))
    assert "\n" not in str(raised.value)
    assert parl.check_env(make, 3)[0].split()[-3:] == str(raised.value).split()[-3:]


def test_what_passes() -> None:
    """Numbers of numpy, lists, and whole numbers for flags are as good as Python's."""
    env = GymnasiumVectorEnv(answering([0, 1], np.ones(1), np.bool_(True), 0, {}), 2, 0)
    env.reset()
    new = env.step(np.zeros(2, int))
    assert new.reward.tolist() == [1, 1] and new.terminated.all() and not new.truncated.any()


def test_all_are_closed_before_one_that_cannot_be_is_told() -> None:
    closed = []
    env = GymnasiumVectorEnv(that(close=lambda self: closed.append(self)), 3, 0)
    env.envs[1].close = raises(OSError("busy")).__get__(env.envs[1])
    with pytest.raises(EnvError, match="OSError in close of environment 1"):
        env.close()
    assert len(closed) == 2


def test_only_the_own_code_is_named() -> None:
    """Not the line of a library in which it ended."""
    env = that(step=lambda self, action: np.zeros(2).reshape(3))
    with pytest.raises(EnvError, match=r"step 1, at \S*test_env_errors.py:\d+: cannot reshape"):
        stepping = GymnasiumVectorEnv(env, 1, 0)
        stepping.reset()
        stepping.step(np.zeros(1, int))


# Observations


U8 = spaces.Box(0, 255, (2,), np.uint8)
NOT_FITTING = [
    (U8, [0.9, 0], "holds 0.9 where whole numbers are due"),
    (U8, [300, 0], "holds 300, which is no uint8"),
    (U8, [-1, 0], "holds -1, which is no uint8"),
    (spaces.Box(0, 9, (2,), np.int8), [0, 200], "holds 200, which is no int8"),
    (spaces.Discrete(3), 3, r"holds 3, which is not in Discrete\(3\)"),
    (spaces.Discrete(3), -1, r"holds -1, which is not in Discrete\(3\)"),
    (spaces.Discrete(3, start=2), 1, r"holds 1, which is not in Discrete\(3, start=2\)"),
    (spaces.Discrete(3), 2**32 + 1, r"which is not in Discrete\(3\)"),
    (spaces.Discrete(3), 1.5, "holds 1.5 where whole numbers are due"),
    (spaces.Discrete(3), np.inf, "holds inf where whole numbers are due"),
    (spaces.MultiDiscrete([2, 3]), [1, 3], r"holds 3, which is not in MultiDiscrete\(\[2 3\]\)"),
    (spaces.MultiBinary(2), [0, 2], r"holds 2, which is not in MultiBinary\(2\)"),
    (spaces.Box(-1, 1, (2,)), [1j, 0], "it is complex, not numbers"),
    (spaces.Box(-1, 1, (2,)), ["a", "b"], "it is text, not numbers"),
    (spaces.Dict(x=spaces.Discrete(2)), {"x": 7}, r"holds 7, .* \(in 'x'\)"),
    (spaces.Dict(x=spaces.Discrete(2)), {"y": 1}, "it lacks the entry 'x'"),
    (spaces.Dict(x=spaces.Discrete(2)), None, "it is None, not a dict"),
    (spaces.Tuple([spaces.Discrete(2)] * 2), (1,), "it lacks the entry '1'"),
]  # fmt: skip


@pytest.mark.parametrize("space, value, sentence", NOT_FITTING)
def test_values_that_cannot_be_represented(space: Any, value: Any, sentence: str) -> None:
    make = that(observation_space=space, reset=lambda self, **k: (value, {}))
    with pytest.raises(EnvError, match=f"does not fit its space: .*{sentence}"):
        GymnasiumVectorEnv(make, 1, 0).reset()
    if not isinstance(space, spaces.Tuple):  # of a team
        with pytest.raises((KeyError, TypeError, ValueError)):
            flattener(space)[1](value)


def test_values_outside_a_box_are_told_once(capsys: Any) -> None:
    checks.REPORTED.clear()
    seen = {"a": np.array([3.0, 0.5], np.float32), "b": np.array([-9], np.int8)}
    space = spaces.Dict(a=spaces.Box(-1, 1, (2,)), b=spaces.Box(-5, 5, (1,), np.int8))
    answer = lambda self, *a, **k: (seen, 0.0, False, False, {})
    make = that(observation_space=space, reset=lambda self, **k: (seen, {}), step=answer)
    for _ in range(2):
        env = GymnasiumVectorEnv(make, 2, 0)
        np.testing.assert_array_equal(env.reset()["a"], [[3.0, 0.5]] * 2)
        env.step(np.zeros(2, int))
    assert capsys.readouterr().err == (
        "WARNING: Odd gives observations 'a' outside their space: 2 of 4 numbers at step 0, such "
        "as 3; they are used as they are.\n"
    )
    assert len(env.remarks) == 1


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.float32])
def test_numbers_of_all_types_look_the_same(dtype: Any) -> None:
    """To a team, as (0, 1, 2) in 0 .. 2; to a single agent likewise."""
    value, space = np.array([0, 1, 2], dtype), spaces.Box(0, 2, (3,), dtype)
    np.testing.assert_array_equal(flattener(space)[1](value), [0, 1, 2])
    make = that(observation_space=space, reset=lambda self, **k: (value, {}))
    np.testing.assert_array_equal(GymnasiumVectorEnv(make, 1, 0).reset(), [[0, 1, 2]])


def test_bytes_are_fractions_for_a_team() -> None:
    for dtype in (np.uint8, np.int32):
        value = np.array([0, 51, 255], dtype)
        seen = flattener(spaces.Box(0, 255, (3,), dtype))[1](value)
        np.testing.assert_allclose(seen, [0, 0.2, 1])
    mixed = spaces.Dict(b=U8, n=spaces.Box(0, 2, (1,), np.uint8))
    seen = flattener(mixed)[1]({"b": np.array([0, 255], np.uint8), "n": np.array([2], np.uint8)})
    np.testing.assert_allclose(seen, [0, 1, 2])
    np.testing.assert_array_equal(numbers(np.array([2, 3], np.uint8)), [2, 3])


def test_images_of_floats_up_to_255_become_fractions() -> None:
    space = spaces.Box(0, 255, (12, 12, 3), np.float32)
    make = that(observation_space=space, reset=lambda self, **k: (np.full((12, 12, 3), 51.0), {}))
    env = GymnasiumVectorEnv(make, 1, 0)
    space: Any = env.spec.observation_space
    assert space == Box((12, 12, 3)) and space.high == 1
    np.testing.assert_allclose(env.reset(), 0.2, rtol=1e-6)


def test_the_command_line_shows_the_traceback_if_asked(capsys: Any, monkeypatch: Any) -> None:
    from parl import cli

    assert cli.main(["--debug", "train", "ppo", "--env", "NoSuch-v0"]) == 2
    said = capsys.readouterr().err
    assert "Traceback" in said and said.endswith("parl: unknown environment 'NoSuch-v0'.\n")
    assert cli.main(["train", "ppo", "--env", "NoSuch-v0"]) == 2
    assert "Traceback" not in capsys.readouterr().err
