"""What the learner's time goes into: shares of the time since the line of metrics before."""

from collections.abc import Mapping, Sequence
from typing import Any

SHARES = {
    "wait": "waiting for data",
    "compute": "computing",
    "publish": "publishing",
    "eval": "evaluating",
    "save": "saving",
}


def shares(phases: Mapping[str, float], within: Mapping[str, float]) -> dict[str, float | None]:
    """Shares of a time, as NAME_share; None of no time.

    `phases` are seconds by phase of the run, `within` those of training spent on waiting for data
    and on publishing policies. The rest of training and compilation is computing.
    """
    whole = sum(phases.values())
    wait, publish = within.get("wait", 0.0), within.get("publish", 0.0)
    spent = {
        "wait": wait,
        "compute": phases["train"] + phases["compile"] - wait - publish,
        "publish": publish,
        "eval": phases["eval"],
        "save": phases["save"],
    }
    return {
        f"{name}_share": round(x / whole, 4) if whole > 0 else None for name, x in spent.items()
    }


def in_words(records: Sequence[Mapping[str, Any]]) -> str:
    """A line on a run's learner: its shares over all records, and the lag of the last one.

    Empty where nothing is known of them, as in runs of older versions.
    """
    ends = [record.get("wall_s") for record in records]
    spans = [(end or 0.0) - (begin or 0.0) for begin, end in zip([0.0, *ends], ends, strict=False)]
    known = [
        (span, record)
        for span, record in zip(spans, records, strict=True)
        if span > 0 and record.get("compute_share") is not None
    ]
    whole = sum(span for span, _ in known)
    if not whole:
        return ""
    mean = {
        what: sum(span * record[f"{name}_share"] for span, record in known) / whole
        for name, what in SHARES.items()
    }
    told = [f"{what} {share:.0%}" for what, share in mean.items() if share >= 0.005]
    lags = [records[-1].get(f"pool/lag_p{p}") for p in (50, 99)]
    lag = "" if None in lags else f"; lag p50 {lags[0]:g}, p99 {lags[1]:g} versions"
    return f"the learner's time: {', '.join(told)}{lag}"
