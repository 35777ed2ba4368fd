"""Distilled and quantised policies: what they keep of the return, and the numbers themselves."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import parl
from parl.algorithms.bc import BC
from parl.algorithms.dagger import DAgger, Teacher
from parl.cli.main import main
from parl.core.errors import ConfigError
from parl.core.spec import Box, EnvSpec
from parl.deploy import contract, smaller, weights
from parl.deploy.smaller import Row

# --- weights in fewer bits --------------------------------------------------------------------


def test_int8_by_hand() -> None:
    """Columns [127, -63.5, 31.75] and [0, 2, -2]: scales 1 and 2 / 127, halves to even."""
    x = np.array([[127, 0], [-63.5, 2], [31.75, -2]], np.float32)
    integers, scale = weights.quantized(x, 1, 127)
    np.testing.assert_array_equal(scale, np.array([[1, 2 / 127]], np.float32))
    np.testing.assert_array_equal(integers, [[127, 0], [-64, 127], [32, -127]])


def test_int4_by_hand() -> None:
    """Scales 1 and 0.5; two integers lie in a byte, the first in its low half, -3 as 13."""
    x = np.array([[7, 0.5], [-3, -3.5], [2.4, 1]], np.float32)
    integers, scale = weights.quantized(x, 1, 7)
    np.testing.assert_array_equal(scale, np.array([[1, 0.5]], np.float32))
    np.testing.assert_array_equal(integers, [[7, 1], [-3, -7], [2, 2]])
    packed = weights.in_nibbles(integers)
    np.testing.assert_array_equal(packed, [7 | 1 << 4, 13 | 9 << 4, 2 | 2 << 4])
    np.testing.assert_array_equal(contract.nibbles(packed, (3, 2)), integers)


def test_a_channel_of_zeros_stays_zero() -> None:
    integers, scale = weights.quantized(np.zeros((3, 2), np.float32), 1, 127)
    assert not integers.any() and (scale == 1).all()


def test_int8_is_four_times_smaller_but_for_scales_and_biases() -> None:
    """Read back, every weight is within half a step of its channel; biases are as they were."""
    rng = np.random.default_rng(0)
    plain = {
        "w": rng.standard_normal((256, 256)).astype(np.float32) * np.geomspace(0.01, 100, 256),
        "b": rng.standard_normal(256).astype(np.float32),
    }
    plain = {name: x.astype(np.float32) for name, x in plain.items()}
    declared, data = weights.packed(plain, "int8")
    read = contract.unpacked(data, {each["name"]: each for each in declared})
    step = np.abs(plain["w"]).max(0) / 127
    assert (np.abs(read["w"] - plain["w"]) <= 0.5001 * step).all()
    np.testing.assert_array_equal(read["b"], plain["b"])
    assert len(weights.packed(plain, "float32")[1]) / len(data) >= 3.5


# --- the algorithm ----------------------------------------------------------------------------

BOX = EnvSpec("box", Box((2,)), Box((1,)))


class Linear:
    """obs [B, 2] -> action [B, 1], the product with its only parameter."""

    def init(self, key: Any, obs: Any) -> Any:
        return jnp.zeros((2, 1))

    def apply(self, params: Any, obs: Any) -> Any:
        return obs @ params


def test_targets_beyond_the_bounds_are_the_bounds() -> None:
    """And the learner's actions with noise are within them."""
    linear: Any = Linear()
    teacher = Teacher(BC(actor=linear), 9 * jnp.ones((2, 1)))
    algorithm = DAgger(BC(actor=linear), teacher, exploration=5.0)
    state = algorithm.init(jax.random.key(0), BOX)
    policy = algorithm.policy(state).replace(share=jnp.float32(0.0))
    action, _, extras = algorithm.act(policy, jnp.ones((50, 2)), (), jax.random.key(1), True)
    assert (extras["label"] == 1).all() and (jnp.abs(action) <= 1).all() and action.std() > 0.5


# --- the table --------------------------------------------------------------------------------


def test_the_share_of_a_return_is_told_in_pairs() -> None:
    """Losses of 10 and 30 of 1,000 on average: 98 %, and 1.96 * 14.14 / sqrt 2 is 1.96 %."""
    first = Row("teacher", 3000, 20.0, (500.0, 1500.0))
    other = Row("student", 100, 5.0, (490.0, 1470.0))
    share, half = other.kept(first)
    assert share == pytest.approx(0.98) and half == pytest.approx(1.96 * 10 / 1000)
    assert other.told(first)[:4] == ("student", "100", "30.0", "5.0")
    assert other.told(first)[5] == "98.0 ± 2.0 %"
    worse = Row("student", 100, 5.0, (-110.0,)).kept(Row("teacher", 1, 1.0, (-100.0,)))
    assert worse == (pytest.approx(0.9), 0.0)


# --- a run ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("teacher") / "run"
    settings = {"hidden": (32, 32), "num_envs": 4, "length": 16, "eval_episodes": 0}
    return parl.train("pg", "jax:CartPole-v1", out, True, steps=64, **settings).path


@pytest.mark.slow
def test_a_distilled_run_is_a_run(
    teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is shown, evaluated, loaded and exported where its teacher is gone; not trained on."""
    gone, out = tmp_path / "teacher", tmp_path / "small"
    teacher.rename(gone)
    try:
        words = ["distill", str(gone), "--hidden", "4", "--rounds", "2", "--steps", "160"]
        assert main([*words, "--episodes", "2", "--out", str(out), "--quiet"]) == 0
    finally:
        gone.rename(teacher)
    told = capsys.readouterr().out
    assert "student int8" in told and "times smaller" in told
    assert main(["show", str(out)]) == 0
    assert "teacher float32" in capsys.readouterr().out
    rows = smaller.read(out)
    names = [f"{who} {form}" for who in ("teacher", "student") for form in ("float32", "int8")]
    assert [row.name for row in rows] == names and all(len(row.returns) == 2 for row in rows)
    assert rows[2].num_bytes < rows[0].num_bytes
    actor = parl.load(out)
    assert actor.predict(np.zeros(4)) in (0, 1)
    assert parl.evaluate(out, episodes=2).returns.shape == (2,)
    assert not parl.export(out, tmp_path / "policy", episodes=2).failures
    with pytest.raises(ConfigError, match="not a run directory"):
        parl.resume(out, steps=320)


@pytest.mark.slow
def test_a_team_is_not_distilled(tmp_path: Path) -> None:
    small = {"num_envs": 2, "length": 16, "hidden": (4,), "eval_episodes": 0}
    team = parl.train("ippo", "jax:simple_spread", tmp_path / "team", True, steps=32, **small)
    with pytest.raises(ConfigError, match="distill teaches one agent, and jax:simple_spread has 3"):
        parl.distill(team.path, out=tmp_path / "small")
