"""Converts learners, without their algorithm, to JSON and back for saved agents."""

import dataclasses
from typing import Any

from parl.agents.learner import Learner, OffPolicy, OnPolicy
from parl.agents.replay.ring import NumpyReplay, Replay
from parl.agents.replay.sampling import NStep, Prioritized
from parl.agents.replay.segments import Segments
from parl.core.algorithm import Algorithm
from parl.core.errors import CheckpointError

KINDS = {kind.__name__: kind for kind in (OnPolicy, OffPolicy, Replay, NumpyReplay)}
KINDS |= {kind.__name__: kind for kind in (NStep, Prioritized, Segments)}


def learner_to_json(learner: Any) -> dict[str, Any]:
    """The kind of a learner, or of a replay, and its settings."""
    values: dict[str, Any] = {"kind": type(learner).__name__}
    for field in dataclasses.fields(learner):
        value = getattr(learner, field.name)
        if field.name in ("replay", "inner"):
            values[field.name] = learner_to_json(value)
        elif isinstance(value, int | float):
            values[field.name] = value
    return values


def learner_from_json(values: Any, algorithm: Algorithm) -> Learner:
    """The learner around an algorithm. Raises CheckpointError if it cannot be made."""
    learner = made(values, {"algorithm": algorithm})
    if not isinstance(learner, Learner):
        raise CheckpointError(f"{values!r:.60} is not a learner.")
    return learner


def made(values: Any, more: dict[str, Any]) -> Any:
    """A learner or a replay."""
    try:
        settings = {name: value for name, value in values.items() if name != "kind"}
        inner = {n: made(v, {}) for n, v in settings.items() if n in ("replay", "inner")}
        return KINDS[values["kind"]](**settings | inner | more)
    except (AttributeError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"the agent's learner or replay is of your own kind or of another version ({error}): "
            "give Agent.restore the learner, in place of the algorithm alone."
        ) from error


def replay_of(values: dict[str, Any]) -> str:
    """The replay of a learner as text, such as NStep(Replay(500))."""
    inner = values.get("replay") or values.get("inner")
    if inner is not None and "replay" in values:
        return replay_of(inner)
    if inner is not None:
        return f"{values['kind']}({replay_of(inner)})"
    return f"{values['kind']}({values['capacity']})" if "capacity" in values else "no replay"
