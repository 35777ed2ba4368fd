"""Pictures of our own environments: shapes on a square canvas, in coordinates of the world.

An environment that can be drawn has a method `draw(state)`, which takes a state of one environment
in numpy and returns its picture, [H, W, 3] uint8.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

SIZE = 320  # pixels a side
FINER = 2  # drawn larger and scaled down, so that edges are smooth
BACKGROUND, INK, PALE = (250, 250, 248), (34, 34, 34), (200, 204, 208)
COLORS = ((42, 111, 187), (224, 123, 57), (58, 154, 91), (194, 69, 92), (123, 94, 167))

Point = Sequence[Any] | np.ndarray
Color = tuple[int, int, int]


class Canvas:
    """A square that shows the world from `low` to `high` along both axes, y upwards."""

    def __init__(self, low: float, high: float, size: int = SIZE):
        from PIL import Image, ImageDraw  # only now: most runs draw nothing

        self.low, self.scale, self.pixels = low, FINER * size / (high - low), size
        self.image = Image.new("RGB", (FINER * size, FINER * size), BACKGROUND)
        self.pen = ImageDraw.Draw(self.image)

    def place(self, point: Point) -> tuple[float, float]:
        """Pixels of a point of the world."""
        x, y = (float(value) for value in point)
        return (x - self.low) * self.scale, FINER * self.pixels - (y - self.low) * self.scale

    def line(self, points: Iterable[Point], color: Color = INK, width: float = 0.02) -> None:
        """Straight lines from point to point, `width` of the world wide."""
        thick = max(1, round(width * self.scale))
        self.pen.line([self.place(point) for point in points], color, thick, joint="curve")

    def disc(self, centre: Point, radius: float, color: Color = INK) -> None:
        """A filled circle."""
        (x, y), reach = self.place(centre), float(radius) * self.scale
        self.pen.ellipse((x - reach, y - reach, x + reach, y + reach), color)

    def polygon(self, corners: Iterable[Point], color: Color = INK) -> None:
        """A filled polygon."""
        self.pen.polygon([self.place(corner) for corner in corners], color)

    def text(self, centre: Point, text: str, color: Color = INK, height: float = 0.1) -> None:
        """Words around a point, `height` of the world high."""
        from PIL import ImageFont

        font: Any = ImageFont.load_default(max(8, height * self.scale))
        self.pen.text(self.place(centre), text, color, font, anchor="mm")

    def picture(self) -> np.ndarray:
        """[size, size, 3] uint8."""
        return np.asarray(self.image.reduce(FINER))


def grid(canvas: Canvas, rows: int, columns: int) -> None:
    """Lines between the cells [0, columns] x [0, rows]."""
    for row in range(rows + 1):
        canvas.line([(0, row), (columns, row)], PALE, 0.03)
    for column in range(columns + 1):
        canvas.line([(column, 0), (column, rows)], PALE, 0.03)


def picture_of(env: Any, state: Any) -> np.ndarray | None:
    """The picture of a state, by the environment or what it wraps; None where there is none."""
    while not hasattr(env, "draw"):
        if not hasattr(env, "env"):
            return None
        env = env.env
    return np.asarray(env.draw(state))
