"""Masks, observations as their spaces say, and mistakes of environments."""

import contextlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

import parl
from fault_cases import case

Box = spaces.Box
PPO: dict[str, Any] = {
    "length": 8, "num_envs": 2, "hidden": (8,), "minibatches": 2, "epochs": 1, "eval_episodes": 2,
    "quiet": True,
}  # fmt: skip
OFF: dict[str, Any] = {
    "warmup": 16, "hidden": (8,), "batch_size": 8, "capacity": 200, "eval_episodes": 2,
    "quiet": True,
}  # fmt: skip


def new() -> str:
    return tempfile.mkdtemp() + "/run"


class Env(gym.Env):
    """Random observations, reward 1, cut after `length` steps."""

    def __init__(self, obs: Any = None, act: Any = None, length: int = 5):
        self.observation_space, self.length = obs or Box(-1, 1, (3,)), length
        self.action_space = act or spaces.Discrete(2)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        return self.observation_space.sample(), 1.0, False, self.t >= self.length, {}


class Masked(gym.Env):
    """Two of four actions are legal, others each step."""

    illegal = steps = 0
    where, mask = "obs", Box(0, 1, (4,), np.int8)

    def __init__(self) -> None:
        x = Box(-1, 1, (3,))
        self.observation_space = spaces.Dict(x=x, legal=self.mask) if self.where == "obs" else x
        self.action_space = spaces.Discrete(4)

    def look(self) -> Any:
        self.legal = np.zeros(4, self.mask.dtype)
        self.legal[self.np_random.choice(4, 2, replace=False)] = 1
        x = np.zeros(3, np.float32)
        if self.where == "obs":
            return {"x": x, "legal": self.legal}, {}
        return x, {"action_mask": self.legal}

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self.look()

    def step(self, action: Any) -> Any:
        kind = type(self)
        kind.illegal += not self.legal[action]
        kind.steps += 1
        self.t += 1
        obs, info = self.look()
        return obs, 0.0, False, self.t >= 20, info


class Pairs(Masked):
    """One choice in each of two pairs."""

    mask = spaces.MultiBinary(4)

    def __init__(self) -> None:
        super().__init__()
        self.action_space = spaces.MultiDiscrete([2, 2])

    def look(self) -> Any:
        super().look()
        self.legal[:] = 0
        self.legal[[self.np_random.integers(2), 2 + self.np_random.integers(2)]] = 1
        return {"x": np.zeros(3, np.float32), "legal": self.legal}, {}

    def step(self, action: Any) -> Any:
        Pairs.illegal += not (self.legal[action[0]] and self.legal[2 + action[1]])
        Pairs.steps += 1
        self.t += 1
        return self.look()[0], 0.0, False, self.t >= 20, {}


@case("F02", seconds=240)
def box_masks() -> None:
    """A mask in a Box masks, of integers, floats and flags, also in info."""
    for mask, where in (
        (Box(0, 1, (4,), np.int8), "obs"),
        (Box(0, 1, (4,), np.float32), "obs"),
        (Box(0, 1, (4,), np.int64), "info"),
    ):
        kind = type("Kind", (Masked,), {"mask": mask, "where": where, "illegal": 0, "steps": 0})
        parl.train(
            "dqn", env=kind, steps=512, out=new(), length=16, updates=1, epsilon_steps=1, **OFF
        )
        assert kind.steps > 500 and kind.illegal == 0, (mask, kind.illegal, kind.steps)


@case("F03", seconds=240)
def masks_of_several_choices() -> None:
    """A mask of MultiDiscrete actions masks."""
    parl.train("ppo", env=Pairs, steps=512, out=new(), **PPO)
    assert Pairs.steps > 500 and Pairs.illegal == 0, (Pairs.illegal, Pairs.steps)


@case("F13")
def channels_first() -> None:
    """Stacked frames are channels, wherever they stand."""
    import jax
    import jax.numpy as jnp

    from parl.envs.adapters.gymnasium_spaces import convert_space
    from parl.models.encoder import Encoder

    def first_kernel(shape: Any) -> Any:
        encoder = Encoder(convert_space(Box(0, 255, shape, np.uint8)))
        params = jax.eval_shape(
            lambda: encoder.init(jax.random.key(0), jnp.zeros((1, *shape), jnp.uint8))
        )
        return next(x.shape for x in jax.tree.leaves(params) if len(x.shape) == 4)

    assert first_kernel((4, 84, 84)) == first_kernel((84, 84, 4)) == (8, 8, 4, 32)


