"""Whether a cluster's head answers. Ray itself waits a minute for it, then ends the process."""

import socket
import time

INTERVAL = 3.0  # seconds between two looks
SILENCE = 15.0  # seconds without an answer after which the head counts as ended
TIMEOUT = 2.0  # seconds for one answer


def answers(address: str, timeout: float = TIMEOUT) -> OSError | None:
    """Nothing where somebody listens at host:port, else the error."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout).close()
    except OSError as error:
        return error
    return None


class Watch:
    """Looks at one address now and then."""

    def __init__(self, address: str):
        self.address, self.looked = address, float("-inf")
        self.since: float | None = None  # when the first look failed of those that did in a row

    def silent(self) -> float:
        """Seconds since the head has not answered, if that is longer than SILENCE; else 0."""
        now = time.monotonic()
        if now - self.looked >= INTERVAL:
            self.look()
        silence = 0.0 if self.since is None else now - self.since
        return silence if silence > SILENCE else 0.0

    def look(self) -> bool:
        """Whether the head answers now."""
        self.looked = time.monotonic()
        failed = answers(self.address) is not None
        self.since = (self.since or self.looked) if failed else None
        return not failed

    def wait(self) -> None:
        """Returns once the head answers or has been silent for too long: calls would wait."""
        while not self.look() and not self.silent():
            time.sleep(0.5)
