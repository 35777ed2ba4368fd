"""Counts what the environments of this process do: a sign of life where they are slow."""

beats = 0


def beat() -> None:
    """One environment was made, reset or stepped."""
    global beats
    beats += 1
