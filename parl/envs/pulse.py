"""Counts the steps and resets of environments in this process, as a heartbeat."""

beats = 0


def beat() -> None:
    """One environment was made, reset or stepped."""
    global beats
    beats += 1
