"""parl enjoy shows the episodes that evaluation plays, in a window where there is a display."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import parl
from parl.cli import main
from parl.cli.rendering import CHILD
from parl.report import window

DATA = Path(__file__).parent / "data" / "runs"


def test_without_a_display_it_names_the_video(monkeypatch: Any, capsys: Any) -> None:
    for name in window.DISPLAYS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert main(["enjoy", str(DATA / "ppo-fused")]) == 2
    said = capsys.readouterr().err
    assert "there is no display" in said and "parl video" in said and "ppo-fused" in said


def test_every_frame_is_shown(monkeypatch: Any, capsys: Any) -> None:
    """On a display that nobody sees."""
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv(CHILD, "1")
    seen: list[np.ndarray] = []
    show = window.Window.show
    monkeypatch.setattr(
        window.Window, "show", lambda self, frame: (seen.append(frame), show(self, frame))
    )
    run = DATA / "ppo-host"
    capsys.readouterr()  # pygame's greeting
    assert main(["enjoy", str(run), "--episodes", "2", "--seed", "3", "--fps", "240"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    played: list[Any] = [parl.evaluate(run, 1, seed=seed) for seed in (3, 4)]
    assert lines == [f"return {x.returns[0]:g} in {x.lengths[0]} steps" for x in played]
    assert len(seen) == sum(x.lengths[0] + 1 for x in played)
    assert (seen[0] != seen[5]).any()


def test_a_window_that_is_closed_ends_it(monkeypatch: Any) -> None:
    pygame = pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    shown: Any = window.Window("x", 240)
    shown.show(np.zeros((20, 40, 3), np.uint8))
    assert shown.screen.get_size() == (640, 320)
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    with pytest.raises(window.Closed):
        shown.show(np.zeros((20, 40, 3), np.uint8))
    shown.close()
