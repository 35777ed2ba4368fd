"""KServe's protocol, version 2 (Open Inference Protocol), with its extension of binary tensors.

Tensors are the parts of the environment's observations, by the names in the contract, always with
an axis of the batch. Sessions and seeds are `parameters`: sequence_id, sequence_start,
sequence_end (as Triton has them) and seed.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from parl.deploy.names import ENV_ACTION
from parl.deploy.serve.asked import Asked, Inputs, check_keys, decoded, flag, session_name
from parl.deploy.serve.datatypes import DATATYPES, DTYPES
from parl.deploy.serve.exchange import BINARY, LENGTH, Answer, Head
from parl.deploy.serve.limits import Refusal
from parl.deploy.serve.store import Served, encoded

SERVER = {"name": "parl", "version": "2", "extensions": ["binary_tensor_data", "sequence"]}
PARAMETERS = (
    *("sequence_id", "sequence_start", "sequence_end", "seed", "binary_data_output"),
    *("priority", "timeout"),  # clients of Triton send them; they change nothing here
)


class Body(NamedTuple):
    """What is to be read with the policy at hand."""

    inputs: Any
    outputs: Any
    tail: bytes  # behind the JSON
    binary: bool  # whether outputs are, that do not say it
    id: str | None


def read(body: bytes, head: Head) -> Asked:
    """What a body asks for; its head tells the length of its JSON, where that is not all of it."""
    length = head.json_length
    if length is not None and not 0 <= length <= len(body):
        raise Refusal(400, f"the body has not the {length} bytes of JSON that its head declares.")
    values = decoded(body if length is None else body[:length])
    check_keys(values, ("id", "parameters", "inputs", "outputs"), "the request")
    more = mapping(values.get("parameters", {}), "parameters")
    check_keys(more, PARAMETERS, "'parameters'")
    name = values.get("id")
    if name is not None and not isinstance(name, str):
        raise Refusal(422, "'id' is a text.")
    binary = flag(more.get("binary_data_output", False), "binary_data_output")
    tail = b"" if length is None else body[length:]
    return Asked(
        Body(values.get("inputs"), values.get("outputs"), tail, binary, name),
        None,
        session_name(more.get("sequence_id") or None),  # 0 and "" are none
        flag(more.get("sequence_start", False), "sequence_start"),
        flag(more.get("sequence_end", False), "sequence_end"),
        more.get("seed"),
    )


def inputs(asked: Asked, served: Served, rows: int | None) -> Inputs:
    """What networks see, and the outputs that are wanted. Raises Refusal, ArtefactError."""
    found = tensors(asked.obs.inputs, asked.obs.tail, served)
    rows = len(next(iter(found.values()))) if rows is None else rows  # the batch is always told
    arrays, rows, single = served.policy.batched(found, rows)
    if single:
        raise Refusal(422, "the first axis of every input is the batch, of 1 for one observation.")
    return Inputs(arrays, rows, False, wanted(asked, served))


def mapping(value: Any, name: str) -> dict[str, Any]:
    """A JSON object. Raises Refusal for anything else."""
    if not isinstance(value, dict):
        raise Refusal(422, f"'{name}' is an object.")
    return value


def listed(value: Any, name: str) -> list[dict[str, Any]]:
    """A list of objects with a name each. Raises Refusal for anything else."""
    good = isinstance(value, list) and all(
        isinstance(each, dict) and isinstance(each.get("name"), str) for each in value
    )
    if not good:
        raise Refusal(422, f"'{name}' is a list of objects, each with a 'name'.")
    return value


def tensors(inputs: Any, tail: bytes, served: Served) -> dict[str, np.ndarray]:
    """All inputs by name; `tail` are the bytes behind the JSON."""
    known = [each["name"] for each in served.metadata["inputs"]]
    found: dict[str, np.ndarray] = {}
    start = 0
    for each in listed(inputs, "inputs"):
        check_keys(each, ("name", "shape", "datatype", "parameters", "data"), "an input")
        name = each["name"]
        if name not in known or name in found:
            raise Refusal(
                422, f"{served.title} takes each of {', '.join(known)} once, not '{name[:40]}'."
            )
        shape, dtype = shape_of(each.get("shape"), name), dtype_of(each.get("datatype"), name)
        size = mapping(each.get("parameters", {}), "parameters").get("binary_data_size")
        if size is None:
            found[name] = plain(each.get("data"), shape, dtype, name)
            continue
        if (
            type(size) is not int
            or size != math.prod(shape) * dtype.itemsize
            or start + size > len(tail)
        ):
            raise Refusal(
                422, f"'{name}' of {dtype} {shape} has not the {size!r:.20} bytes that it declares."
            )
        found[name] = from_bytes(tail[start : start + size], shape, dtype)
        start += size
    if start != len(tail):
        raise Refusal(422, f"{len(tail) - start} bytes behind the JSON belong to no input.")
    missing = [name for name in known if name not in found]
    if missing:
        raise Refusal(422, f"the inputs lack {', '.join(missing)}.")
    return found


def shape_of(value: Any, name: str) -> tuple[int, ...]:
    """A shape with a batch. Raises Refusal."""
    good = isinstance(value, list) and 0 < len(value) <= 32
    if not good or any(type(size) is not int or not 0 <= size < 1 << 31 for size in value):
        raise Refusal(422, f"the shape of '{name}' is a list of sizes, the batch first.")
    return tuple(value)


def dtype_of(value: Any, name: str) -> np.dtype:
    """The dtype of a datatype. Raises Refusal."""
    if not isinstance(value, str) or value not in DTYPES:
        raise Refusal(422, f"the datatype of '{name}' is one of {', '.join(DTYPES)}.")
    return DTYPES[value]


def plain(data: Any, shape: tuple[int, ...], dtype: np.dtype, name: str) -> np.ndarray:
    """The tensor of numbers in JSON, nested or flat. Raises Refusal."""
    try:
        array = np.asarray(data)
        if not isinstance(data, list) or array.dtype.kind not in "biuf":
            raise ValueError("it is no list of numbers")
        array = array.reshape(shape)
    except (ValueError, TypeError) as error:
        raise Refusal(422, f"the data of '{name}' are not of shape {shape}: {error}.") from None
    return array


def from_bytes(data: bytes, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """The tensor in these bytes."""
    if dtype.kind == "b":
        return np.frombuffer(data, np.uint8).reshape(shape) != 0
    return np.frombuffer(data, dtype).reshape(shape)


def wanted(asked: Asked, served: Served) -> dict[str, bool]:
    """The outputs asked for by name, and whether in binary; {}: the environment's action."""
    body: Body = asked.obs
    if body.outputs is None:
        return {}
    known = [each["name"] for each in served.metadata["outputs"]]
    found = {}
    for each in listed(body.outputs, "outputs"):
        name = each["name"]
        if name not in known:
            raise Refusal(422, f"{served.title} gives {', '.join(known)}, not '{name[:40]}'.")
        more = mapping(each.get("parameters", {}), "parameters")
        found[name] = flag(more.get("binary_data", body.binary), "binary_data")
    return found


def answer(served: Served, outputs: Mapping[str, np.ndarray], asked: Asked, made: Inputs) -> Answer:
    """The answer with the outputs."""
    body: Body = asked.obs
    names = made.outputs or {n: body.binary for n in outputs if n.startswith(ENV_ACTION)}
    told, tail = [], []
    for name, binary in names.items():
        x = outputs[name]
        each: dict[str, Any] = {"name": name, "datatype": DATATYPES[x.dtype.name]}
        each["shape"] = list(x.shape)
        if binary:
            tail.append(x.tobytes())
            each["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            each["data"] = x.reshape(-1).tolist()
        told.append(each)
    values: dict[str, Any] = {"model_name": served.name, "model_version": served.version}
    if body.id is not None:
        values["id"] = body.id
    text = encoded(values | {"parameters": {"sha256": served.digest}, "outputs": told})
    if not tail:
        return Answer(200, text, policy=served.name)
    headers = ((LENGTH, str(len(text)).encode()),)
    return Answer(200, b"".join([text, *tail]), BINARY, headers, served.name)
