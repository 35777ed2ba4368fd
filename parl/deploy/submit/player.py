"""Plays a competition with an exported policy: always in time, and always with a legal move.

A part of every package. NumPy and the standard library are enough. The adapter is the user's module
between the competition and the policy:

    observe(raw, config) -> what the policy takes
    act(action, raw, config) -> the competition's move for an action of the policy
    legal(move, raw, config) -> whether a move is allowed            (optional)
    fallback(raw, config) -> a move that is always allowed           (optional)
    starts(raw, config) -> whether this observation opens a game     (optional)
"""

import threading
from typing import Any

import numpy as np

KEPT = 50  # faults that are kept


class Late(Exception):
    """An action took longer than it may."""


class Illegal(Exception):
    """A move is not allowed."""


class Player:
    """A policy, an adapter and a clock; what goes wrong is in `faults`, and a fallback acts."""

    def __init__(self, load: Any, adapter: Any = None, seconds: float = 1.0, first: float = 10.0):
        self.load, self.adapter = load, adapter
        self.seconds, self.first = seconds, first
        self.policy: Any = None  # loaded with the first action
        self.state: Any = None
        self.acts = 0
        self.faults: list[tuple[str, str]] = []  # (kind: late, illegal or error; what was wrong)

    def reset(self) -> None:
        """Opens a game."""
        self.state = None

    def act(self, raw: Any, config: Any = None, info: Any = None) -> Any:
        """The move for an observation of the competition."""
        limit = self.seconds if self.acts else self.first
        self.acts += 1
        starts = getattr(self.adapter, "starts", None)
        try:
            if starts is not None and starts(raw, config):
                self.reset()
            move, self.state = within(limit, self.decide, raw, config, info, self.state)
            return move
        except Exception as error:
            kinds = {Late: "late", Illegal: "illegal"}
            if len(self.faults) < KEPT:
                told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
                self.faults.append((kinds.get(type(error), "error"), told[:300]))
            return self.fallback(raw, config, info)

    def decide(self, raw: Any, config: Any, info: Any, state: Any) -> tuple[Any, Any]:
        """(the policy's move, its next state). Raises Illegal."""
        if self.policy is None:
            self.policy = self.load()
        if self.adapter is None:
            move, state = self.policy.act(raw, state, info=info)
            return move, state
        action, state = self.policy.act(self.adapter.observe(raw, config), state)
        move = self.adapter.act(action, raw, config)
        legal = getattr(self.adapter, "legal", None)
        if legal is not None and not legal(move, raw, config):
            raise Illegal(f"{move!r:.100} is not allowed")
        return move, state

    def fallback(self, raw: Any, config: Any, info: Any) -> Any:
        """A move that is always allowed: the adapter's, or one that the policy's actions have."""
        own = getattr(self.adapter, "fallback", None)
        if own is not None:
            return own(raw, config)
        if self.policy is None:
            self.policy = self.load()
        observed = raw if self.adapter is None else None
        action = safe_action(self.policy, observed, info)
        return action if self.adapter is None else self.adapter.act(action, raw, config)


def within(seconds: float, function: Any, *arguments: Any) -> Any:
    """The result of a function. Raises Late where it takes longer; it goes on in the background."""
    made: list[Any] = []

    def run() -> None:
        try:
            made.append((True, function(*arguments)))
        except BaseException as error:
            made.append((False, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not made:
        raise Late(f"more than {seconds:g} s")
    done, result = made[0]
    if not done:
        raise result
    return result


def safe_action(policy: Any, obs: Any, info: Any) -> Any:
    """An action of the environment that needs no network: the first legal choice, or the middle.

    Without an observation no mask is known, and it is the first choice.
    """
    values = policy.contract.values
    choices = np.zeros(1, int) if obs is None else first_legal(policy, obs, info)
    several = len(policy.contract.agents) if values["agent"] is None else 0
    made = {}
    for name, each in values["actions"].items():
        shape, numbers = tuple(each["shape"]), {}
        size = int(np.prod(shape))
        for key in ("offset", "low", "high"):
            flat = each[key] if isinstance(each[key], list) else [each[key]]
            numbers[key] = np.broadcast_to(np.array([float(x) for x in flat]), size)
        if each["choices"]:
            value = numbers["offset"] + choices.reshape(*choices.shape[:-1], -1)
        else:
            value = np.clip(np.zeros(size), numbers["low"], numbers["high"])
        lead = (several,) if several and name == "env_action" else ()
        value = np.broadcast_to(value, (*lead, size)).reshape((*lead, *shape))
        made[name] = value.astype(each["dtype"])[()]
    if "env_action" in made:
        return made["env_action"]
    return {name[len("env_action.") :]: value for name, value in made.items()}


def first_legal(policy: Any, obs: Any, info: Any) -> np.ndarray:
    """The first legal choice of each kind [D], of several agents [N, 1]; zeros without a mask."""
    inputs, _, _ = policy.observed(obs, info)
    if "obs.legal" not in inputs:
        return np.zeros(1, int)
    legal = inputs["obs.legal"][0]
    sizes = policy.contract.choices or legal.shape[-1:]
    parts = np.split(legal, np.cumsum(sizes[:-1]).astype(int), -1)
    return np.stack([part.argmax(-1) for part in parts], -1)
