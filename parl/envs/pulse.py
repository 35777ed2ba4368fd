"""Signs of life of other processes that step or learn, and when such a process counts as lost."""

PATIENCE = 30.0  # seconds without a sign of life before a process counts as hung, at least
STARTUP = 120.0  # seconds on top of that for starting, importing and compiling
DEATHS = 5  # of one worker in a row that a run survives

beats = 0


def beat() -> None:
    """One environment was made, reset or stepped, one update made, or workers were looked at."""
    global beats
    beats += 1


def patience(deadline: float | None, longest: float) -> float:
    """Seconds without a sign of life: `deadline`, or ten times the longest so far."""
    return deadline or max(PATIENCE, 10 * longest)
