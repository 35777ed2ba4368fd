"""Which environments have a twin in JavaScript, and with which settings."""

import re
from typing import Any, NamedTuple

from parl.deploy.contract import Contract
from parl.envs.ids import split

GAMES = {
    "jax:tic_tac_toe": {"rows": 3, "columns": 3, "line": 3, "falls": False},
    "jax:connect_four": {"rows": 6, "columns": 7, "line": 4, "falls": True},
}
CONTROL = {
    "CartPole-v1": ("cartPole", {"masked": False}),
    "CartPoleMasked-v1": ("cartPole", {"masked": True}),
    "Pendulum-v1": ("pendulum", {}),
    "Acrobot-v1": ("acrobot", {}),
}
SPREAD = re.compile(r"jax:simple_spread(_continuous)?(?:-(\d+))?")


class Twin(NamedTuple):
    """An environment of environments.mjs."""

    name: str
    settings: dict[str, Any]
    inputs: dict[str, tuple[int, ...]]  # shapes of what it shows, by the names of policies' inputs


def twin_of(contract: Contract) -> Twin | None:
    """The twin that a policy can act in; None where there is none."""
    spec = contract.values["environment"]
    if contract.values.get("agent") is not None:
        return None  # one agent of several cannot act for the others
    if has_own_parameters(str(contract.values["provenance"].get("env"))):
        return None  # a twin has the built-in ones
    found = named(str(spec["id"]), spec["max_steps"])
    if found is None:
        return None
    shown = {leaf.name: leaf.shape for leaf in contract.leaves}
    fits = all(found.inputs.get(name) == shape for name, shape in shown.items())
    return found if fits else None  # wrappers may show something else under the same id


def has_own_parameters(id: str) -> bool:
    """Whether an id such as jax:CartPole-v1?length=0.4 changes more than the time limit."""
    return bool(split(id)[1].keys() - {"max_steps"})


def named(id: str, max_steps: int | None) -> Twin | None:
    """The twin of an environment by its id, Gymnasium's or ours."""
    limit = {} if max_steps is None else {"maxSteps": max_steps}
    own = id.removeprefix("jax:")
    if own in CONTROL:
        name, settings = CONTROL[own]
        size = {"cartPole": 4, "pendulum": 3, "acrobot": 6}[name] - 2 * settings.get("masked", 0)
        return Twin(name, settings | limit, {"obs": (size,)})
    if id in GAMES:
        rows, columns, falls = (GAMES[id][each] for each in ("rows", "columns", "falls"))
        cells = rows * columns
        moves = columns if falls else cells
        return Twin("boardGame", GAMES[id], team_inputs(2, 2 * cells, moves, 2 * cells + 2))
    if spread := SPREAD.fullmatch(id):
        count = int(spread[2] or 3)
        settings = {"agents": count, "continuous": bool(spread[1])}
        return Twin(
            "simpleSpread", settings | limit, team_inputs(count, 6 * count, 5, 6 * count**2)
        )
    return None


def team_inputs(agents: int, view: int, choices: int, state: int) -> dict[str, tuple[int, ...]]:
    """Shapes of what several agents are shown."""
    flags, legal = (agents,), (agents, choices)
    shown = {"obs.view": (agents, view), "obs.legal": legal, "obs.state": (state,)}
    return shown | {"obs.alive": flags, "obs.turn": flags}
