"""parl video RUN [flags]."""

import dataclasses
from pathlib import Path

import tyro

from parl.cli.flags import Flags, parse
from parl.cli.rendering import rendered
from parl.core.settings import declared
from parl.core.store import uri_of


@dataclasses.dataclass(frozen=True)
class VideoFlags(Flags):
    """Record episodes of a run's greedy policy."""

    dir: tyro.conf.Positional[Path]
    """Directory of the run."""
    out: Path | None = None
    """File to write: .mp4 (needs imageio-ffmpeg), .gif, or .png, a strip of frames; not given:
    video.mp4 in the run's directory."""
    best: bool = False
    """The best checkpoint: --checkpoint best."""
    checkpoint: str = "latest"
    """Whose policy: latest, best, or the environment steps of a checkpoint."""
    episodes: int = declared(1, low=1, high=10)
    """Episodes to record."""
    seed: int = declared(0, low=0)
    """Seed of the environments; parl eval with as many episodes and this seed has their returns."""
    seed_index: int = declared(0, low=0)
    """Which of a run's seeds."""
    fps: int = declared(30, low=1, high=120)
    """Frames a second."""


def run(arguments: list[str]) -> int:
    """parl video RUN [flags]."""
    flags = parse(VideoFlags, arguments, "parl video")
    return rendered("video", arguments, lambda: recorded(flags))


def recorded(flags: VideoFlags) -> int:
    """Records and says what."""
    from parl.runs.preparation import prepare
    from parl.runs.video import video

    prepare()
    out = flags.out or (Path() if uri_of(flags.dir) else flags.dir) / "video.mp4"
    checkpoint = "best" if flags.best else flags.checkpoint
    found = video(
        flags.dir, out, flags.episodes, flags.seed, checkpoint, flags.seed_index, flags.fps
    )
    returns = found.returns.reshape(len(found.returns), -1).sum(-1)
    told = ", ".join(f"{x:.6g}" for x in returns)
    frames = sum(map(len, found.episodes))
    print(f"return {told} in {frames - len(found.episodes)} steps; written: {found.path}")
    return 0
