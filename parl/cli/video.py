"""parl video RUN [flags]."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import tyro

from parl.cli.flags import Flags, parse
from parl.core.errors import ParlError
from parl.core.settings import declared

CHILD = "PARL_VIDEO_PROCESS"  # set in the process that renders
RENDERERS = ("egl", "osmesa", "glfw")  # of MuJoCo, the first that works
FAILED = 75  # exit code of a process whose renderer does not work


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
    if os.environ.get(CHILD):
        return recorded(flags)
    return in_child(arguments)


def in_child(arguments: list[str]) -> int:
    """Renders in a process of its own, which a crash of the renderer cannot hurt.

    MuJoCo's renderer is the one that MUJOCO_GL names, or the first that works.
    """
    chosen = os.environ.get("MUJOCO_GL")
    said = ""
    for renderer in (chosen,) if chosen else RENDERERS:
        environment = (
            {"SDL_VIDEODRIVER": "dummy"} | os.environ | {CHILD: "1", "MUJOCO_GL": renderer}
        )
        command = [sys.executable, "-m", "parl.cli", "video", *arguments]
        done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True)
        if 0 <= done.returncode != FAILED:
            sys.stderr.write(done.stderr)
            return done.returncode
        lines = done.stderr.strip().splitlines() or [f"it died of signal {-done.returncode}"]
        said = lines[-1].removeprefix("parl: ")
    tried = chosen or ", ".join(RENDERERS)
    raise ParlError(f"nothing could be rendered with MUJOCO_GL of {tried}: {said}")


def recorded(flags: VideoFlags) -> int:
    """Records and says what."""
    from parl.runs.preparation import prepare
    from parl.runs.video import record

    prepare()
    out = flags.out or flags.dir / "video.mp4"
    checkpoint = "best" if flags.best else flags.checkpoint
    try:
        found = record(
            flags.dir, out, flags.episodes, flags.seed, checkpoint, flags.seed_index, flags.fps
        )
    except ParlError:
        raise
    except Exception as error:
        if "gl" not in f"{type(error).__module__} {error}".lower():
            raise
        print(f"parl: {type(error).__name__}: {error}", file=sys.stderr)
        return FAILED
    returns = found.returns.reshape(len(found.returns), -1).sum(-1)
    told = ", ".join(f"{x:.6g}" for x in returns)
    frames = sum(map(len, found.episodes))
    print(f"return {told} in {frames - len(found.episodes)} steps; written: {found.path}")
    return 0
