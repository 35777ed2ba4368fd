import io
import os
import sys
import time

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from parl.report.progress import Display, Progress, fitting, short


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def terminal(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    return Terminal()


def shown(progress, width):
    """The live display as text."""
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=False)
    console.print(Display(progress))
    return file.getvalue().rstrip("\n").split("\n")


def test_plain_lines(clock):
    stream = io.StringIO()
    with Progress(100_000, "PPO", stream=stream, clock=clock) as progress:
        progress.phase("compiling")
        clock.now += 5.125
        progress.update(10_000, 12_345.4)  # the first is shown
        clock.now += 9
        progress.update(20_000, 1.0, 1.0)  # too soon
        clock.now += 1
        progress.update(40_960, 12_345.4, 187.25, {"loss": jnp.float32(0.5)})
        progress.phase("evaluating")
        clock.now += 3
        progress.evaluated(40_960, 455.0, 12.34, 10)
        progress.phase("saving")
        clock.now += 12
        progress.phase("training")
        progress.message("[loud]")
        progress.update(100_000, 12_345.4, None)  # the last is shown
    assert stream.getvalue().splitlines() == [
        "compiling ...",
        "compiled in 5.1 s",
        "step 10,000/100,000  10%  12,345 steps/s  eta 0:07",
        "step 40,960/100,000  40%  12,345 steps/s  eta 0:05  return 187.2",
        "step 40,960/100,000  eval 455.0 ± 12.3 (10 episodes)",
        "saving took 12.0 s",
        "[loud]",
        "step 100,000/100,000  100%  12,345 steps/s  eta 0:00  return 187.2  eval 455.0",
    ]


def test_it_writes_to_stderr(capsys):
    with Progress(10, "PPO") as progress:
        progress.evaluated(10, -1, 0, 1)
    out, err = capsys.readouterr()
    assert (out, err) == ("", "step 10/10  eval -1 ± 0 (1 episode)\n")


def test_long_lines_are_not_wrapped():
    stream = io.StringIO()
    Progress(10, "PPO", stream=stream).message("word " * 100)
    assert stream.getvalue() == "word " * 100 + "\n"


def test_quiet(capsys, terminal, clock):
    for stream in (None, terminal):
        with Progress(10, "PPO", quiet=True, stream=stream, clock=clock) as progress:
            progress.phase("compiling")
            clock.now += 60
            progress.update(10, 1.0, 1.0)
            progress.evaluated(10, 1.0, 0.0, 2)
            progress.message("loud")
    assert capsys.readouterr() == ("", "")
    assert terminal.getvalue() == ""


def use(progress):
    with progress:
        progress.phase("compiling")
        progress.update(10, 1.0, 1.0)
        progress.evaluated(10, 1.0, 0.0, 2)
        progress.message("loud")


def test_a_stream_that_fails_stops_nothing(monkeypatch):
    closed = io.StringIO()
    closed.close()
    use(Progress(10, "PPO", stream=closed))
    with open("/dev/full", "w", buffering=1) as full:
        use(Progress(10, "PPO", stream=full))
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())  # lets it close
    monkeypatch.setattr(sys, "stderr", None)
    use(Progress(10, "PPO"))


def test_live_before_and_while_compiling(clock):
    progress = Progress(100_000, "PPO on CartPole-v1", stream=io.StringIO(), clock=clock)
    assert shown(progress, 80) == ["⠋ PPO on CartPole-v1"]
    progress.phase("compiling")
    clock.now += 3.2
    assert shown(progress, 80) == ["⠹ PPO on CartPole-v1  compiling ... 3 s"]
    assert shown(progress, 8) == ["⠹ PPO on"]


