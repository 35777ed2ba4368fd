"""One network for several agents: what they share, and what each of them sees."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from parl import ops
from parl.core.types import Array, Params
from parl.models.recurrent import is_recurrent


@dataclass(frozen=True)
class Agents:
    """Runs a network of one agent's observation for N agents: outputs [..., N, ...].

    The network sees {"view": [..., O]}, the agent's own, or {"state": [..., S]}, the same for all,
    with a one-hot index of the agent behind it where `agent_id`, and `legal` [..., A] if there are
    masks. It may be recurrent; further inputs of a network that is not have N where `view` has it.

    With `sets` = (), all agents share their parameters. Else it is the number of each agent's set
    of parameters, 0 .. max, and these are stacked: (0, 0, 1) lets the first two share.
    """

    network: Any  # a Model
    num_agents: int
    sets: tuple[int, ...] = ()
    agent_id: bool = False
    sees: str = "view"  # or "state"
    ahead: int = 0  # axes of the outputs before those of the batch, such as an ensemble's
    action_sizes: tuple[int, ...] = ()  # numbers of each agent's action, the rest is padding

    def init(self, key: Array, obs: Any, *rest: Any) -> Params:
        """Parameters, stacked [max(sets) + 1, ...] if there are several sets."""
        obs, axis = self.own(obs)
        if not self.sets:
            return self.network.init(key, obs, *rest)
        axes = self.axes(axis, rest)
        first = lambda x, axis: jax.tree.map(lambda leaf: jnp.take(leaf, 0, axis), x)
        inputs = [x if a is None else first(x, a) for x, a in zip((obs, *rest), axes, strict=True)]
        keys = jax.random.split(key, max(self.sets) + 1)
        return jax.vmap(lambda key: self.network.init(key, *inputs))(keys)

    def apply(self, params: Params, obs: Any, *rest: Any, method: Any = None) -> Any:
        """The outputs; for a recurrent network `rest` is (first [T, B], memory [B, N, ...])."""
        obs, axis = self.own(obs)
        if not self.sets:
            return self.without_padding(self.network.apply(params, obs, *rest, method=method))
        if self.sets != tuple(range(self.num_agents)):
            params = jax.tree.map(lambda x: x[np.array(self.sets)], params)
        one = lambda params, *inputs: self.network.apply(params, *inputs, method=method)
        axes = 0, *self.axes(axis, rest)
        return self.without_padding(jax.vmap(one, axes, axis + self.ahead)(params, obs, *rest))

    def without_padding(self, outputs: Any) -> Any:
        """Outputs whose normal distributions are of the numbers that an agent's action has."""
        if isinstance(outputs, tuple):  # and the memories of a recurrent network
            return self.without_padding(outputs[0]), *outputs[1:]
        if not self.action_sizes or not isinstance(outputs, ops.Normal):
            return outputs
        used = np.arange(outputs.mean.shape[-1]) < np.array(self.action_sizes)[:, None]
        return outputs.masked(jnp.broadcast_to(used, outputs.mean.shape))

    def own(self, obs: Any) -> tuple[dict[str, Array], int]:
        """(what each agent's network sees, [..., N, ...] each, and the axis of N)."""
        x, axis = jnp.asarray(obs[self.sees], jnp.float32), jnp.ndim(obs["alive"]) - 1
        if self.sees == "view":
            x = jnp.where(obs["alive"][..., None], x, 0.0)  # others' views are made up
        else:
            shape = (*x.shape[:-1], self.num_agents, x.shape[-1])
            x = jnp.broadcast_to(x[..., None, :], shape)
        if self.agent_id:
            index = jnp.eye(self.num_agents)
            index = jnp.broadcast_to(index, (*x.shape[:-1], self.num_agents))
            x = jnp.concatenate([x, index], -1)
        return {self.sees: x} | {name: obs[name] for name in ("legal",) if name in obs}, axis

    def axes(self, axis: int, rest: tuple[Any, ...]) -> tuple[int | None, ...]:
        """The axis of N in the observation and each further input; None where there is none."""
        if is_recurrent(self.network):
            return axis, None, axis - 1
        return axis, *[axis] * len(rest)

    @property
    def memory(self) -> Callable[[tuple[int, ...]], Any] | None:
        """Memory [*batch_shape, N, ...] of each agent, where the network has some."""
        network: Any = self.network
        if not is_recurrent(network):
            return None
        return lambda batch_shape: network.memory((*batch_shape, self.num_agents))
