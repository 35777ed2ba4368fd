"""parl record RUN --episodes N --out DIR."""

import dataclasses
from pathlib import Path

import tyro

from parl.cli.flags import Flags, parse
from parl.core.settings import declared


@dataclasses.dataclass(frozen=True)
class RecordFlags(Flags):
    """Play a run's policy and write what it does as a data set, in Minari's layout."""

    dir: tyro.conf.Positional[Path]
    """Directory of the run."""
    out: Path
    """Directory of the data set; a recording that was broken off there is continued."""
    episodes: int | None = declared(None, low=1)
    """Whole episodes to record."""
    steps: int | None = declared(None, low=1)
    """Steps to record; the last episode is cut there."""
    sample: bool = False
    """Sample actions instead of taking the most likely ones."""
    seed: int = declared(0, low=0)
    """Seed of the environments."""
    checkpoint: str = "latest"
    """Whose policy: latest, best, or the environment steps of a checkpoint."""
    seed_index: int = declared(0, low=0)
    """Which of a run's seeds."""
    env: str | None = None
    """Another environment with the same spaces."""
    actors: int = declared(0, low=0, high=100_000)
    """Ray rollout actors that play; 0: this process. The data set is the same."""
    address: str = "local"
    """Ray cluster of the --actors: local (one of its own), auto, or HOST:PORT."""
    expert: float | None = None
    """Return that counts as 100 in normalised scores."""


def run(arguments: list[str]) -> int:
    """parl record RUN --episodes N --out DIR."""
    flags = parse(RecordFlags, arguments, "parl record")
    from parl import api
    from parl.cli.data import told

    values = {f.name: getattr(flags, f.name) for f in dataclasses.fields(flags) if f.name != "dir"}
    done = api.record(flags.dir, **values)
    print(told(done.path, done.card))
    return 0
