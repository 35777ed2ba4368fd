"""Runs on several devices: each holds all parameters and computes its part of every batch.

XLA propagates the split of a batch: whatever is computed from it is split, and gradients are summed
over the devices. Results equal those of one device, except for the order of sums. The devices may
be those of several processes, which then run the same programs in the same order.

With an `Averaging` each device learns from its own share alone, and parameters or gradients are
averaged: McMahan et al. 2017, arXiv:1602.05629, with all clients taking part.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from parl.core.errors import ConfigError

AXIS = "split"
PER_ITEM = "td_error"  # the metric that has a number for each item of a batch


class Averaging(NamedTuple):
    """How devices that learn from their own shares are kept together."""

    updates: int = 1  # between two averages of all that was learned
    gradients: bool = False  # whether those of every optimiser step are averaged, too


class Split(NamedTuple):
    """What programs that are traced do with their batches."""

    mesh: Mesh
    averaging: Averaging | None = None  # None: they are split by XLA, with equal results


current: ContextVar[Split | None] = ContextVar("current", default=None)
averages: ContextVar[bool] = ContextVar("averages", default=False)  # gradients, in `on_shares`


def mesh_for(size: int) -> Mesh | None:
    """A mesh of the most devices that divide `size` evenly; None if that is one device.

    With several processes it is one of all their devices. Raises ConfigError where these do not
    divide `size`.
    """
    devices = jax.devices() if jax.process_count() > 1 else jax.local_devices()
    count = max(n for n in range(1, len(devices) + 1) if size % n == 0)
    if jax.process_count() > 1 and count < len(devices):
        raise ConfigError(f"a batch of {size} does not divide among {len(devices)} devices.")
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


# --- several processes ----------------------------------------------------------------------------


def spans_processes(mesh: Mesh | None) -> bool:
    """Whether some of the devices belong to other processes."""
    return mesh is not None and mesh.is_multi_process


def replicated(mesh: Mesh, tree: Any) -> Any:
    """The arrays of jax in a tree on all devices of the mesh; other leaves stay as they are.

    Every process gives the same arrays.
    """
    place = lambda x: jax.device_put(x, whole(mesh)) if isinstance(x, jax.Array) else x
    if spans_processes(mesh):
        place = lambda x: replica(mesh, x) if isinstance(x, jax.Array) else x
    return jax.tree.map(place, tree)


def replica(mesh: Mesh, x: jax.Array) -> jax.Array:
    """An array that every process holds, as one of all devices; random keys as well."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        words = replica(mesh, jax.random.key_data(x))
        return jax.random.wrap_key_data(words, impl=jax.random.key_impl(x))
    return jax.make_array_from_process_local_data(whole(mesh), np.asarray(x), x.shape)


def shared_out(mesh: Mesh, tree: Any, axis: int = 0) -> Any:
    """Leaves [..., B, ...], split along `axis` over the mesh.

    Of several processes each gives its own part of B, in their order.
    """
    if not spans_processes(mesh):
        size = lambda x: jax.device_put(x, split(mesh, x.shape[axis], axis))
        return jax.tree.map(size, tree)
    parts = NamedSharding(mesh, PartitionSpec(*[None] * axis, AXIS))
    join = lambda x: jax.make_array_from_process_local_data(parts, np.asarray(x))
    return jax.tree.map(join, tree)


def gathered(mesh: Mesh, tree: Any) -> Any:
    """Arrays that are split over the mesh, whole on each device."""
    return gathering(mesh)(tree)


@lru_cache(8)
def gathering(mesh: Mesh) -> Any:
    """The program of `gathered`."""
    return jax.jit(lambda tree: tree, out_shardings=whole(mesh))


def here(tree: Any) -> Any:
    """This process's copy of arrays that all processes hold; no effect on others."""
    own = lambda x: isinstance(x, jax.Array) and not x.is_fully_addressable
    return jax.tree.map(lambda x: x.addressable_data(0) if own(x) else x, tree)


# --- batches --------------------------------------------------------------------------------------


