"""Runs on several devices: each has all parameters and makes its part of every batch.

Where a batch is split, XLA follows: what is computed from it is split, and gradients are summed
over the devices. The numbers are those of one device, but for the order of sums.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "split"

current: ContextVar[Mesh | None] = ContextVar("current", default=None)


def mesh_for(size: int) -> Mesh | None:
    """The most devices of this process among which `size` divides; None if that is one."""
    devices = jax.local_devices()
    count = max(n for n in range(1, len(devices) + 1) if size % n == 0)
    return Mesh(np.array(devices[:count]), (AXIS,)) if count > 1 else None


def whole(mesh: Mesh) -> NamedSharding:
    """All of an array on each device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh, size: int, axis: int = 0) -> NamedSharding:
    """An array whose `axis` has this size split along it, whole where it does not divide."""
    if size % mesh.size:
        return whole(mesh)
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, AXIS))


def apart(function: Any, axes: Any, size: int) -> Any:
    """`function(z, tree, x) -> (tree, y)` with each device at work on its own part of the tree.

    `axes` is of (z, tree) and has 0 where leaves have an axis of `size` to be split, None where all
    devices share them. Each y is split, x is shared. Devices do not speak to each other. Without
    effect on one device.
    """
    mesh = mesh_for(size)
    if mesh is None:
        return function
    each, common = PartitionSpec(AXIS), PartitionSpec()
    specs = jax.tree.map(lambda a: common if a is None else each, axes, is_leaf=lambda a: a is None)
    # what is shared is the same by construction, which JAX cannot know
    return jax.shard_map(
        function,
        mesh=mesh,
        in_specs=(*specs, common),
        out_specs=(specs[1], each),
        check_vma=False,
    )


@contextmanager
def batches_over(mesh: Mesh | None) -> Iterator[None]:
    """What is traced within it splits its batches over a mesh."""
    token = current.set(mesh)
    try:
        yield
    finally:
        current.reset(token)


def as_batch(tree: Any) -> Any:
    """Leaves [M, ...] as a batch to make one gradient of: split, where a run has several devices.

    Without effect on one device, and where M does not divide among them.
    """
    mesh = current.get()
    if mesh is None:
        return tree
    place = lambda x: jax.lax.with_sharding_constraint(x, split(mesh, x.shape[0]))
    return jax.tree.map(place, tree)