@case("F15")
def nested_legal() -> None:
    """An entry called legal that is no mask is seen by the network."""
    import jax.numpy as jnp

    from parl.envs.adapters.gymnasium_spaces import convert_space
    from parl.models.encoder import Encoder

    task = spaces.Dict(legal=spaces.MultiBinary(3), y=Box(-1, 1, (1,)))
    encoder = Encoder(convert_space(spaces.Dict(x=Box(-1, 1, (1,)), task=task)))
    zero, rows = jnp.zeros((1, 1)), []
    for v in (0, 1):
        legal = jnp.full((1, 3), v)
        rows.append(encoder.apply({}, {"x": zero, "task": {"legal": legal, "y": zero}}))
    assert not np.array_equal(*rows)


@case("F16")
def values_that_do_not_fit() -> None:
    """What a space cannot hold is an error; what lies outside a box is told once."""
    from parl.envs.adapters.gymnasium import GymnasiumVectorEnv

    class Wrong(Env):
        def __init__(self, space: Any, value: Any):
            super().__init__(space)
            self.value = value

        def reset(self, **how: Any) -> Any:
            super().reset(**how)
            return self.value, {}

    for space, value in (
        (Box(0, 255, (4,), np.uint8), np.full(4, 0.9)),
        (Box(0, 255, (4,), np.uint8), np.full(4, 300)),
        (spaces.Discrete(3), 3),
        (spaces.Discrete(3), -1),
        (Box(-1, 1, (2,)), np.full(2, 1j)),
        (Box(-1, 1, (2,)), ["a", "b"]),
        (Box(-1, 1, (2,)), None),
    ):
        try:
            GymnasiumVectorEnv(lambda s=space, v=value: Wrong(s, v), 1, 0).reset()
        except parl.EnvError as error:
            assert "does not fit its space" in str(error)
        else:
            raise AssertionError(f"{value} passed as {space}")
    with contextlib.redirect_stderr(io.StringIO()) as said:
        for _ in range(2):
            GymnasiumVectorEnv(lambda: Wrong(Box(-1, 1, (2,)), np.full(2, 3.0)), 1, 0).reset()
    assert said.getvalue().count("outside their space: 2 of 2 numbers") == 1


@case("F19")
def the_same_environment_again() -> None:
    """A function that gives one environment again and again is refused."""
    one = Env(length=10)
    try:
        parl.train("ppo", env=lambda: one, steps=64, out=new(), **PPO)
    except parl.EnvError as error:
        assert "same environment" in str(error)
    else:
        raise AssertionError("trained")


def step_of(method: Any) -> Any:
    return type("Odd", (Env,), {"step": method})


@case("F25", seconds=240)
def mistakes_of_environments() -> None:
    """Each mistake is one EnvError of one line."""
    see = np.zeros(3, np.float32)

    class Closing(Env):
        def close(self) -> None:
            raise OSError("busy")

    class Spaceless(gym.Env):
        def reset(self, **how: Any) -> Any:
            return see, {}

    class Argument(Env):
        def __init__(self, size: int):
            super().__init__()

    for make in (
        step_of(lambda self, a: (see, 1.0, False, {})),
        step_of(lambda self, a: (see, 1.0, False)),
        step_of(lambda self, a: None),
        step_of(lambda self, a: (see, np.ones(2), False, False, {})),
        step_of(lambda self, a: (see, "1", False, False, {})),
        step_of(lambda self, a: (see, 1.0, np.array([True]), False, {})),
        step_of(lambda self, a: (see, 1.0, None, False, {})),
        step_of(lambda self, a: (see, 1.0, float("nan"), False, {})),
        step_of(lambda self, a: sys.exit(3)),
        Closing,
        Spaceless,
        Argument,
        lambda: None,
        lambda: gym.make_vec("CartPole-v1", num_envs=2),
    ):
        try:
            parl.train("ppo", env=make, steps=32, out=new(), **PPO)
        except parl.EnvError as error:
            assert "\n" not in str(error) and len(str(error)) > 20
        else:
            raise AssertionError(f"{make} trained")


@case("9a-spaces")
def bytes_that_are_no_pixels() -> None:
    """Bytes of 0 .. 2 are the numbers that they are, of all types."""
    from parl.envs.adapters.gymnasium_team import flattener

    for dtype in (np.int8, np.uint8, np.int64):
        view = flattener(Box(0, 2, (3,), dtype))[1](np.array([0, 1, 2], dtype))
        assert view.tolist() == [0, 1, 2], (dtype, view)


