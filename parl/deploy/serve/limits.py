"""How much a server takes, and the answer to what is beyond it or is no request."""

from typing import NamedTuple

MIB = 1 << 20
NUMBER = 16  # bytes of a number in a body, at most, where its rows fill it


class Limits(NamedTuple):
    """How much a server takes."""

    rows: int = 256  # observations in a request
    sessions: int = 10_000  # environments that are remembered, of all sessions
    idle: float = 600.0  # seconds after which an unused session is forgotten
    pending: int = 1024  # requests under way
    held: int = 64 * MIB  # bytes of all bodies that are being read
    seconds: float = 10.0  # of a request, from its head to its answer

    def body(self, numbers: int) -> int:
        """The longest body of a request for a policy that sees so many numbers a row."""
        return min(max(self.rows * numbers * NUMBER, MIB), 16 * MIB)


class Refusal(Exception):
    """A request is not answered with an action: its HTTP status, and why, in one sentence."""

    def __init__(self, status: int, sentence: str, **headers: str):
        super().__init__(sentence)
        self.status, self.sentence = status, sentence
        self.headers = [(n.replace("_", "-").encode(), x.encode()) for n, x in headers.items()]


def busy(sentence: str) -> Refusal:
    """The refusal of a request that may be sent again in a moment."""
    return Refusal(503, sentence, retry_after="1")
