"""The algorithms of values in fused and host execution: they agree, and resume bit for bit.

Rainbow (a distribution, noise, priorities and windows) and R2D2 (memory) in every run, hindsight in
one of them, the others with `-m slow`.
"""

from pathlib import Path

import pytest
from marks import quick
from same import assert_alone_as_among_several, assert_fused_is_host, assert_resumes
from tiny import VALUES, Case, make


@pytest.mark.parametrize("name", quick(VALUES, "rainbow"))
def test_fused_and_host_learn_the_same(name: str) -> None:
    moved, _, _ = assert_fused_is_host(name)
    assert moved


@pytest.mark.parametrize("execution", ["fused", "host"])
@pytest.mark.parametrize("name", quick(VALUES, "rainbow"))
def test_resume_changes_no_bit(name: str, execution: str, tmp_path: Path) -> None:
    case = Case(name, execution, 1)
    assert_resumes(make(case), make(case), tmp_path)


@pytest.mark.parametrize("name", quick(VALUES))
def test_a_seed_among_several_is_that_seed_alone(name: str) -> None:
    assert_alone_as_among_several(name)
