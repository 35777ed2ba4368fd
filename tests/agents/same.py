"""Runs that must be the same: fused and host, resumed, and a seed alone or among several."""

from pathlib import Path
from typing import Any

import numpy as np
from tiny import Case, make, params_of, save, state_of

from parl.agents.execution.protocol import Execution, Report


def assert_equal(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Bit for bit."""
    assert ours.keys() == theirs.keys()
    for name, x in ours.items():
        assert x.tobytes() == theirs[name].tobytes(), name


def assert_fused_is_host(name: str) -> tuple[list[str], Report, Report]:
    """Both learn the same in six iterations. (weights that moved, what each reports)."""
    fused, host = (make(Case(name, execution, 1)) for execution in ("fused", "host"))
    before = params_of(fused)
    reports = fused.advance(6), host.advance(6)  # the first two of off-policy runs only fill
    ours, theirs = params_of(fused), params_of(host)
    assert ours.keys() == theirs.keys()
    for key, x in ours.items():
        np.testing.assert_allclose(x, theirs[key], rtol=1e-3, atol=1e-4, err_msg=key)
        assert np.isfinite(x).all(), key
    assert reports[0].metrics.keys() == reports[1].metrics.keys()
    np.testing.assert_allclose(reports[0].ended.return_sum, reports[1].ended.return_sum, rtol=1e-4)
    moved = [key for key in ours if "kernel" in key and np.any(ours[key] != before[key])]
    return moved, *reports


def assert_resumes(run: Execution, fresh: Execution, path: Path) -> None:
    """`fresh`, restored from the third of six iterations of `run`, ends bit for bit as it does."""
    run.advance(3)
    saved = save(run, path / "3")
    run.advance(3)
    fresh.restore(saved)
    fresh.advance(3)
    assert_equal(state_of(run), state_of(fresh))


def assert_alone_as_among_several(name: str) -> None:
    """A seed learns the same in a run of its own and beside another one, which learns otherwise."""
    runs: list[Any] = [make(Case(name, "fused", seeds)) for seeds in (1, 2)]
    for run in runs:
        run.advance(4)
    alone, several = (params_of(run) for run in runs)
    for key, x in alone.items():
        np.testing.assert_allclose(several[key][0], x, rtol=1e-3, atol=1e-3, err_msg=key)
    assert any(np.any(x[0] != x[1]) for x in several.values())
