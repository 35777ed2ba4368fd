"""Shards of a replay as Ray actors."""

import os
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

import jax
import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayError

from parl.agents.replay.shard import Shard
from parl.core.errors import ClusterLost
from parl.core.memory import keep_freed_memory
from parl.remote.connect import (
    cluster_lost,
    ensure_connected,
    first_line,
    is_own,
    own_node,
    quiet,
)
from parl.remote.failure import Failure, describe, revive
from parl.remote.process import (
    Place,
    Stored,
    actor_options,
    answered,
    end,
    end_with,
    place_of,
    reason,
)
from parl.remote.shards import Died, Missing

MakeShard = Callable[[int], Shard]


class Host:
    """Holds a shard in an actor."""

    def __init__(self, make: MakeShard, number: int, driver: tuple[str, int]):
        threading.Thread(target=end_with, args=driver, daemon=True).start()
        jax.config.update("jax_cpu_enable_async_dispatch", False)
        keep_freed_memory()
        self.shard = make(number)

    def hello(self) -> Place:
        """Where it is."""
        return Place(socket.gethostname(), os.getpid(), own_node())

    def call(self, name: str, *arguments: Any) -> Any:
        """What a method of the shard returns, or the Failure that it raised."""
        try:
            return getattr(self.shard, name)(*arguments)
        except Exception as error:
            return describe(error)


class Actor:
    """One of them, as it looks from here."""

    def __init__(self, kind: Any, make: MakeShard, number: int):
        with quiet():
            self.actor = kind.remote(make, number, (socket.gethostname(), os.getpid()))
        self.started = self.actor.hello.remote()

    def call(self, name: str, *arguments: Any) -> Any:
        found = [x.reference if isinstance(x, Stored) else x for x in arguments]
        return self.actor.call.remote(name, *found)

    def kill(self) -> None:
        end(self.actor, place_of(self))


class OnRay:
    """Shards in Ray actors, spread over the machines; each takes one of a shared cluster's CPUs."""

    def __init__(self, make: MakeShard, env: Mapping[str, str] | None = None):
        ensure_connected()
        self.make, self.scheduled = make, not is_own()
        self.kind: Any = ray.remote(**actor_options(self.scheduled, env))(Host)

    def start(self, number: int) -> Actor:
        try:
            return Actor(self.kind, self.make, number)
        except RayError as error:
            raise ClusterLost(first_line(error)) from error

    def wait(self, tickets: list[Any], timeout: float) -> list[Any]:
        return answered(tickets, timeout)

    def answer(self, ticket: Any) -> Any:
        try:
            answer = ray.get(ticket)
        except (ActorDiedError, ActorUnavailableError) as error:
            raise Died(reason(error)) from error
        except RayError as error:  # of an argument
            raise Missing(first_line(error)) from error
        if isinstance(answer, Failure):
            raise revive(answer, "a replay shard")
        return answer

    def lost(self) -> str:
        return cluster_lost()
