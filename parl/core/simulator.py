"""The protocol of a game's rules, with which a search plays ahead."""

from typing import Any, Protocol

from parl.core.types import Array


class Simulator(Protocol):
    """The rules of a game of two players who move in turn, without chance, as pure functions.

    A position is rebuilt from what the players see, so that acting needs no state of the
    environment and is the same where that runs in another program, process or machine.
    """

    def state_of(self, obs: Any) -> Any:
        """The position that the observation [*O] of all agents shows, where one is to move."""
        ...

    def step(self, state: Any, action: Array) -> tuple[Any, Any, Array, Array]:
        """(position, obs, reward [N], over [] bool) after the mover's action [].

        `obs` has at least `turn` [N], and `view` [N, O] and `legal` [N, A] of whoever is to move;
        rows of others have no meaning. After the end of a game the answer is finite, no more.
        """
        ...
