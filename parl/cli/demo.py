"""parl demo RUN [--out index.html]."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from parl.cli.flags import Flags, parse
from parl.cli.rendering import rendered
from parl.core.settings import declared

if TYPE_CHECKING:
    from parl.deploy.contract import Contract


@dataclasses.dataclass(frozen=True)
class DemoFlags(Flags):
    """Write a page that shows a policy: it opens from disk and needs no network.

    The policy acts in the page where the environment has a twin in JavaScript: CartPole, Pendulum,
    Acrobot, simple_spread, and connect four and tic-tac-toe against you. Elsewhere the page replays
    episodes that it has played.
    """

    dir: tyro.conf.Positional[Path]
    """Directory of a run, a saved agent or an exported policy."""
    out: Path = Path("index.html")
    """File to write."""
    checkpoint: str = "latest"
    """Whose policy: latest, best, or the environment steps of a checkpoint."""
    seed_index: int = declared(0, low=0)
    """Which of a run's seeds."""
    episodes: int = declared(2, low=1, high=10)
    """Episodes to replay."""
    seed: int = declared(0, low=0)
    """Seed of the replayed episodes."""


def run(arguments: list[str]) -> int:
    """parl demo RUN [flags]."""
    flags = parse(DemoFlags, arguments, "parl demo")
    from parl.deploy.demo import page
    from parl.deploy.demo.twins import twin_of

    with artefact_of(flags) as contract:
        if twin_of(contract) is not None:
            return written(flags, page.acting_page(contract))
        told = ("--out", flags.out, "--episodes", flags.episodes, "--seed", flags.seed)
        again = list(map(str, (contract.path, *told)))
        return rendered("demo", again, lambda: replayed(flags, contract))


@contextlib.contextmanager
def artefact_of(flags: DemoFlags) -> "Iterator[Contract]":
    """The exported policy in a directory, or that of a run, which is exported for it."""
    from parl import api
    from parl.deploy import contract

    if (flags.dir / contract.CONTRACT).is_file():
        yield contract.read(flags.dir)
        return
    with tempfile.TemporaryDirectory(prefix="parl-demo-") as folder:
        found = flags.checkpoint, flags.seed_index
        made = api.export(flags.dir, Path(folder) / "policy", ("numpy",), *found, episodes=0)
        yield contract.read(made.checked().path)


def replayed(flags: DemoFlags, contract: "Contract") -> int:
    """Writes the page of episodes that are played now."""
    from parl.deploy.demo import page, replay

    env = contract.values["provenance"].get("env") or contract.values["environment"]["id"]
    found = replay.replay_of(contract, env, flags.episodes, flags.seed)
    return written(flags, page.replaying_page(contract, found))


def written(flags: DemoFlags, text: str) -> int:
    """Writes the page and says so."""
    from parl.deploy.demo import page

    path = page.write(text, flags.out)
    print(f"written: {path}, {path.stat().st_size:,} bytes")
    return 0
