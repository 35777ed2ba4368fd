"""Recurrent or feed-forward networks, by a recipe's settings."""

from collections.abc import Callable
from typing import Any

from parl.agents.replay.segments import Segments, check_burn_in
from parl.core.errors import ConfigError
from parl.core.model import Model
from parl.core.spec import Space
from parl.models import CELLS, MLP, Recurrent, cell_output

Head = Callable[[Any, MLP], Any]  # (observation space, torso) -> network


def with_memory(
    space: Space, torso: MLP, head: Head, cell: str, size: int, layer_norm: bool = False
) -> Model:
    """A head over a torso, with a recurrent cell of `size` features between them unless "none".

    With a cell, `layer_norm` is of the convolutions before it; without one, the head has them.
    Raises ConfigError for an unknown cell.
    """
    if cell == "none":
        return head(space, torso)
    if cell not in CELLS:
        known = ", ".join(("none", *CELLS))
        raise ConfigError(f"setting 'recurrent' is '{cell}'; it can be {known}.")
    return Recurrent(space, torso, CELLS[cell](size), head(cell_output(size), MLP(())), layer_norm)


def windows_of(replay: Any, length: int, burn_in: int) -> Segments:
    """The replay sampled in windows. Raises ConfigError if burn-in leaves nothing of them."""
    check_burn_in(length, burn_in)
    return Segments(replay, length, burn_in)
