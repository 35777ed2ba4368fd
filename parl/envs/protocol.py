"""The two environment protocols, of which every environment implements one.

Both take Box actions in [-1, 1], Discrete actions as int32, and tell termination from truncation.
Adapters rescale Box actions to the environment's bounds and axes, those of a JaxEnv too: the `step`
that a user writes gets actions of its spec's action space, of [-1, 1] where that has no bounds.
Both leave resets to one place: a JaxEnv never resets itself (`jax_vector.autostep` does), a
VectorEnv always does, in the same step, and returns the true final observation as `next_obs`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from parl.core.spec import EnvSpec
from parl.core.types import Array


@runtime_checkable
class JaxEnv(Protocol):
    """One environment as pure functions, to be vmapped and jitted by the caller."""

    @property
    def spec(self) -> EnvSpec: ...

    def reset(self, key: Array) -> tuple[Any, Any]:
        """(state, obs [*O]) at the start of an episode."""
        ...

    def step(self, state: Any, action: Array, key: Array) -> tuple[Any, Any, Array, Array, Array]:
        """(state, obs [*O], reward [], terminated [] bool, truncated [] bool)."""
        ...


@runtime_checkable
class Game(JaxEnv, Protocol):
    """A JaxEnv of players in turn whose chance can be enumerated: all of it lies in the deal.

    `reset` starts one of the deals by its probability, and `step` draws nothing.
    """

    def deals(self) -> tuple[Any, Any]:
        """(all deals, leaves [D, ...], and their probabilities [D]), as numpy arrays."""
        ...

    def start(self, deal: Any) -> tuple[Any, Any]:
        """(state, obs [*O]) at the start of an episode with this deal."""
        ...


class Transition(NamedTuple):
    """The result of stepping a vector environment: numpy arrays, or jax if jitted."""

    obs: Any  # [B, *O] what to act on next: after the reset, without agents that were cut alone
    reward: Any  # [B] float32
    terminated: Any  # [B] bool, the episode ended by the environment's rules
    truncated: Any  # [B] bool, the episode was cut by a time limit
    next_obs: Any  # [B, *O] the result of the action, before any reset


class EnvState(NamedTuple):
    """A vector environment's state in a form that can be written to a checkpoint."""

    arrays: dict[str, Any]  # names to numpy arrays
    meta: dict[str, Any]  # JSON-able values, such as states of random generators
    exact: bool  # whether set_state continues bit for bit


class VectorEnv(Protocol):
    """B environments stepped together on the host, numpy in and numpy out, seeded when made."""

    @property
    def spec(self) -> EnvSpec: ...

    @property
    def num_envs(self) -> int: ...

    @property
    def infos(self) -> Sequence[Any]:
        """What each environment told beside at the last step; empty where they tell nothing."""
        ...

    def reset(self) -> Any:
        """obs [B, *O] at the start of an episode in every environment."""
        ...

    def step(self, action: Any) -> Transition:
        """Steps all with actions [B, ...]; the arrays returned are not written to again."""
        ...

    def get_state(self) -> EnvState: ...

    def set_state(self, state: EnvState) -> Any:
        """Continues from `state`; returns obs [B, *O] (of fresh episodes where not exact)."""
        ...

    def change(self, parameters: Mapping[str, Any]) -> None:
        """Goes on with these parameters; EnvError where the environments have none of the name."""
        ...

    def close(self) -> None: ...
