"""Counts of a server, as the text that Prometheus reads."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024)


class Histogram:
    """How many values were at most each of some bounds."""

    def __init__(self, bounds: tuple[float, ...]):
        self.bounds, self.counts, self.total = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        """Counts a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def lines(self, name: str) -> Iterable[str]:
        """In the text format."""
        yield f"# TYPE {name} histogram"
        count = 0
        for bound, more in zip((*self.bounds, "+Inf"), self.counts, strict=True):
            count += more
            yield f'{name}_bucket{{le="{bound}"}} {count}'
        yield f"{name}_sum {self.total:.9g}"
        yield f"{name}_count {count}"


class Metrics:
    """What a server counts."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()  # by policy and status
        self.rows: Counter[str] = Counter()  # observations acted on, by policy
        self.reloads: Counter[tuple[str, str]] = Counter()  # by policy and result
        self.seconds = Histogram(SECONDS)  # from a request's head to its answer
        self.batches = Histogram(ROWS)  # observations in one call of a queued policy

    def text(self, versions: Iterable[tuple[str, str, str]], gauges: dict[str, int]) -> str:
        """All counts; `versions` are (policy, version, sha256) served."""
        lines = ["# TYPE parl_requests_total counter"]
        for (name, status), count in sorted(self.requests.items()):
            lines.append(f'parl_requests_total{{policy="{name}",status="{status}"}} {count}')
        lines.append("# TYPE parl_rows_total counter")
        lines += [f'parl_rows_total{{policy="{n}"}} {x}' for n, x in sorted(self.rows.items())]
        lines.append("# TYPE parl_reloads_total counter")
        for (name, result), count in sorted(self.reloads.items()):
            lines.append(f'parl_reloads_total{{policy="{name}",result="{result}"}} {count}')
        lines.append("# TYPE parl_policy gauge")
        for name, version, digest in versions:
            lines.append(f'parl_policy{{policy="{name}",version="{version}",sha256="{digest}"}} 1')
        for name, value in gauges.items():
            lines += [f"# TYPE parl_{name} gauge", f"parl_{name} {value}"]
        lines += self.seconds.lines("parl_request_seconds")
        lines += self.batches.lines("parl_batch_rows")
        return "\n".join(lines) + "\n"
