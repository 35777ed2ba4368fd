"""The progress display of a run: live on a terminal, plain lines elsewhere.

All of it goes to stderr, because stdout is for results, and no failure to show it stops a run.
"""

import contextlib
import math
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO, cast

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.text import Text

PLAIN_INTERVAL_S = 10.0  # at most one plain line of training in this time
PHASE_DELAY_S = 0.7  # once training, shorter phases do not show: no flicker
MIN_BAR, MAX_BAR = 6, 40  # cells
SPINNER, ASCII_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "-\\|/"


class Progress:
    """Shows a run of `total_steps` environment steps; a context manager.

    A phase lasts until the next one, the next update or evaluation. `quiet` prints nothing at all.
    `stream` is stderr, and `clock` counts seconds, unless a test says otherwise.
    """

    def __init__(
        self,
        total_steps: int,
        title: str,
        quiet: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.total_steps, self.title, self.clock = total_steps, title, clock
        self.env_steps, self.speed = 0, 0.0
        self.return_mean: float | None = None
        self.eval_mean: float | None = None
        self.losses: dict[str, float] = {}
        self.phase_text, self.phase_since = "", 0.0
        self.training = False  # whether there was an update
        self.ended = False
        self.printed = -math.inf  # when the last plain line of training was

        file = Unfailing(stream or sys.stderr)
        console = Console(
            file=cast(TextIO, file), quiet=quiet, highlight=False, force_jupyter=False
        )
        self.console = console
        self.live: Live | None = None
        if file.isatty() and console.is_terminal and not (console.is_dumb_terminal or quiet):
            self.live = Live(
                Display(self), console=console, refresh_per_second=5, redirect_stdout=False
            )

    def __enter__(self) -> "Progress":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.end_phase()
        self.ended = True
        if self.live:
            self.live.stop()

    def phase(self, text: str) -> None:
        """Says what goes on: "compiling", "evaluating", "saving"; "training" or nothing ends it."""
        self.end_phase()
        if text in ("training", ""):
            return
        self.phase_text, self.phase_since = text, self.clock()
        if not self.live and (text == "compiling" or not self.training):
            self.print(f"{text} ...")

    def end_phase(self) -> None:
        """Says how long the phase took, where that was noticeable."""
        text, took = self.phase_text, self.clock() - self.phase_since
        self.phase_text = ""
        if text == "compiling":
            self.print(f"compiled in {took:.1f} s")
        elif text and took >= PLAIN_INTERVAL_S:
            self.print(f"{text} took {took:.1f} s")

    def update(
        self,
        env_steps: int,
        steps_per_second: float | None,
        return_mean: float | None = None,
        losses: Mapping[str, Any] | None = None,
    ) -> None:
        """Training got to `env_steps`. What is None or NaN leaves the last one standing.

        Of losses per seed, the mean shows.
        """
        self.end_phase()
        self.training, self.env_steps = True, env_steps
        self.speed = steps_per_second or self.speed
        if return_mean is not None and math.isfinite(return_mean):
            self.return_mean = float(return_mean)
        losses = {k: v for k, v in (losses or {}).items() if v is not None}
        self.losses = {k: float(np.mean(v)) for k, v in losses.items()}
        done, now = env_steps >= self.total_steps, self.clock()
        if not self.live and (done or now - self.printed >= PLAIN_INTERVAL_S):
            self.printed = now
            parts = [f"step {self.steps(env_steps)}", self.percent()]
            if self.speed:
                parts += [self.rate(), f"eta {self.time_left()}"]
            self.print("  ".join([*parts, *self.returns()]))

    def evaluated(
        self, env_steps: int, mean: float, std: float, episodes: int, exploitability: Any = None
    ) -> None:
        """A greedy evaluation at `env_steps` ended; of several seeds, means show."""
        self.end_phase()
        self.eval_mean = float(mean)
        if not self.live:
            count = f"{episodes} episode{'s' * (episodes != 1)}"
            line = f"step {self.steps(env_steps)}  eval {spread(mean, std)} ({count})"
            if exploitability is not None:
                line += f"  exploitability {np.mean(exploitability):.4f}"
            self.print(line)

    def message(self, text: str) -> None:
        """A line that should not be missed."""
        self.print(text, "bold yellow")

    def print(self, text: str, style: str = "") -> None:
        """A line that stays, above the live display."""
        self.console.print(Text(text, style), soft_wrap=True)

    def steps(self, env_steps: int) -> str:
        """Steps of the total, such as 40,960/100,000."""
        return f"{env_steps:,}/{self.total_steps:,}"

    def percent(self) -> str:
        """The share that is done, 100% only when all is."""
        return f"{min(100, 100 * self.env_steps // max(self.total_steps, 1))}%"

    def rate(self) -> str:
        """The speed, such as 12,345 steps/s or 0.25 steps/s."""
        return f"{self.speed:,.0f} steps/s" if self.speed >= 10 else f"{self.speed:.2g} steps/s"

    def time_left(self) -> str:
        """The time left at this speed, such as 1:05 or 2:00:59."""
        left = max(0, self.total_steps - self.env_steps)
        if not 0 < self.speed < math.inf:
            return "-:--"
        minutes, seconds = divmod(round(left / self.speed), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"

    def returns(self) -> list[str]:
        """The returns there are so far, of training episodes and of the last evaluation."""
        pairs = {"return": self.return_mean, "eval": self.eval_mean}
        return [f"{name} {short(x)}" for name, x in pairs.items() if x is not None]


class Display:
    """The live display of a Progress: two lines that fit any width.

    ⠙ PPO on CartPole-v1  ━━━━━━━━━━━━━━━━╺━━━━━━━━━━━━━━━━━━━━━━━  41%  0:05 left
      40,960/100,000 steps  return 187.2  eval 455.0  12,345 steps/s  actor_loss 0.0123
    """

    def __init__(self, progress: Progress):
        self.progress = progress

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        p, width = self.progress, options.max_width
        frames = ASCII_SPINNER if options.ascii_only else SPINNER
        yield fixed(" " if p.ended else frames[int(10 * p.clock()) % len(frames)], "cyan")
        waited = p.clock() - p.phase_since
        phase = f"{p.phase_text} ... {waited:.0f} s"
        if not p.training:
            yield fixed(f" {p.title}", "bold")
            yield fixed(f"  {phase}" if p.phase_text else "", "cyan")
            return
        busy = p.phase_text and waited >= PHASE_DELAY_S
        name = fixed(f" {phase}", "cyan") if busy else fixed(f" {p.title}", "bold")
        tail = fixed(f"  {p.percent():>4}" + f"  {p.time_left()} left" * bool(p.speed))
        room = width - 1 - tail.cell_len - name.cell_len
        if room >= 0:
            yield name
        if room >= 2 + MIN_BAR:
            size = min(MAX_BAR, room - 2)
            bar = [*console.render(ProgressBar(p.total_steps, p.env_steps, size), options)]
            yield from [Segment("  "), *bar]
            yield Segment(" " * (size - Segment.get_line_length(bar)))  # it ends early uncoloured
        yield tail
        yield Segment.line()
        losses = [f"{name} {short(x)}" for name, x in p.losses.items()]
        parts = [f"{p.steps(p.env_steps)} steps", *p.returns(), *[p.rate()] * bool(p.speed)]
        yield fixed(fitting([*parts, *losses], width), "dim")


def fixed(text: str, style: str = "") -> Text:
    """A piece of a line: it neither wraps nor ends the line."""
    return Text(text, style, no_wrap=True, overflow="crop", end="")


def fitting(parts: list[str], width: int) -> str:
    """As many of the first parts as fit beside each other, each after two spaces."""
    line = ""
    for part in parts:
        if len(line) + 2 + len(part) > width:
            break
        line += "  " + part
    return line


def short(x: float) -> str:
    """A number to read at a glance: 1,234.5, 9.87, 0.0123, 3e+38."""
    return f"{x:,.1f}" if 10 <= abs(x) < 1e9 else f"{x:.3g}"


def spread(mean: float, std: float) -> str:
    """Mean and deviation to the digits that the deviation makes worth telling: 0.95 ± 0.22."""
    size = max(abs(mean), abs(std))
    if not 0 < std < math.inf or not 1e-4 <= size < 1e9:
        return f"{short(mean)} ± {short(std)}"
    digits = min(max(1 - math.floor(math.log10(std)), 1 if size >= 10 else 2), 6)
    return f"{mean:,.{digits}f} ± {std:,.{digits}f}"


class Unfailing:
    """A text stream whose failures, such as being closed or absent, are ignored."""

    def __init__(self, stream: TextIO | None):
        self.stream: Any = stream
        self.encoding = getattr(stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self.stream.flush()

    def isatty(self) -> bool:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            return self.stream.isatty()
        return False
