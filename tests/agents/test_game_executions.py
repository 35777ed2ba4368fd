"""Algorithms for games of hidden information: executions agree, and resume bit for bit."""

from pathlib import Path

import numpy as np
import pytest
from marks import quick, slow
from same import assert_alone_as_among_several, assert_fused_is_host, assert_resumes
from tiny import GAMES, Case, make, state_of


@pytest.mark.parametrize("name", quick(GAMES))
def test_fused_and_host_learn_the_same(name: str) -> None:
    moved, report, other = assert_fused_is_host(name)
    assert moved and report.metrics
    assert report.ended.return_sum == 0 and report.ended.count == other.ended.count > 10


@pytest.mark.parametrize("execution", ["fused", slow("host")])
@pytest.mark.parametrize("name", quick(GAMES))
def test_resume_changes_no_bit(name: str, execution: str, tmp_path: Path) -> None:
    """Reservoirs, pools and payoffs included."""
    case = Case(name, execution, 1)
    run = make(case)
    assert_resumes(run, make(case), tmp_path)
    state = state_of(run)
    part = {"nfsp": "reservoir/seen", "psro": "rollouts", "mmd": "magnet"}[name]
    (counts, *_) = [x for key, x in state.items() if part in key]
    assert np.any(counts)


@pytest.mark.slow
@pytest.mark.parametrize("name", GAMES)
def test_a_seed_among_several_is_that_seed_alone(name: str) -> None:
    assert_alone_as_among_several(name)
