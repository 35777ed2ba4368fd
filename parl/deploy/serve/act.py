"""The protocol /act: one JSON object in, one out, in the environment's observations and actions.

{"obs": [...], "session": "a", "first": true, "end": false, "seed": 7, "info": {...}}
{"action": 1, "policy": "cartpole", "version": "1", "sha256": "..."}
"""

from typing import Any

import numpy as np

from parl.deploy.policy import action_of
from parl.deploy.serve.asked import Asked, Inputs, check_keys, decoded, flag, openings, session_name
from parl.deploy.serve.exchange import Answer, Head
from parl.deploy.serve.limits import Refusal
from parl.deploy.serve.store import Served, encoded

KEYS = ("obs", "info", "session", "first", "end", "seed")


def read(body: bytes, head: Head) -> Asked:
    """What a body asks for. Raises Refusal."""
    values = decoded(body)
    check_keys(values, KEYS, "the request")
    if "obs" not in values:
        raise Refusal(422, "the request has no 'obs', the observation.")
    return Asked(
        values["obs"],
        values.get("info"),
        session_name(values.get("session")),
        openings(values.get("first", False)),
        flag(values.get("end", False), "end"),
        values.get("seed"),
    )


def inputs(asked: Asked, served: Served, rows: int | None) -> Inputs:
    """What networks see, in a session of so many environments. Raises ArtefactError."""
    return Inputs(*served.policy.observed(asked.obs, asked.info, rows))


def answer(served: Served, outputs: dict[str, np.ndarray], asked: Asked, made: Inputs) -> Answer:
    """The answer with the action."""
    action: Any = action_of({n: x[0] if made.single else x for n, x in outputs.items()})
    several = isinstance(action, dict)
    plain = {name: x.tolist() for name, x in action.items()} if several else action.tolist()
    told = {"policy": served.name, "version": served.version, "sha256": served.digest}
    return Answer(200, encoded({"action": plain} | told), policy=served.name)
