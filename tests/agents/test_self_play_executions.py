"""Self-play in fused and host execution: they agree, and resume bit for bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from marks import quick
from same import assert_resumes
from tiny import params_of, state_of

from parl.agents.execution.collector import Collector
from parl.agents.execution.fused import Fused
from parl.agents.execution.pool import InlinePool
from parl.agents.execution.pooled import Pooled
from parl.agents.execution.protocol import Execution, Seeds
from parl.core.seeding import env_seed
from parl.envs.jax_vector import JaxVectorEnv
from parl.envs.multi.board_games import TIC_TAC_TOE
from parl.recipes import make_recipe
from parl.runs.opponents import with_opponent

NUM_ENVS, LENGTH, SEEDS = 8, 9, Seeds((5,))
SETTINGS: dict[str, dict[str, Any]] = {
    "ippo": {"epochs": 2, "minibatches": 2},
    "iql": {"capacity": 50, "batch_size": 4, "updates": 1, "warmup": 100, "target_period": 3},
}
NAMES = quick(SETTINGS, "ippo")


def make(name: str, execution: str) -> Execution:
    """A new run at its start."""
    spec = TIC_TAC_TOE.spec
    recipe = make_recipe(name, spec).override({"hidden": (6,), "length": LENGTH} | SETTINGS[name])
    learner = recipe.learner(spec, 10_000, NUM_ENVS)
    learner = with_opponent(learner, "pool", spec, None, pool_size=3, admit_every=1)
    learner = learner.replace(algorithm=learner.algorithm.replace(match_steps=LENGTH))
    if execution == "fused":
        return Fused(TIC_TAC_TOE, learner, SEEDS, NUM_ENVS, LENGTH)
    env = JaxVectorEnv(TIC_TAC_TOE, NUM_ENVS, env_seed(5, 0))
    collector = Collector([env], learner.algorithm, SEEDS)
    return Pooled(InlinePool([collector], LENGTH), spec, learner, SEEDS, NUM_ENVS, LENGTH)


@pytest.mark.parametrize("name", NAMES)
def test_fused_and_host_play_and_learn_the_same(name: str) -> None:
    fused, host = make(name, "fused"), make(name, "host")
    report, host_report = fused.advance(6), host.advance(6)
    ours, theirs = params_of(fused), params_of(host)
    for key, x in ours.items():
        np.testing.assert_allclose(x, theirs[key], rtol=1e-3, atol=1e-4, err_msg=key)
    pool, other = fused.algorithm_state.pool, host.algorithm_state.pool
    assert int(pool.size) == 3
    if name == "ippo":  # IQL's few games may all have been against those replaced since
        assert float(pool.games.sum()) > 8
    for field in ("games", "score", "ratings", "rating"):
        np.testing.assert_allclose(getattr(pool, field), getattr(other, field), rtol=1e-5)
    assert float(pool.rating) != 1000.0 and set(np.asarray(fused.algorithm_state.drawn)) <= {
        0,
        1,
        2,
    }
    np.testing.assert_allclose(report.metrics["elo"], host_report.metrics["elo"], rtol=1e-5)
    assert report.ended.count == host_report.ended.count > 20 and report.ended.return_sum == 0


@pytest.mark.slow
@pytest.mark.parametrize("execution", ["fused", "host"])
@pytest.mark.parametrize("name", NAMES)
def test_resume_changes_no_bit(name: str, execution: str, tmp_path: Path) -> None:
    """The pool, its ratings and who is drawn included."""
    run, fresh = make(name, execution), make(name, execution)
    assert_resumes(run, fresh, tmp_path)
    assert any("pool/policies" in key for key in state_of(run))
