"""Memory that a run would need is compared with what there is before any is asked for."""

from typing import Any

import gymnasium
import numpy as np
import pytest

from parl.core.errors import ConfigError
from parl.envs.factory import EnvFactory, make_factory
from parl.runs import sizes
from parl.runs.build import resolve
from parl.runs.config import RunConfig
from parl.runs.remarks import long_warmup, rounding

GIB = 2**30


class Pictures(gymnasium.Env):
    """96 x 96 pixels in colour, and three torques."""

    observation_space = gymnasium.spaces.Box(0, 255, (96, 96, 3), np.uint8)
    action_space = gymnasium.spaces.Box(-1, 1, (3,))

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        return self.observation_space.sample(), 0.0, False, False, {}


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "available_memory", lambda: 8 * GIB)
    monkeypatch.setattr(sizes, "device_memory", lambda: 8 * GIB)


@pytest.fixture(scope="module")
def pictures() -> EnvFactory:
    return make_factory(Pictures)


def test_a_replay_of_pictures_names_its_capacity(pictures: EnvFactory) -> None:
    """Two pictures of 27,648 bytes in each of a million samples: 51.5 GiB."""
    with pytest.raises(ConfigError) as caught:
        resolve(RunConfig("sac", "", steps=100), pictures)
    assert str(caught.value) == (
        "replay of 1,000,000 samples of 54.0 KiB would need 51.5 GiB, where 8.0 GiB of memory are "
        "free: lower --capacity."
    )
    resolve(RunConfig("sac", "", steps=100, settings={"capacity": 10_000}), pictures)
    # on the host pages that are never reached cost nothing
    resolve(RunConfig("sac", "", steps=100, settings={"replay_on_host": True}), pictures)
    with pytest.raises(ConfigError, match="lower --capacity"):
        resolve(RunConfig("sac", "", steps=10**6, settings={"replay_on_host": True}), pictures)


@pytest.mark.parametrize(
    ("algorithm", "changes", "cure"),
    [
        ("sac", {"settings": {"capacity": 2**31 - 1}}, "lower --capacity."),
        ("sac", {"num_seeds": 3_000}, "lower --capacity, or --num-seeds."),
        ("ppo", {"settings": {"hidden": [65_536] * 3}}, "lower --hidden or --width."),
        ("ppo", {"settings": {"num_envs": 10**7}}, "lower --num-envs or --length."),
        ("ppo", {"settings": {"length": 10**8}}, "lower --num-envs or --length."),
    ],
)
def test_what_needs_most_is_named(algorithm: str, changes: dict[str, Any], cure: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(RunConfig(algorithm, "jax:Pendulum-v1", **changes))
    assert str(caught.value).endswith(cure)


def test_too_many_host_environments_are_refused() -> None:
    with pytest.raises(ConfigError, match="lower --num-envs or --num-seeds"):
        resolve(RunConfig("ppo", "Pendulum-v1", settings={"num_envs": 100_000}))


def test_usual_runs_are_not_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "needed", None)  # would raise if it were called
    for algorithm, env in (("ppo", "jax:CartPole-v1"), ("dqn", "jax:CartPole-v1")):
        resolve(RunConfig(algorithm, env, settings={"num_envs": 8}))
    resolve(RunConfig("sac", "jax:Pendulum-v1", settings={"capacity": 100_000}))


def test_steps_that_are_rounded_up_and_warm_ups_without_end_are_told() -> None:
    parts = resolve(RunConfig("ppo", "jax:CartPole-v1", steps=300))
    assert rounding(parts) == "300 steps become 512: rollouts are whole, 8 x 32 steps each"
    assert rounding(resolve(RunConfig("ppo", "jax:CartPole-v1", steps=512))) == ""
    assert long_warmup(parts) == ""
    sac = lambda steps: resolve(
        RunConfig("sac", "jax:Pendulum-v1", steps=steps, settings={"warmup": 5000})
    )
    assert long_warmup(sac(1000)).startswith("the warm-up of 5,000 steps is not shorter than the")
    assert long_warmup(sac(5001)) == ""


def test_sizes_are_shown_in_their_unit() -> None:
    assert [sizes.size(x) for x in (12, 2048, 51.5 * GIB, 2**50)] == [
        "12 bytes", "2.0 KiB", "51.5 GiB", "1,024.0 TiB",
    ]  # fmt: skip
