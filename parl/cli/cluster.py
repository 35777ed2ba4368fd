"""parl cluster start | join | status | stop."""

import dataclasses
from functools import partial
from typing import Any

import tyro

from parl.cli.flags import Flags, parse
from parl.cli.printing import HELP
from parl.core.errors import ConfigError
from parl.core.settings import declared

USAGE = """usage: parl cluster start [flags] | join HOST:PORT [flags] | status | stop

  start    start a Ray cluster with this machine as its first node
  join     make this machine a node of the cluster at HOST:PORT
  status   show the nodes, free CPUs and runs of this machine's cluster
  stop     stop the nodes that were started on this machine

'parl cluster start --help' lists the flags of start, 'parl cluster join --help' those of join."""


@dataclasses.dataclass(frozen=True)
class ClusterStartFlags(Flags):
    """Start a Ray cluster with this machine as its first node."""

    port: int = 6379
    """Port for other nodes and programs."""
    host: str = "127.0.0.1"
    """Address to listen on; any but loopback needs RAY_AUTH_MODE=token."""
    num_cpus: int | None = declared(None, low=0)
    """CPUs to offer, one for each rollout worker; all of the machine's if not given."""
    metrics_port: int | None = declared(None, low=1, high=65_535)
    """Port on 127.0.0.1 where Prometheus gets the newest line of metrics of every run here."""


@dataclasses.dataclass(frozen=True)
class ClusterJoinFlags(Flags):
    """Make this machine a node of the Ray cluster at HOST:PORT."""

    address: tyro.conf.Positional[str]
    """HOST:PORT of the cluster."""
    num_cpus: int | None = declared(None, low=0)
    """CPUs to offer, one for each rollout worker; all of the machine's if not given."""
    keep: bool = False
    """Stay, and start the node again whenever it ends, as after a cut of the network, until
    `parl cluster stop` here, Ctrl-C or SIGTERM; without, the command returns once the node runs."""
    patience: float = declared(60.0, low=0.0, high=1e6)
    """With --keep, minutes without a cluster at HOST:PORT after which this ends; 0: never."""


def run(arguments: list[str]) -> int:
    """parl cluster start [flags] | join HOST:PORT | status | stop."""
    action, rest = (arguments or [""])[0], arguments[1:]
    flags: Any = None
    if action in HELP or (action in ("status", "stop") and HELP & set(rest)):
        print(USAGE)
        return 0
    if not action:
        raise ConfigError("cluster needs one of start [flags], join HOST:PORT, status or stop.")
    if action in ("start", "join"):
        shape = ClusterStartFlags if action == "start" else ClusterJoinFlags
        flags = parse(shape, rest, f"parl cluster {action}")
    elif action not in ("status", "stop") or rest:
        raise ConfigError(
            "cluster takes one of start [flags], join HOST:PORT, status or stop, not "
            f"'{' '.join(arguments)}'."
        )

    from parl.remote import cluster

    if action == "start":
        node = cluster.start(flags.host, flags.port, flags.num_cpus, flags.metrics_port)
        print(f"cluster at {node.address}; `parl cluster stop` ends it")
        if flags.metrics_port is not None:
            print(f"metrics of its runs at http://127.0.0.1:{flags.metrics_port}/metrics")
    elif action == "join" and flags.keep:
        from parl.remote.keeper import keep

        say = partial(print, flush=True)
        keep(flags.address, flags.num_cpus, 60 * flags.patience, say)
    elif action == "join":
        print(f"a node of {cluster.join(flags.address, flags.num_cpus).address} runs here")
    elif action == "status":
        from parl.cli.cluster_table import show

        show()
    else:
        print(*(f"stopped the node of {node.address}" for node in cluster.stop()), sep="\n")
    return 0
