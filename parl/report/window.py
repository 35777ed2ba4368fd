"""A window that shows pictures, one after the other."""

import os
import sys
import time
from typing import Any

import numpy as np

from parl.core.errors import ConfigError, MissingPackage

DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
LEAST = 320  # pixels of a window's shorter side; smaller pictures are enlarged


class Closed(Exception):
    """Its user closed the window."""


def check_display(instead: str) -> None:
    """Raises ConfigError where no window can be opened, which names what to do `instead`."""
    if sys.platform.startswith("linux") and not any(map(os.environ.get, DISPLAYS)):
        raise ConfigError(f"there is no display to open a window on: {instead}")


class Window:
    """Shows frames [H, W, 3] uint8, `fps` a second at most; opens with the first of them."""

    def __init__(self, title: str, fps: float):
        try:
            os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
            import pygame
        except ImportError as error:
            raise MissingPackage("a window needs pygame: pip install pygame-ce") from error
        self.pygame: Any = pygame
        self.title, self.pause, self.screen, self.due = title, 1 / fps, None, 0.0

    def show(self, frame: np.ndarray) -> None:
        """Shows a frame once it is due. Raises Closed after the user has closed the window."""
        pygame = self.pygame
        height, width = frame.shape[:2]
        times = max(1, round(LEAST / min(height, width)))
        size = (width * times, height * times)
        if self.screen is None or pygame.display.get_surface() is None:  # Gymnasium closes all
            pygame.display.init()
            self.screen = pygame.display.set_mode(size)
            pygame.display.set_caption(self.title)
        for event in pygame.event.get():
            escape = event.type == pygame.KEYDOWN and event.key == pygame.K_ESCAPE
            if event.type == pygame.QUIT or escape:
                raise Closed
        picture = pygame.surfarray.make_surface(frame.swapaxes(0, 1))
        self.screen.blit(pygame.transform.scale(picture, size), (0, 0))
        time.sleep(max(0.0, self.due - time.monotonic()))
        self.due = time.monotonic() + self.pause
        pygame.display.flip()

    def close(self) -> None:
        """Closes the window."""
        self.pygame.display.quit()
