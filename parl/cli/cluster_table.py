"""The tables of `parl cluster status`."""

from rich.table import Table

from parl.cli.printing import console
from parl.remote.cluster import status
from parl.remote.occupants import Machine, Occupant

RIGHT = {"CPUs", "free", "pid", "actors"}


def show() -> None:
    """Prints the nodes of this machine's cluster and the runs that hold its CPUs."""
    address, found = status()
    screen = console()
    screen.print(f"cluster at {address}")
    if isinstance(found, str):
        screen.print(found)
    else:
        nodes, occupants = found
        screen.print(node_table(nodes), "")
        screen.print(run_table(occupants) if occupants else "no program uses it")


def node_table(nodes: list[Machine]) -> Table:
    """A table of nodes with their CPUs and free CPUs."""
    rows = [(node.host, f"{node.total:g}", f"{node.free:g}") for node in nodes]
    return table(("node", "CPUs", "free"), rows)


def run_table(occupants: list[Occupant]) -> Table:
    """A table of programs on the cluster and the CPUs that they hold."""
    rows = [(o.name, o.out, o.host, str(o.pid), str(o.actors), f"{o.cpus:g}") for o in occupants]
    return table(("run", "directory", "driver's host", "pid", "actors", "CPUs"), rows)


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> Table:
    """A table with right-aligned numbers."""
    made = Table(box=None, pad_edge=False)
    for name in header:
        made.add_column(name, overflow="fold", justify="right" if name in RIGHT else "left")
    for row in rows:
        made.add_row(*row)
    return made
