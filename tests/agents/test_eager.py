"""Without any compilation a run gives the same numbers, so that it can be debugged line by line."""

import jax
import numpy as np
import pytest
from tiny import Case, make, params_of


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "execution"),
    [
        ("dqn", "fused"),
        ("pg", "host"),
        ("ppo", "host"),
        ("sac", "host"),
        ("es", "fused"),
    ],
)
def test_eager_equals_compiled(algorithm: str, execution: str) -> None:
    changes = {} if algorithm in ("pg", "ppo", "es") else {"warmup": 0}
    case = Case(algorithm, execution, 1)
    compiled = make(case, **changes)
    report = compiled.advance(1)
    with jax.disable_jit():
        eager = make(case, **changes)
        eager_report = eager.advance(1)
    ours = params_of(eager)
    assert any(np.any(x != 0) for x in ours.values())
    for name, x in params_of(compiled).items():
        np.testing.assert_allclose(ours[name], x, rtol=1e-4, atol=1e-5, err_msg=name)
    for name, x in report.metrics.items():
        np.testing.assert_allclose(eager_report.metrics[name], x, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(eager_report.ended.return_sum, report.ended.return_sum, rtol=1e-5)
