"""The exact state of environments as plain data: Gymnasium's classic-control and MuJoCo ones.

What decides how such an environment continues lies in four places, and all are saved: the numbers
among the attributes of the environment and of its wrappers (CartPole's `state`, Reacher's `goal`,
TimeLimit's count), the random generator, and MuJoCo's MjData. Of MjData every array of fixed size
is taken, also the derived ones: Humanoid's reward reads `xipos` from before the step, and the
solver starts from `qacc_warmstart`.

Any other environment is exact if it has `exact_state() -> (arrays, meta)`, named numpy arrays and a
JSON-able dict of all that its next steps depend on, and `set_exact_state(arrays, meta)`.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import wrappers

_EXACT_MODULES = ("gymnasium.envs.classic_control.", "gymnasium.envs.mujoco.")
_EXACT_WRAPPERS = (
    wrappers.TimeLimit,
    wrappers.OrderEnforcing,
    wrappers.PassiveEnvChecker,
    wrappers.ClipAction,
    wrappers.RescaleAction,
    wrappers.ClipReward,
    wrappers.DtypeObservation,
    wrappers.FlattenObservation,
    wrappers.RescaleObservation,
)


def is_exact(env: gymnasium.Env) -> bool:
    """Whether `capture` gets everything: a known environment in nothing but known wrappers."""
    *outer, inner = _layers(env)
    known = type(inner).__module__.startswith(_EXACT_MODULES) or hasattr(inner, "exact_state")
    return known and all(type(layer) in _EXACT_WRAPPERS for layer in outer)


def capture(envs: list[gymnasium.Env]) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    """The state of all as named arrays, and one dict of JSON-able values for each."""
    captured = [_capture_one(env) for env in envs]
    arrays = {f"{i}/{k}": a.copy() for i, (one, _) in enumerate(captured) for k, a in one.items()}
    return arrays, [meta for _, meta in captured]


def restore(
    envs: list[gymnasium.Env], arrays: dict[str, np.ndarray], metas: list[dict[str, Any]]
) -> None:
    """Puts captured states into `envs`; raises ValueError or KeyError where they do not fit."""
    for index, (env, meta) in enumerate(zip(envs, metas, strict=True)):
        _restore_one(env, under(f"{index}/", arrays), meta)


def flatten(prefix: str, tree: Any) -> dict[str, np.ndarray]:
    """Names to arrays for a dict of dicts of arrays; one array has the prefix as its name."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    parts = [flatten(f"{prefix}/{name}", part) for name, part in tree.items()]
    return {name: array for part in parts for name, array in part.items()}


def unflatten(prefix: str, like: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The inverse of `flatten`; `like` gives the structure and the shapes after the first axis."""
    if isinstance(like, dict):
        return {k: unflatten(f"{prefix}/{k}", part, arrays) for k, part in like.items()}
    array = np.array(arrays[prefix])
    if array.shape[1:] != like.shape[1:] or array.dtype != like.dtype:
        raise ValueError(f"{prefix} is {array.dtype}{array.shape[1:]}")
    return array


def numbers(objects: list[Any]) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    """The numbers among the attributes of some objects: named arrays, and the JSON-able rest."""
    arrays: dict[str, np.ndarray] = {}
    attributes: list[dict[str, Any]] = [{} for _ in objects]
    for place, each in enumerate(objects):
        for name, value in vars(each).items():
            if isinstance(value, np.ndarray) and _is_plain(value):
                arrays[f"{place}/{name}"] = value
            elif _is_plain(value):
                attributes[place][name] = _encode(value)
    return arrays, attributes


def set_numbers(
    objects: list[Any], arrays: dict[str, np.ndarray], attributes: list[dict[str, Any]]
) -> None:
    """The inverse of `numbers`."""
    for place, (each, values) in enumerate(zip(objects, attributes, strict=True)):
        found = {name: _decode(value) for name, value in values.items()}
        found |= {name: array.copy() for name, array in under(f"{place}/", arrays).items()}
        for name, value in found.items():
            # What is no number here, such as the window of a renderer, belongs to this process.
            if _is_plain(vars(each).get(name)):
                setattr(each, name, value)


def _capture_one(env: gymnasium.Env) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    layers, inner = _layers(env), env.unwrapped
    arrays, attributes = numbers(layers)
    meta = {
        "layers": [type(layer).__name__ for layer in layers],
        "attributes": attributes,
        "random": inner.np_random.bit_generator.state,
    }
    data = getattr(inner, "data", None)
    if data is not None:
        meta["time"] = data.time
        arrays |= {f"data/{name}": array for name, array in fixed_arrays(data).items()}
    if own := getattr(inner, "exact_state", None):
        more, meta["own"] = own()
        arrays |= {f"own/{name}": array for name, array in more.items()}
    return arrays, meta


def _restore_one(env: gymnasium.Env, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
    layers, inner = _layers(env), env.unwrapped
    names = [type(layer).__name__ for layer in layers]
    if meta["layers"] != names:
        raise ValueError(f"it was saved from {meta['layers']} and not from {names}")
    data = getattr(inner, "data", None)
    if data is not None:
        restore_data(data, under("data/", arrays))
        data.time = meta["time"]
    set_numbers(layers, arrays, meta["attributes"])
    inner.np_random.bit_generator.state = meta["random"]
    if own := getattr(inner, "set_exact_state", None):
        own(under("own/", arrays), meta["own"])


def under(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays whose names begin with a prefix, by the rest of their names."""
    return {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)}


def _layers(env: gymnasium.Env) -> list[gymnasium.Env]:
    """The wrappers from the outermost inwards, and the environment itself last."""
    layers = [env]
    while isinstance(layers[-1], gymnasium.Wrapper):
        layers.append(layers[-1].env)
    return layers


def fixed_arrays(data: Any) -> dict[str, np.ndarray]:
    """Views of the arrays in MjData's buffer, which all have sizes that the model fixes.

    Constraints and contacts lie elsewhere, in an arena that every step fills anew.
    """
    start = _address(data.qpos)
    values = {name: getattr(data, name) for name in dir(data) if not name.startswith("_")}
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, np.ndarray)
        and value.size
        and start <= _address(value) < start + data.nbuffer
    }


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def restore_data(data: Any, arrays: dict[str, np.ndarray]) -> None:
    """Writes arrays into MjData. Raises ValueError where they are of another model."""
    targets = fixed_arrays(data)
    if {n: a.shape for n, a in arrays.items()} != {n: t.shape for n, t in targets.items()}:
        raise ValueError("its MuJoCo model or version is another one")
    for name, target in targets.items():
        target[...] = arrays[name]


def _is_plain(value: Any) -> bool:
    """Whether a value is made of numbers alone, so that it can be state."""
    if isinstance(value, tuple | list):
        return all(_is_plain(part) and not isinstance(part, np.ndarray) for part in value)
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.kind in "biuf"
    return value is None or isinstance(value, bool | int | float)


def _encode(value: Any) -> Any:
    """Numpy scalars and tuples are tagged: their types decide the arithmetic that follows."""
    if isinstance(value, np.generic):
        return {"dtype": value.dtype.name, "value": value.item()}
    if isinstance(value, tuple | list):
        return {type(value).__name__: [_encode(part) for part in value]}
    return value


def _decode(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "dtype" in value:
        return np.dtype(value["dtype"]).type(value["value"])
    if "tuple" in value:
        return tuple(_decode(part) for part in value["tuple"])
    return [_decode(part) for part in value["list"]]
