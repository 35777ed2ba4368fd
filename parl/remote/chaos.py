"""Seeded fault injection for pools.

    with parl.chaos(kill=0.01, hang=0.001, raise_=0.01, slow=0.02, nan=0.01, seed=0):
        parl.train(...)

The pool of this process draws one fault, or none, for every fragment that it asks for; the worker
commits it somewhere inside that fragment.
"""

import inspect
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from parl.core.errors import ConfigError, nearest


class Fault(NamedTuple):
    """What goes wrong, and when: a fraction of the fragment's steps."""

    kind: str
    when: float


class Chaos:
    """A seeded source of faults that counts what it hands out."""

    def __init__(self, rates: dict[str, float], seed: int):
        if not (min(rates.values()) >= 0 and sum(rates.values()) <= 1):
            raise ConfigError(f"rates of faults are probabilities of one fragment, not {rates}.")
        self.rates, self.random = rates, np.random.default_rng(seed)
        self.injected: Counter[str] = Counter()

    def draw(self) -> Fault | None:
        """The fault of the next fragment."""
        choice, when = self.random.random(2)
        for kind, edge in zip(self.rates, np.cumsum(list(self.rates.values())), strict=True):
            if choice < edge:
                self.injected[kind] += 1
                return Fault(kind, when)
        return None


current: Chaos | None = None


@contextmanager
def chaos(
    kill: float = 0.0,
    hang: float = 0.0,
    raise_: float = 0.0,
    slow: float = 0.0,
    nan: float = 0.0,
    seed: int = 0,
) -> Iterator[Chaos]:
    """Within it, every fragment meets one of these faults with these probabilities.

    kill: SIGKILL to the worker. hang: it never returns. raise_: the environment raises.
    slow: one step takes a second. nan: the environment returns a NaN reward.
    """
    global current
    rates = {"kill": kill, "hang": hang, "raise_": raise_, "slow": slow, "nan": nan}
    before, current = current, Chaos(rates, seed)
    try:
        yield current
    finally:
        current = before


def parse(text: str) -> dict[str, Any]:
    """The arguments of `chaos` in a text such as "kill=0.01,raise=0.01,seed=3".

    Raises ConfigError for an unknown name, and for a value that cannot be.
    """
    known = {name.rstrip("_"): name for name in inspect.signature(chaos).parameters}
    arguments = {}
    for part in text.split(","):
        name, _, value = (word.strip() for word in part.partition("="))
        if name not in known:
            hint = nearest(name, known)
            raise ConfigError(f"chaos knows no '{name}'.{hint} Known: {', '.join(known)}.")
        try:
            arguments[known[name]] = int(value) if name == "seed" else float(value)
        except ValueError:
            raise ConfigError(
                f"chaos needs a number for {name}, not '{value}', as in kill=0.01,seed=3."
            ) from None
    with chaos(**arguments):  # raises where the rates cannot be
        return arguments


def draw() -> Fault | None:
    """The fault of the next fragment, if there is chaos."""
    return current.draw() if current else None


@contextmanager
def faulty(guarded: Any, fault: Fault | None, length: int) -> Iterator[None]:
    """Lets a guarded environment fail once in the fragment of `length` steps."""
    if fault is None:
        yield
        return
    env = guarded.env
    guarded.env = Faulty(env, fault.kind, int(fault.when * length))
    try:
        yield
    finally:
        guarded.env = env


class Faulty:
    """An environment that fails at one step and is itself at all others."""

    def __init__(self, env: Any, kind: str, at: int):
        self.env, self.kind, self.left = env, kind, at

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)

    def step(self, action: Any) -> Any:
        """One step, or the fault."""
        self.left -= 1
        if self.left != -1:
            return self.env.step(action)
        if self.kind == "raise_":
            raise RuntimeError("chaos: the environment raised")
        if self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        while self.kind == "hang":
            time.sleep(60)
        if self.kind == "slow":
            time.sleep(1)
        new = self.env.step(action)
        if self.kind == "nan":
            new = new._replace(reward=np.full_like(new.reward, np.nan))
        return new
