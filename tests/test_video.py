"""Videos show the episodes that an evaluation of the same seed plays."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from marks import quick
from PIL import Image

import parl
from parl.cli import main
from parl.cli.rendering import CHILD
from parl.core.errors import ConfigError, EnvError
from parl.core.spec import Box, Discrete, EnvSpec
from parl.envs.builtin import JAX_ENVS
from parl.envs.drawing import picture_of
from parl.envs.factory import make_factory

DATA = Path(__file__).parent / "data" / "runs"


@pytest.mark.parametrize("name", quick(JAX_ENVS, "CartPole-v1", "simple_tag", "connect_four"))
def test_every_environment_of_ours_draws_its_states(name: str) -> None:
    env: Any = make_factory(f"jax:{name}").jax
    states = [jax.device_get(env.reset(jax.random.key(seed))[0]) for seed in (0, 1)]
    pictures: list[Any] = [picture_of(env, state) for state in states]
    assert all(x is not None and x.shape == (320, 320, 3) for x in pictures)
    assert all(x.dtype == np.uint8 for x in pictures)
    if name not in ("tic_tac_toe", "connect_four", "two_step", "climbing", "penalty"):
        assert (pictures[0] != pictures[1]).any()  # those games begin always alike


def test_a_fused_environment(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    run, out = DATA / "ppo-fused", tmp_path / "a.gif"
    found: Any = parl.evaluate(run, 2, seed=3)
    played: Any = parl.video(run, out, episodes=2, seed=3)
    np.testing.assert_allclose(played.returns, found.returns, rtol=1e-6)
    assert [len(frames) for frames in played.episodes] == [n + 1 for n in found.lengths]
    frames = np.stack(played.episodes[0])
    assert (frames[1:] != frames[:-1]).any((1, 2, 3)).mean() > 0.8  # all but the slowest steps
    film: Any
    with Image.open(out) as film:  # equal frames in a row are one that stays
        milliseconds = []
        for place in range(film.n_frames):
            film.seek(place)
            milliseconds.append(film.info["duration"])
    assert sum(milliseconds) == pytest.approx(33 * (sum(found.lengths) + 2), rel=0.1)
    monkeypatch.setenv(CHILD, "1")  # this process has nothing to fear of a renderer
    assert main(["video", str(run), "--out", str(tmp_path / "a.png"), "--seed", "3"]) == 0
    one: Any = parl.evaluate(run, 1, seed=3)
    assert capsys.readouterr().out.startswith(f"return {one.returns[0]:g} in {one.lengths[0]} ")
    with Image.open(tmp_path / "a.png") as strip:
        assert strip.size == (6 * 320, 320)
    assert main(["video", str(run), "--out", "a.avi"]) == 2
    assert "must end in one of .mp4, .gif, .png" in capsys.readouterr().err


def test_an_environment_on_the_host_in_a_process_of_its_own(tmp_path: Path) -> None:
    """Its renderer draws with pygame, without a screen."""
    pytest.importorskip("pygame")
    run, out = DATA / "ppo-host", tmp_path / "a.png"
    assert main(["video", str(run), "--out", str(out)]) == 0
    with Image.open(out) as strip:
        assert strip.size == (6 * 600, 400)


class Blank:
    """Nothing to see."""

    spec = EnvSpec("jax:blank", Box((1,)), Discrete(2), max_steps=4)

    def reset(self, key: Any) -> tuple[Any, Any]:
        return jax.numpy.zeros(1), jax.numpy.zeros(1)

    def step(self, state: Any, action: Any, key: Any) -> Any:
        over = jax.numpy.bool_(False)
        return state + 1, state + 1, jax.numpy.float32(1), over, state[0] >= 3


def test_what_cannot_be_drawn_says_what_to_write(tmp_path: Path, monkeypatch: Any) -> None:
    from parl.runs import video

    env: Any = make_factory(Blank()).jax
    with pytest.raises(EnvError, match=r"jax:blank cannot be drawn: give it a method draw"):
        video.drawn(env, np.zeros(1))
    with pytest.raises(ConfigError, match="must end in one of"):
        parl.video(DATA / "ppo-fused", tmp_path / "a.bmp")
