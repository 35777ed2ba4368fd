"""Makes and remembers the last frames of environments whose observations are stacks of them."""

from typing import Any

import numpy as np

from parl.deploy.contract import Leaf, Stack
from parl.deploy.reader import Reader

FRAMES, OPENS = "frames", "opens"  # in memory: the last frames, and where an episode opens


class Frames:
    """Brings single frames to stacks of the last ones, which a policy's memory keeps."""

    def __init__(self, stack: Stack, leaf: Leaf):
        self.stack, self.leaf = stack, leaf
        own = leaf.own_shape
        self.frame = own[: stack.axis] + own[stack.axis + 1 :]
        self.reader = Reader(leaf._replace(shape=self.frame, own_shape=self.frame))

    def start(self, batch: int) -> dict[str, np.ndarray]:
        """What is remembered where episodes open."""
        frames = np.zeros((batch, *self.leaf.own_shape), self.leaf.dtype)
        return {FRAMES: frames, OPENS: np.ones(batch, bool)}

    def given(self, shape: tuple[int, ...], rows: int | None) -> bool:
        """Whether an array of this shape is the last frame of each of `rows` environments.

        Where their number is not known, None, what may be one whole stack is one.
        """
        if shape == self.frame:
            return rows in (1, None)
        if shape[1:] != self.frame or (shape == self.leaf.own_shape and rows in (1, None)):
            return False
        return rows in (shape[0], None)

    def are_single(self, frames: np.ndarray) -> bool:
        """Whether what was read is of single frames [B, *frame], not of whole stacks."""
        return frames.shape[1:] == self.frame

    def __call__(
        self, seen: np.ndarray, memory: dict[str, np.ndarray]
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """(whole stacks as networks see them, the memory that keeps them) of what was read."""
        own, axis = self.leaf.own_shape, self.stack.axis + 1
        if self.are_single(seen):
            now = np.expand_dims(seen, axis)  # [B, ..., 1, ...]
            filled = np.repeat(0 * now if self.stack.zero else now, self.stack.frames, axis)
            opens = memory[OPENS].reshape(-1, *[1] * len(own))
            before = np.where(opens, filled, memory[FRAMES])
            older = np.take(before, range(1, self.stack.frames), axis)
            seen = np.concatenate([older, now], axis)
        frames = seen.reshape(len(seen), *own)
        kept: dict[str, Any] = {FRAMES: frames, OPENS: np.zeros(len(frames), bool)}
        return frames.reshape(len(frames), *self.leaf.shape), memory | kept