BUGGY = """
import gymnasium, numpy as np
class Buggy(gymnasium.Env):
    observation_space, action_space = gymnasium.spaces.Discrete(3), gymnasium.spaces.Discrete(2)
    def reset(self, seed=None, options=None):
        self.t = 0
        return 0, {}
    def step(self, action):
        self.t += 1
        if self.t == 3:
            return {}["missing"]
        return 0, 1.0, False, False, {}
class Fine(Buggy):
    def step(self, action):
        return 0, 1.0, True, False, {}
"""


def command(*arguments: str) -> Any:
    line = [sys.executable, "-m", "parl.cli", *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=200)


@case("S10", seconds=400, slow=True)
def errors_name_their_line() -> None:
    """An error inside an environment shows its file and line, also from an actor."""
    pathlib.Path("my_env.py").write_text(BUGGY)
    train = "train", "ppo", "--env", "my_env:Buggy", "--steps", "64", "--quiet"
    for more in ((), ("--actors", "1"), ("--debug",)):
        done = command(*train, "--out", new(), *more)
        assert done.returncode == 2, done
        assert "KeyError in step" in done.stderr and "my_env.py:11: 'missing'" in done.stderr
        assert ("Traceback" in done.stderr) == ("--debug" in more)


@case("S5-name", seconds=400, slow=True)
def environments_by_name() -> None:
    """An environment of one's own trains, resumes and is evaluated by its name in a shell."""
    pathlib.Path("my_env.py").write_text(BUGGY)
    done = command(
        "train", "ppo", "--env", "my_env:Fine", "--steps", "512", "--quiet", "--out", "run"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(pathlib.Path("run/config.json").read_text())["env"] == "my_env:Fine"
    assert command("eval", "run", "--episodes", "2").returncode == 0
    assert command("resume", "run", "--steps", "1024", "--quiet").returncode == 0


@case("A7-name")
def names() -> None:
    """Own environments are called by their class or function, or as one likes."""
    from functools import partial

    from parl.envs.factory import make_factory

    assert make_factory(lambda: Env()).spec.id == "Env"
    assert make_factory(partial(Env, length=3)).spec.id == "Env"
    assert make_factory(Env, "mine").spec.id == "mine"


@case("S12", seconds=240)
def images_in_any_layout() -> None:
    """No layout of an image makes a network of eight million parameters."""
    import jax

    for shape, dtype, high in (
        ((84, 84, 4), np.uint8, 255),
        ((4, 84, 84), np.uint8, 255),
        ((3, 96, 96), np.uint8, 255),
        ((4, 96, 96, 3), np.uint8, 255),
        ((16, 16, 3), np.uint8, 255),
        ((36, 36, 3), np.float32, 1),
        ((36, 36, 3), np.float32, 255),
    ):
        space = Box(0, high, shape, dtype)
        agent = parl.Agent.make("ppo", lambda s=space: Env(s))
        leaves = jax.tree.leaves(agent.get_weights())
        kernels = [x.shape for x in leaves if x.ndim == 4]
        size = sum(x.size for x in leaves)
        assert kernels and size < 5e6, (shape, kernels, size)  # the statistics of pixels included


@case("S15", seconds=240)
def pure_environments_are_checked() -> None:
    """Mistakes of pure JAX environments are told in a sentence, before anything is compiled."""
    import jax.numpy as jnp

    class Mine:
        spec = parl.EnvSpec("mine", parl.Box((2,)), parl.Discrete(2), max_steps=10)

        def reset(self, key: Any) -> Any:
            return jnp.int32(0), jnp.zeros(2)

        def step(self, t: Any, a: Any, key: Any) -> Any:
            return t + 1, jnp.zeros(2), jnp.float32(0), jnp.bool_(False), t + 1 >= 10

    z, r, no = jnp.zeros(2), jnp.float32(0), jnp.bool_(False)

    def leaking(self: Any, t: Any, a: Any, k: Any) -> Any:
        self.t = t
        return t + 1, z, r, no, no

    assert parl.check_env(Mine()) == []
    for step in (
        lambda self, t, a, k: (t + 1, z, z, no, no),
        lambda self, t, a, k: (t + 1, z, r, r, no),
        lambda self, t, a, k: (t + 1, z, r, no),
        lambda self, t, a: (t + 1, z, r, no, no),
        lambda self, t, a, k: (t + 1, z.astype(int), r, no, no),
        lambda self, t, a, k: (t + 1, jnp.zeros(3), r, no, no),
        lambda self, t, a, k: {}["missing"],
        leaking,
    ):
        try:
            parl.train("ppo", env=type("Odd", (Mine,), {"step": step})(), steps=64, out=new())
        except parl.EnvError as error:
            assert "\n" not in str(error)
        else:
            raise AssertionError("trained")
    assert not os.path.exists("runs")