def test_live_while_training(clock):
    progress = Progress(100_000, "PPO on CartPole-v1", stream=io.StringIO(), clock=clock)
    progress.evaluated(0, 9.5, 0.5, 10)
    progress.update(40_960, 12_345.4, float("nan"))
    progress.update(40_960, 12_345.4, 187.25, {"loss": np.array([0.25, 0.75]), "kl": None})
    first, second = shown(progress, 80)
    assert first == f"⠋ PPO on CartPole-v1  {'━' * 16:40}   40%  0:05 left"
    assert second == "  40,960/100,000 steps  return 187.2  eval 9.5  12,345 steps/s  loss 0.5"
    assert shown(progress, 50) == [
        f"⠋ PPO on CartPole-v1  {'━━━━╸':11}   40%  0:05 left",
        "  40,960/100,000 steps  return 187.2  eval 9.5",
    ]
    assert shown(progress, 40) == [
        "⠋ PPO on CartPole-v1   40%  0:05 left",
        "  40,960/100,000 steps  return 187.2",
    ]
    assert shown(progress, 20) == ["⠋   40%  0:05 left"]


@pytest.mark.parametrize("width", [1, 2, 5, 10, 23, 37, 200])
def test_live_fits_any_width(clock, width):
    progress = Progress(10**9, "長い題 " * 5, stream=io.StringIO(), clock=clock)
    progress.update(123_456_789, 1e6, -1.5e9, {"loss": 1e-9})
    lines = shown(progress, width)
    assert len(lines) <= 2
    assert all(Console().measure(line).maximum <= width for line in lines)


def test_live_shows_only_long_phases_once_training(clock):
    progress = Progress(100, "PPO", stream=io.StringIO(), clock=clock)
    progress.update(50, 1.0)
    progress.phase("evaluating")
    clock.now += 0.5
    assert shown(progress, 80)[0].split()[1] == "PPO"
    clock.now += 1
    assert shown(progress, 80)[0][2:].startswith("evaluating ... 2 s  ━")
    progress.phase("training")
    assert shown(progress, 80)[0].split()[1] == "PPO"


def test_time_left(clock):
    progress = Progress(10_000, "PPO", stream=io.StringIO(), clock=clock)
    assert progress.time_left() == "-:--"
    for speed, text in [(0.0, "-:--"), (float("nan"), "-:--"), (100.0, "1:40"), (1.0, "2:46:40")]:
        progress.update(0, speed)
        assert progress.time_left() == text
    progress.update(12_000, 1.0)
    assert (progress.time_left(), progress.percent()) == ("0:00", "100%")
    progress.update(9_999, 1.0)
    assert progress.percent() == "99%"


def test_live_on_a_terminal(terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with Progress(100, "PPO", stream=terminal) as progress:
        assert progress.live is not None
        progress.phase("compiling")
        time.sleep(0.3)
        progress.update(100, 50.0, 7.5)
        progress.message("[loud]")
        print("a result")  # stdout is left alone
    text = terminal.getvalue()
    assert "compiling ... 0 s" in text and "compiled in 0." in text and "[loud]" in text
    assert "return 7.5" in text and "a result" not in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is back
    assert "\x1b[?25h" in text[text.rindex("return 7.5") :]


def test_a_dumb_terminal_gets_plain_lines(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    with Progress(100, "PPO", stream=terminal) as progress:
        progress.phase("compiling")
    assert terminal.getvalue().startswith("compiling ...\ncompiled in 0.0 s\n")


def test_an_exception_passes_and_the_cursor_returns(terminal):
    with pytest.raises(KeyboardInterrupt), Progress(100, "PPO", stream=terminal):
        raise KeyboardInterrupt
    assert "\x1b[?25h" in terminal.getvalue()


def test_short():
    numbers = [1234.56, -187.25, 9.876, 0.01234, 0.0, 1e-9, float("nan")]
    texts = ["1,234.6", "-187.2", "9.88", "0.0123", "0", "1e-09", "nan"]
    assert [short(x) for x in numbers] == texts


def test_fitting():
    assert fitting(["ab", "c", "def"], 7) == "  ab  c"
    assert fitting(["ab", "c", "def"], 3) == ""
