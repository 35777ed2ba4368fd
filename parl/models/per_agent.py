"""One network for several agents, with shared or separate parameters."""

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

    The network sees {"view": [..., O]}, the agent's own, or {"state": [..., S]}, the same for all.
    `agent_id` appends a one-hot index of the agent. `legal` [..., A] is passed on if there are
    masks. The network may be recurrent; further inputs of a feed-forward network have N on the same
    axis as `view`.

    With `sets` = (), all agents share one set of parameters. Otherwise `sets` holds the index of
    each agent's set, 0 .. max, and the sets are stacked: with (0, 0, 1) the first two agents share.
    """

    network: Any  # a Model
    num_agents: int
    sets: tuple[int, ...] = ()
    agent_id: bool = False
    sees: str = "view"  # or "state"
    ahead: int = 0  # leading axes of the outputs before the batch, such as an ensemble's
    action_sizes: tuple[int, ...] = ()  # size of each agent's action; the rest is padding

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
        """Outputs whose normal distributions ignore the padding of the agents' actions."""
        if isinstance(outputs, tuple):  # with the memories of a recurrent network
            return self.without_padding(outputs[0]), *outputs[1:]
        if not self.action_sizes or not isinstance(outputs, ops.Normal):
            return outputs
        used = np.arange(outputs.mean.shape[-1]) < np.array(self.action_sizes)[:, None]
        return outputs.masked(jnp.broadcast_to(used, outputs.mean.shape))

    def own(self, obs: Any) -> tuple[dict[str, Array], int]:
        """(inputs of each agent's network, leaves [..., N, ...], and the axis of N)."""
        x, axis = jnp.asarray(obs[self.sees], jnp.float32), jnp.ndim(obs["alive"]) - 1
        if self.sees == "view":
            x = jnp.where(obs["alive"][..., None], x, 0.0)  # views of dead agents are undefined
        else:
            shape = (*x.shape[:-1], self.num_agents, x.shape[-1])
            x = jnp.broadcast_to(x[..., None, :], shape)
        if self.agent_id:
            index = jnp.eye(self.num_agents)
            index = jnp.broadcast_to(index, (*x.shape[:-1], self.num_agents))
            x = jnp.concatenate([x, index], -1)
        return {self.sees: x} | {name: obs[name] for name in ("legal",) if name in obs}, axis

    def axes(self, axis: int, rest: tuple[Any, ...]) -> tuple[int | None, ...]:
        """The axis of N in the observation and in each further input; None if it has none."""
        if is_recurrent(self.network):
            return axis, None, axis - 1
        return axis, *[axis] * len(rest)

    @property
    def memory(self) -> Callable[[tuple[int, ...]], Any] | None:
        """A function of batch_shape for the memory [*batch_shape, N, ...]; None if feed-forward."""
        network: Any = self.network
        if not is_recurrent(network):
            return None
        return lambda batch_shape: network.memory((*batch_shape, self.num_agents))
