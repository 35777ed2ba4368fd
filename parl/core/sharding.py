"""Runs on several devices: each holds all parameters and computes its part of every batch.

XLA propagates the split of a batch: whatever is computed from it is split, and gradients are summed
over the devices. Results equal those of one device, except for the order of sums.
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
    """A mesh of the most local devices that divide `size` evenly; None if that is one device."""
    devices = jax.local_devices()
    count = max(n for n in range(1, len(devices) + 1) if size % n == 0)
    return Mesh(np.array(devices[:count]), (AXIS,)) if count > 1 else None


def whole(mesh: Mesh) -> NamedSharding:
    """Replicates an array on each device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh, size: int, axis: int = 0) -> NamedSharding:
    """Splits an array along `axis` of this size, or replicates it if it does not divide evenly."""
    if size % mesh.size:
        return whole(mesh)
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, AXIS))


def apart(function: Any, axes: Any, size: int) -> Any:
    """`function(z, tree, x) -> (tree, y)` with each device working on its own part of the tree.

    `axes` is a pair for (z, tree): 0 for leaves with a leading axis of `size` to be split, None for
    leaves that all devices share. y is split and x is shared. Devices do not communicate. No effect
    on one device.
    """
    mesh = mesh_for(size)
    if mesh is None:
        return function
    each, common = PartitionSpec(AXIS), PartitionSpec()
    specs = jax.tree.map(lambda a: common if a is None else each, axes, is_leaf=lambda a: a is None)
    # Shared leaves are equal by construction, which JAX cannot know.
    return jax.shard_map(
        function,
        mesh=mesh,
        in_specs=(*specs, common),
        out_specs=(specs[1], each),
        check_vma=False,
    )


@contextmanager
def batches_over(mesh: Mesh | None) -> Iterator[None]:
    """Programs traced in this context split their batches over a mesh."""
    token = current.set(mesh)
    try:
        yield
    finally:
        current.reset(token)


def as_batch(tree: Any) -> Any:
    """Leaves [M, ...] of one gradient's batch, split if a run has several devices.

    No effect on one device, or if M does not divide evenly among them.
    """
    mesh = current.get()
    if mesh is None:
        return tree
    place = lambda x: jax.lax.with_sharding_constraint(x, split(mesh, x.shape[0]))
    return jax.tree.map(place, tree)
