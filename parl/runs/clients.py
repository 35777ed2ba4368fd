"""From the parts of a run to its federated clients."""

from collections.abc import Callable

from parl.agents.execution.clients import Clients, ClientShard
from parl.agents.execution.federated import Federated, InlineShards, Shards
from parl.agents.learner import Learner
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
    env, learner, layout = parts.factory.jax, parts.learner, parts.layout
    assert env is not None
    clients = clients_of(parts.config)
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
