"""Asynchronous execution on workers of this process, where what comes first is known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from marks import slow
from tiny import ENVS, LENGTH, SEEDS, Case, make, make_learner, params_of, save, state_of

from parl.agents.execution.collector import Collector
from parl.agents.execution.streamed import Streamed
from parl.core.seeding import env_seed
from parl.envs.jax_vector import JaxVectorEnv
from parl.remote import RolloutPool, chaos
from parl.remote.supervisor import Supervisor


def stream(algorithm: str, workers: int, share: int, fragments: int, **settings: Any) -> Streamed:
    """A new run of `workers` workers with `share` environments each."""
    seeds, num_envs = SEEDS[1], share * fragments
    learner = make_learner(algorithm, num_envs=num_envs)

    def build(worker: int) -> Collector:
        env = JaxVectorEnv(ENVS[algorithm], share, env_seed(seeds.values[0], worker))
        return Collector([env], learner.algorithm, seeds, worker)

    pool = RolloutPool(
        build, workers, share, LENGTH, "async", "inline", max_in_flight=1, **settings
    )
    spec = ENVS[algorithm].spec
    return Streamed(pool, fragments, spec, learner, seeds, num_envs, LENGTH)


def supervisor(run: Streamed) -> Supervisor:
    assert isinstance(run.pool, RolloutPool)
    return run.pool.supervisor


def lags(run: Streamed) -> list[int]:
    return list(supervisor(run).gauge.lags)


@pytest.mark.parametrize("algorithm", ["dqn", slow("recurrent")])
def test_one_worker_that_never_runs_ahead_is_the_synchronous_run(algorithm: str) -> None:
    """Bit for bit: what streams is learned from by the same code."""
    run, host = stream(algorithm, 1, 2, 1), make(Case(algorithm, "host", 1))
    report, expected = run.advance(5), host.advance(5)
    ours, theirs = params_of(run), params_of(host)
    assert ours.keys() == theirs.keys()
    for name, x in ours.items():
        np.testing.assert_array_equal(x, theirs[name], err_msg=name)
    np.testing.assert_array_equal(report.ended.count, expected.ended.count)
    assert lags(run) == [0] * 5


def test_off_policy_learns_from_each_fragment_while_the_other_worker_collects() -> None:
    run = stream("dqn", 2, 1, 1)
    assert (run.steps_per_iteration, run.warmup) == (8, 4)
    run.advance(8)
    assert lags(run) == [0] + [1] * 7
    stats = run.stats()
    assert stats["pool/trained"] == 64 == run.iteration * run.steps_per_iteration
    assert stats["pool/produced"] == 72 and stats["pool/in_queue"] == 8
    assert (stats["pool/lag_p50"], stats["pool/lag_p99"]) == (1.0, 1.0)
    assert int(run.state.replay.size) == 64


def test_on_policy_learns_from_as_many_fragments_as_fill_a_rollout() -> None:
    run = stream("recurrent", 2, 1, 2)
    assert run.steps_per_iteration == 16
    shapes = []
    inner = run.learn

    def learn(learner: Any, state: Any, rollout: Any, *rest: Any) -> Any:
        shapes.append(rollout.steps.reward.shape)
        return inner(learner, state, rollout, *rest)

    run.learn = learn
    run.advance(4)
    assert shapes == [(LENGTH, 2)] * 4
    # the first of a rollout was asked for before the update, the second after it
    assert lags(run) == [0, 0, 1, 0, 1, 0, 1, 0]
    stats = run.stats()
    assert stats["pool/trained"] == 64 and stats["pool/dropped_stale"] == 0


def test_resume_has_the_same_learner_and_exact_books(tmp_path: Path) -> None:
    run = stream("dqn", 2, 1, 1)
    run.advance(6)
    shot = run.snapshot()
    assert not shot.exact and not any(name.startswith("workers") for name in shot.tree)
    saved = save(run, tmp_path / "6")
    fresh = stream("dqn", 2, 1, 1)
    fresh.restore(saved)
    for name, x in state_of(run).items():
        np.testing.assert_array_equal(state_of(fresh)[name], x, err_msg=name)
    assert fresh.iteration == 6
    books = fresh.stats()
    waiting = run.stats()["pool/in_queue"]
    assert waiting == 8 == books["pool/lost"], "what waited is lost, and the books know"
    assert books["pool/trained"] == books["pool/produced"] == 48
    fresh.advance(4)
    assert fresh.stats()["pool/trained"] == 80 == fresh.iteration * fresh.steps_per_iteration
    assert int(fresh.state.replay.size) == 80
    before, after = (
        supervisor(each).seed_index(supervisor(each).slots[0]) for each in (run, fresh)
    )
    assert before == 0 and after > 1, "workers go on from fresh seeds"


def test_books_are_exact_under_chaos() -> None:
    run = stream("dqn", 2, 1, 1, seed=1)
    with chaos(kill=0.1, raise_=0.1, nan=0.1, seed=4) as faults:
        run.advance(40)
    stats = run.stats()  # asserts the identity
    assert stats["pool/trained"] == 320 == run.iteration * run.steps_per_iteration
    assert stats["pool/produced"] == 320 + stats["pool/in_queue"]
    assert stats["pool/lost"] == 8 * sum(faults.injected.values()) > 0
    assert stats["pool/deaths"] == faults.injected["kill"] > 0
    assert stats["pool/rebuilds"] == faults.injected["raise_"] + faults.injected["nan"] > 0
    assert stats["pool/given_up"] == 0
    for name, x in params_of(run).items():
        assert np.isfinite(x).all(), name


def test_stale_rollouts_are_dropped_and_counted() -> None:
    run = stream("recurrent", 2, 1, 2, max_policy_lag=0)
    run.advance(3)
    stats = run.stats()
    assert stats["pool/trained"] == 48
    assert stats["pool/dropped_stale"] > 0 and stats["pool/lag_p99"] == 0
