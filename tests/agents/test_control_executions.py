"""The off-policy actor-critics in fused and host execution: they agree, and resume bit for bit.

TD3 (delayed policies, noise that remembers) and CrossQ (batch statistics) in every run, the others
with `-m slow`: their programs take long to compile.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from marks import quick, slow
from same import assert_alone_as_among_several, assert_fused_is_host, assert_resumes
from tiny import CONTROL, Case, make, params_of


@pytest.mark.parametrize("name", quick(CONTROL, "td3"))
def test_fused_and_host_learn_the_same(name: str) -> None:
    moved, report, _ = assert_fused_is_host(name)
    clones = name in ("bc", "dagger", "dt")
    assert any("actor" in key for key in moved)
    assert any("critic" in key for key in moved) != clones
    assert report.metrics.keys() >= ({"loss"} if clones else {"critic_loss", "td_error"})


@pytest.mark.parametrize("execution", ["fused", "host", slow("offline")])
@pytest.mark.parametrize("name", quick(CONTROL, "td3"))
def test_resume_changes_no_bit(name: str, execution: str, tmp_path: Path) -> None:
    case = Case(name, execution, 1)
    assert_resumes(make(case), make(case), tmp_path)


@pytest.mark.parametrize("name", quick(CONTROL))
def test_a_seed_among_several_is_that_seed_alone(name: str) -> None:
    """A delayed policy is delayed alike for all."""
    assert_alone_as_among_several(name)


VARIANTS: list[Any] = [
    {"n_step": 3, "priority": 0.6},
    {"n_step": 3, "replay_on_host": True},
    {"priority": 0.6, "replay_on_host": True},
    {"reset_every": 3},
]


@pytest.mark.slow
@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_variants_resume_bit_for_bit(changes: dict[str, Any], tmp_path: Path) -> None:
    """Windows go on over rollouts, priorities are those of the errors so far; fused agrees."""
    case = Case("sac", "host", 1)
    run, fresh, plain = make(case, **changes), make(case, **changes), make(case)
    assert_resumes(run, fresh, tmp_path)
    plain.advance(6)
    if "reset_every" not in changes:  # whose state is another
        other = params_of(plain)
        assert any(np.any(x != other[key]) for key, x in params_of(run).items())
    if "replay_on_host" in changes:
        return
    fused = make(Case("sac", "fused", 1), **changes)
    fused.advance(6)
    for key, x in params_of(run).items():
        np.testing.assert_allclose(params_of(fused)[key], x, rtol=1e-3, atol=1e-3, err_msg=key)
