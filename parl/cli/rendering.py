"""Commands that render run in a process of their own, which a crash of the renderer cannot hurt."""

import os
import subprocess
import sys
from collections.abc import Callable

from parl.core.errors import ParlError

CHILD = "PARL_VIDEO_PROCESS"  # set in the process that renders
RENDERERS = ("egl", "osmesa", "glfw")  # of MuJoCo, the first that works
FAILED = 75  # exit code of a process whose renderer does not work


def rendered(
    command: str, arguments: list[str], work: Callable[[], int], window: bool = False
) -> int:
    """Does the work of `parl COMMAND ARGUMENTS` in a process made for it; its exit code.

    MuJoCo's renderer is the one that MUJOCO_GL names, or the first that works: it is chosen before
    anything is imported. Without a `window` nothing opens one.
    """
    return attempt(work) if os.environ.get(CHILD) else in_child([command, *arguments], window)


def in_child(arguments: list[str], window: bool) -> int:
    """Runs a command with one renderer after the other, until one works. Raises ParlError."""
    chosen = os.environ.get("MUJOCO_GL")
    hidden = {} if window else {"SDL_VIDEODRIVER": "dummy"}
    said = ""
    for renderer in (chosen,) if chosen else RENDERERS:
        environment = hidden | os.environ | {CHILD: "1", "MUJOCO_GL": renderer}
        command = [sys.executable, "-m", "parl.cli", *arguments]
        done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True)
        if 0 <= done.returncode != FAILED:
            sys.stderr.write(done.stderr)
            return done.returncode
        lines = done.stderr.strip().splitlines() or [f"it died of signal {-done.returncode}"]
        said = lines[-1].removeprefix("parl: ")
    tried = chosen or ", ".join(RENDERERS)
    raise ParlError(f"nothing could be rendered with MUJOCO_GL of {tried}: {said}")


def attempt(work: Callable[[], int]) -> int:
    """The exit code of the work; FAILED where the renderer does not work."""
    try:
        return work()
    except ParlError:
        raise
    except Exception as error:
        if "gl" not in f"{type(error).__module__} {error}".lower():
            raise
        print(f"parl: {type(error).__name__}: {error}", file=sys.stderr)
        return FAILED
