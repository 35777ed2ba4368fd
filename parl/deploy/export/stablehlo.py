"""The form stablehlo: `act` itself as jax.export serialises it, for CPU, CUDA and TPU, any batch.

Flat lists of arrays go in and come out, in the order that the contract names. It needs JAX, and
holds whatever JAX can trace; JAX promises to read it for six months.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from parl.core.errors import MissingPackage, ParlError
from parl.deploy.builder import UnsupportedOperation
from parl.deploy.compiler import Acting, EnvAction
from parl.deploy.names import ACTION, KEY, NOISE
from parl.deploy.program import Program

PLATFORMS = ("cpu", "cuda", "tpu")
FILE, SAMPLE = "policy.stablehlo", "policy.sample.stablehlo"


def write(
    place: Path,
    file: str,
    whole: Acting,
    maps: dict[str, EnvAction],
    inputs: list[str],
    outputs: list[str],
) -> str:
    """Writes the form; its file's name. `inputs` and `outputs` are those of the contract."""
    (place / file).write_bytes(serialized(whole, maps, inputs, outputs))
    return file


def inputs_of(program: Program) -> list[str]:
    """The inputs by name, in the order in which they are given; for noise a key, at the end."""
    names = [port.name for port in program.inputs]
    drawn = [KEY] if any(name.startswith(NOISE) for name in names) else []
    return [name for name in names if not name.startswith(NOISE)] + drawn


def serialized(
    whole: Acting, maps: dict[str, EnvAction], inputs: list[str], outputs: list[str]
) -> bytes:
    """The bytes of the exported function. Raises UnsupportedOperation, MissingPackage."""
    (batch,) = jax.export.symbolic_shape("b")
    examples = whole.obs | whole.memory
    shapes = [
        jax.ShapeDtypeStruct((batch, *examples[n].shape[1:]), examples[n].dtype)
        for n in inputs
        if n != KEY
    ]
    shapes += [jax.ShapeDtypeStruct((2,), np.uint32)] if KEY in inputs else []
    call = jax.jit(named(whole, maps, inputs, outputs))
    try:
        exported = jax.export.export(call, platforms=PLATFORMS)(*shapes)
        return bytes(exported.serialize())
    except ParlError:
        raise
    except ImportError as error:
        raise MissingPackage(
            "the form stablehlo needs the package flatbuffers: pip install 'parl-jax[stablehlo]'"
        ) from error
    except Exception as error:
        line = (str(error).strip().splitlines() or [""])[0]
        raise UnsupportedOperation(
            f"this policy is not exported by jax.export: {type(error).__name__}: {line[:200]}"
        ) from error


def named(
    whole: Acting, maps: dict[str, EnvAction], inputs: list[str], outputs: list[str]
) -> Callable[..., list[Any]]:
    """`act` of these inputs, others as examples, giving these outputs."""

    def call(*given: Any) -> list[Any]:
        values = dict(zip(inputs, given, strict=True))
        size = given[0].shape[0]
        fill = lambda x: jnp.broadcast_to(jnp.asarray(x[:1]), (size, *x.shape[1:]))
        full = [values.get(name, fill(x)) for name, x in (whole.obs | whole.memory).items()]
        action, *memory = whole.call(*full, values.get(KEY, np.zeros(2, np.uint32)))
        made = {ACTION: action} | dict(zip(whole.memory, memory, strict=True))
        made |= {name: taken(action, each) for name, each in maps.items()}
        return [made[name] for name in outputs]

    return call


def taken(action: Any, each: EnvAction) -> Any:
    """What the environment takes, in 32 bits as JAX has them."""
    action = action if each.row is None else action[:, each.row]
    how = each.map
    as_float = lambda x: np.asarray(x, np.float32)
    if how.choices:
        offset = how.offset.astype(np.int32)
        return action + (offset if how.shape else offset[0])
    low, high = map(as_float, how.reach)
    x = action[..., : how.scale.size].clip(low, high) * as_float(how.scale) + as_float(how.offset)
    with np.errstate(over="ignore"):
        low, high = map(as_float, how.limits)
    x = x.clip(low, high)
    x = x.round().astype(np.int32) if how.rounds else x
    return x.reshape(*x.shape[:-1], *how.shape)