@contextmanager
def batches_over(mesh: Mesh | None, averaging: Averaging | None = None) -> Iterator[None]:
    """Programs traced in this context split their batches over a mesh."""
    token = current.set(None if mesh is None else Split(mesh, averaging))
    try:
        yield
    finally:
        current.reset(token)


def as_batch(tree: Any) -> Any:
    """Leaves [M, ...] of one gradient's batch, split if a run has several devices.

    No effect on one device, if M does not divide evenly among them, or on shares.
    """
    splits = current.get()
    if splits is None or splits.averaging is not None:
        return tree
    place = lambda x: jax.lax.with_sharding_constraint(x, split(splits.mesh, x.shape[0]))
    return jax.tree.map(place, tree)


# --- averaging ------------------------------------------------------------------------------------


def on_shares(update: Any, axes: Any) -> Any:
    """`update(algorithm, state, batch, key) -> (state, metrics)` on each device's own share.

    `axes` is the prefix of a tree with the axis along which leaves of the batch are split. What is
    learned differs between devices until it is averaged, see `averaged_after`; metrics are means
    over the devices, but for those of each item, which are put together. No effect unless the
    context averages.
    """
    splits = current.get()
    if splits is None or splits.averaging is None:
        return update
    gradients, common = splits.averaging.gradients, PartitionSpec()
    along = lambda axis: PartitionSpec(*[None] * axis, AXIS)

    def one_share(algorithm: Any, state: Any, batch: Any, key: Any) -> Any:
        token = averages.set(gradients)
        try:
            state, metrics = update(algorithm, state, batch, key)
        finally:
            averages.reset(token)
        errors = {name: x for name, x in metrics.items() if name == PER_ITEM}
        return state, mean_of_all({k: x for k, x in metrics.items() if k != PER_ITEM}), errors

    def all_shares(algorithm: Any, state: Any, batch: Any, key: Any) -> Any:
        shapes = jax.eval_shape(update, algorithm, state, batch, key)[1]
        errors = {k: along(x.ndim - 1) for k, x in shapes.items() if k == PER_ITEM}
        run = jax.shard_map(
            one_share,
            mesh=splits.mesh,
            in_specs=(common, common, jax.tree.map(along, axes), common),
            out_specs=(common, common, errors),
            check_vma=False,  # states may differ where JAX takes them for replicas
        )
        state, metrics, errors = run(algorithm, state, batch, key)
        return state, metrics | errors

    return all_shares


def averaged(gradients: Any) -> Any:
    """Gradients, averaged over the devices in one buffer where their steps are kept together."""
    return mean_of_all(gradients) if averages.get() else gradients


def averaged_after(tree: Any, iteration: Any) -> Any:
    """A tree of all devices, averaged where the update of this iteration [] is one of those.

    Integers become the largest of all. No effect unless the context averages.
    """
    splits = current.get()
    if splits is None or splits.averaging is None:
        return tree
    every = splits.averaging.updates

    def one(tree: Any, iteration: Any) -> Any:
        if every == 1:
            return mean_of_all(tree)
        return jax.lax.cond((iteration + 1) % every == 0, mean_of_all, lambda x: x, tree)

    common = PartitionSpec()
    specs = {"in_specs": (common, common), "out_specs": common, "check_vma": False}
    return jax.shard_map(one, mesh=splits.mesh, **specs)(tree, iteration)


def mean_of_all(tree: Any) -> Any:
    """The mean over devices of a tree's floats, in one buffer; the largest of its integers."""
    leaves, structure = jax.tree.flatten(tree)
    kind = lambda x, of: jnp.issubdtype(x.dtype, of)
    buffer, apart = ravel_pytree([x for x in leaves if kind(x, jnp.floating)])
    floats = iter(apart(jax.lax.pmean(buffer, AXIS)) if buffer.size else [])
    largest = lambda x: jax.lax.pmax(x, AXIS) if kind(x, jnp.integer) else x
    new = [next(floats) if kind(x, jnp.floating) else largest(x) for x in leaves]
    return jax.tree.unflatten(structure, new)
