"""From the parts of a run to its federated clients."""

from collections.abc import Callable
from typing import Any

from parl import ops
from parl.agents.execution.clients import Clients, ClientShard
from parl.agents.execution.federated import Federated, InlineShards, Shards
from parl.agents.learner import Learner
from parl.core.algorithm import Algorithm
from parl.core.errors import ConfigError
from parl.runs.build import Parts
from parl.runs.config import RunConfig


def clients_of(config: RunConfig) -> Clients:
    """Who takes part in a round."""
    return Clients(
        config.clients,
        config.participate,
        config.average_every,
        config.drop_out,
        config.straggle,
        config.clients_at_once,
        config.seed,
    )


def make_federated(parts: Parts, say: Callable[[str], None]) -> Federated:
    """The run, ready for its first round."""
    config, env, layout = parts.config, parts.factory.jax, parts.layout
    assert env is not None
    learner = with_proximal(parts.learner, config.proximal)
    clients = clients_of(config)
    size = layout.envs_per_iteration, parts.recipe.length
    say(f"starting {clients.number:,} client{'s' * (clients.number > 1)}")
    return Federated(env, learner, clients, shards_of(parts, learner, clients, size), *size)


def shards_of(parts: Parts, learner: Learner, clients: Clients, size: tuple[int, int]) -> Shards:
    """Where the clients are computed: in this process, or on Ray."""
    config, env = parts.config, parts.factory.jax
    assert env is not None
    if not config.actors:
        return InlineShards(ClientShard(env, learner, clients, range(clients.number), *size))
    from parl.remote import connect  # only now: it loads Ray
    from parl.remote.clients import RemoteShards

    connect(config.address)
    return RemoteShards(env, learner, clients, config.actors, size, config.deadline)


def with_proximal(learner: Learner, mu: float) -> Learner:
    """The learner whose optimiser is held near the average by `mu`. Raises ConfigError."""
    return learner.replace(algorithm=held(learner.algorithm, mu)) if mu else learner


def held(algorithm: Algorithm, mu: float) -> Algorithm:
    """The algorithm, or the one within, with a proximal optimiser. Raises ConfigError."""
    parts: Any = vars(algorithm)
    if "inner" in parts:
        return algorithm.replace(inner=held(parts["inner"], mu))
    if "optimizer" not in parts:
        raise ConfigError(
            f"{type(algorithm).__name__} has no field `optimizer`, which proximal changes: leave "
            "it out."
        )
    return algorithm.replace(optimizer=ops.Proximal(parts["optimizer"], mu))
