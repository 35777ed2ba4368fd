"""parl enjoy RUN [flags]."""

import dataclasses
from pathlib import Path

import tyro

from parl.cli.flags import Flags, parse
from parl.cli.rendering import rendered
from parl.core.settings import declared


@dataclasses.dataclass(frozen=True)
class EnjoyFlags(Flags):
    """Show episodes of a run's greedy policy in a window; close it or press Escape to end."""

    dir: tyro.conf.Positional[Path]
    """Directory of the run."""
    best: bool = False
    """The best checkpoint: --checkpoint best."""
    checkpoint: str = "latest"
    """Whose policy: latest, best, or the environment steps of a checkpoint."""
    episodes: int = declared(5, low=1, high=10_000)
    """Episodes to show."""
    seed: int = declared(0, low=0)
    """Seed of the first episode; the next one has the next."""
    seed_index: int = declared(0, low=0)
    """Which of a run's seeds."""
    fps: int = declared(30, low=1, high=240)
    """Frames a second."""


def run(arguments: list[str]) -> int:
    """parl enjoy RUN [flags]."""
    flags = parse(EnjoyFlags, arguments, "parl enjoy")
    from parl.report.window import check_display

    check_display(f"parl video {flags.dir} writes the episodes to a file.")
    return rendered("enjoy", arguments, lambda: shown(flags), window=True)


def shown(flags: EnjoyFlags) -> int:
    """Shows the episodes, and says what each of them returned."""
    from parl.report.window import Closed, Window
    from parl.runs.preparation import prepare
    from parl.runs.video import watch

    prepare()
    window = Window(f"PARL: {flags.dir.name}", flags.fps)
    checkpoint = "best" if flags.best else flags.checkpoint
    try:
        for found in watch(
            flags.dir, window.show, flags.episodes, flags.seed, checkpoint, flags.seed_index
        ):
            print(f"return {found.returns.sum():.6g} in {len(found.episodes[0]) - 1} steps")
    except Closed:
        pass
    finally:
        window.close()
    return 0
