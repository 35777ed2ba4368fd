"""JAX's random bits in NumPy: Threefry-2x32 with 20 rounds.

Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", doi:10.1145/2063384.2063405.
"""

import math
from typing import Any

import numpy as np

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA


def threefry(key: Any, high: Any, low: Any) -> tuple[np.ndarray, np.ndarray]:
    """Two uint32 [n] of a key [2] and of counters [n] each."""
    keys = [np.uint32(key[0]), np.uint32(key[1])]
    keys.append(keys[0] ^ keys[1] ^ np.uint32(PARITY))
    x, y = high + keys[0], low + keys[1]
    for i in range(5):
        for rotation in ROTATIONS[i % 2]:
            x = x + y
            y = ((y << np.uint32(rotation)) | (y >> np.uint32(32 - rotation))) ^ x
        x = x + keys[(i + 1) % 3]
        y = y + keys[(i + 2) % 3] + np.uint32(i + 1)
    return x, y


def counters(count: int) -> tuple[np.ndarray, np.ndarray]:
    """(high, low) uint32 words of 0 .. count - 1."""
    low = np.arange(count, dtype=np.uint64)
    return (low >> np.uint64(32)).astype(np.uint32), low.astype(np.uint32)


def random_bits(key: Any, shape: tuple[int, ...]) -> np.ndarray:
    """uint32 [*shape], those of `jax.random.bits(key, shape)`."""
    x, y = threefry(key, *counters(math.prod(shape)))
    return (x ^ y).reshape(shape)


def split(key: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Keys [*shape, 2], those of `jax.random.split(key, shape)`."""
    return np.stack(threefry(key, *counters(math.prod(shape))), -1).reshape(*shape, 2)


def fold_in(key: Any, data: int) -> np.ndarray:
    """The key [2] of `jax.random.fold_in(key, data)`."""
    high, low = np.zeros(1, np.uint32), np.array([int(data) & 0xFFFFFFFF], np.uint32)
    return np.concatenate(threefry(key, high, low))


def key_of(seed: int) -> np.ndarray:
    """The key [2] of `jax.random.key(seed)`, for seeds below 2^32."""
    return np.array([0, seed & 0xFFFFFFFF], np.uint32)
