"""One definition, several executions: they agree, can be cut anywhere, and resume bit for bit."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import quick, slow
from same import assert_equal
from tiny import (
    ENVS,
    LENGTH,
    NUM_ENVS,
    SEEDS,
    Case,
    make,
    make_learner,
    params_of,
    save,
    state_of,
)

from parl.agents.execution.collector import Collector
from parl.agents.execution.fused import Fused, collect, is_broken
from parl.agents.execution.pooled import Pooled
from parl.agents.execution.protocol import Execution
from parl.core.errors import ConfigError, EnvError, Halted
from parl.core.types import Step
from parl.envs.classic.pendulum import Pendulum
from parl.envs.jax_vector import JaxVectorEnv

ALGORITHMS = ("ppo", "dqn", "sac", "es")
MORE = ("normalized", "recurrent", "pg")
OFF_POLICY = ("dqn", "sac")
ITERATIONS = 7  # the first two of off-policy runs only fill
RUNS = [*((a, n) for a in ALGORITHMS for n in (1, 2)), *((a, 1) for a in MORE)]
# vmapped seeds on policy, one off policy, and one with memory; the programs of others are compiled
# with -m slow only
QUICK = (("ppo", 2), ("dqn", 1), ("recurrent", 1))


def in_time(*cases: Case) -> list[Any]:
    """Those whose runs are not of the quick ones are slow."""
    return quick(cases, *(c for c in cases if (c.algorithm, c.num_seeds) in QUICK))


CASES = [
    Case(algorithm, execution, num_seeds)
    for algorithm in ALGORITHMS
    for num_seeds in (1, 2)
    for execution in ("fused", "host", "gymnasium")
]
CASES += [Case(a, e, 1) for a in ("normalized", "recurrent") for e in ("fused", "host")]


WHOLE: dict[Case, tuple[Any, dict[str, Any], Execution]] = {}


def whole(case: Case) -> tuple[Any, dict[str, Any], Execution]:
    """(report, everything, the run itself) after an uninterrupted run."""
    if case not in WHOLE:
        run = make(case)
        report = run.advance(ITERATIONS)
        WHOLE[case] = report, state_of(run), run
    return WHOLE[case]


# -- the marquee test -----------------------------------------------------------------------------


@pytest.mark.parametrize(("algorithm", "num_seeds"), quick(RUNS, *QUICK))
def test_fused_and_host_learn_the_same(algorithm: str, num_seeds: int) -> None:
    """One JAX environment inside the program and behind numpy: equal parameters and counts."""
    (report, _, fused), (host_report, _, host) = (
        whole(Case(algorithm, execution, num_seeds)) for execution in ("fused", "host")
    )
    ours, theirs = params_of(fused), params_of(host)
    assert ours.keys() == theirs.keys()
    for name, x in ours.items():
        np.testing.assert_allclose(x, theirs[name], rtol=1e-4, atol=1e-5, err_msg=name)
    np.testing.assert_array_equal(report.ended.count, host_report.ended.count)
    np.testing.assert_allclose(report.ended.return_sum, host_report.ended.return_sum, rtol=1e-5)
    assert np.all(report.ended.count >= 4) and report.ended.count.shape == SEEDS[num_seeds].lead
    assert report.metrics.keys() == host_report.metrics.keys() != set()
    for name, x in report.metrics.items():
        np.testing.assert_allclose(x, host_report.metrics[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("algorithm", "num_seeds"), quick([r for r in RUNS if r[0] in ("dqn", "sac")], *QUICK)
)
def test_fused_and_host_store_the_same(algorithm: str, num_seeds: int) -> None:
    """Replay holds every step collected: the ring has wrapped around once."""
    fused, host = (
        whole(Case(algorithm, execution, num_seeds))[1] for execution in ("fused", "host")
    )
    for dtype in ("float32", "bool"):
        ours, theirs = fused[f"replay/{dtype}"], host[f"replay/{dtype}"]
        assert ours.shape[-2] == 96
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_seeds", [slow(1), 2])
def test_fused_and_host_collect_the_same(num_seeds: int) -> None:
    """PPO's rollouts, before each of four updates."""
    fused, host = (make(Case("ppo", execution, num_seeds)) for execution in ("fused", "host"))
    assert isinstance(fused, Fused) and isinstance(host, Pooled)
    env, algorithm = ENVS["ppo"], fused.learner.algorithm

    def roll(policy: Any, actor: Any, key: Any) -> Any:
        return collect(env, algorithm, policy, actor, jax.random.fold_in(key, 0), LENGTH)[1]

    program = jax.jit(fused.seeds.vmap(roll))
    inner, seen = host.pool.collect, []

    def record(random: bool) -> Any:
        fragments = inner(random=random)
        seen.append(fragments[0].rollout)
        return fragments

    host.pool.collect = record
    for _ in range(4):
        ours = jax.device_get(program(fused.policy, fused.run.actor, fused.run.keys.act))
        host.advance(1)
        theirs = seen[-1]
        assert jax.tree.structure(ours) == jax.tree.structure(theirs)
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            assert a.shape == b.shape and a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(ours.steps.action, theirs.steps.action)
        fused.advance(1)


@pytest.mark.slow
@pytest.mark.parametrize("execution", ["fused", "host"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_seed_among_several_is_that_seed_alone(algorithm: str, execution: str) -> None:
    alone = params_of(whole(Case(algorithm, execution, 1))[2])
    several = params_of(whole(Case(algorithm, execution, 2))[2])
    for name, x in alone.items():
        np.testing.assert_allclose(several[name][0], x, rtol=1e-3, atol=1e-4, err_msg=name)
    different = [name for name in alone if np.any(several[name][0] != several[name][1])]
    assert different, "the second seed is another run"


def test_replay_in_host_memory_learns_the_same(tmp_path: Path) -> None:
    """And resumes bit for bit, too."""
    case = Case("dqn", "host", 1)
    run = make(case, replay_on_host=True)
    run.advance(3)
    saved = save(run, tmp_path / "3")
    run.advance(4)
    for name, x in params_of(whole(case)[2]).items():
        np.testing.assert_allclose(params_of(run)[name], x, rtol=1e-4, atol=1e-5, err_msg=name)
    fresh = make(case, replay_on_host=True)
    fresh.advance(1)
    fresh.restore(saved)
    fresh.advance(4)
    assert_equal(state_of(fresh), state_of(run))


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (Case("sac", "fused", 1), "fused execution keeps replay on the device; set replay_on_host"),
        (Case("sac", "host", 2), "serves one seed at a time; set replay_on_host=False"),
    ],
    ids=str,
)
def test_replay_in_host_memory_is_for_one_seed_on_the_host(case: Case, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(case, replay_on_host=True)


# -- rollouts of whole episodes -------------------------------------------------------------------


@pytest.mark.parametrize("execution", ["host", "gymnasium"])
@pytest.mark.parametrize("algorithm", ["es", "normalized"])
def test_episodic_rollouts_open_new_episodes(algorithm: str, execution: str) -> None:
    """Episodes of 5 and of 9 steps in rollouts of 8; the fused ones are equal, see above."""
    run = make(Case(algorithm, execution, 1))
    assert isinstance(run, Pooled)
    both = [run.pool.collect(random=False)[0].rollout for _ in range(2)]
    opened = [np.flatnonzero(rollout.steps.first[:, 0]).tolist() for rollout in both]
    assert opened == ([[0, 5], [0, 5]] if algorithm == "es" else [[0], [1]])
    assert np.all(both[0].steps.obs[0] != both[1].steps.obs[0])
    if algorithm == "es":
        starts = [rollout.steps.extras["start"] for rollout in both]  # [T, B]
        assert np.all(starts[0][:5] == starts[0][0]) and np.all(starts[0][0] != starts[1][0])


# -- environments that break ----------------------------------------------------------------------


@dataclass(frozen=True)
class Breaking(Pendulum):
    """Returns NaN from the fifth step on, which a continuous policy then answers with NaN."""

    def step(self, state: Any, action: Any, key: Any) -> Any:
        state, obs, reward, terminated, truncated = super().step(state, action, key)
        return state, jnp.where(state.time > 4, jnp.nan, obs), reward, terminated, truncated


def test_an_environment_that_returns_nan_is_named() -> None:
    run = make(Case("normalized", "fused", 1))
    broken = Fused(Breaking(), run.learner, run.seeds, NUM_ENVS, LENGTH)
    with pytest.raises(EnvError, match="jax:Pendulum-v1 returned NaN or infinity before step 16;"):
        broken.advance(1)
    envs = [JaxVectorEnv(Breaking(), NUM_ENVS, 0)]
    collector = Collector(envs, run.learner.algorithm, run.seeds)
    with pytest.raises(
        EnvError, match="jax:Pendulum-v1 returned a NaN observation in environment 0 at step 5;"
    ):
        collector.collect(run.policy, LENGTH, random=True)


def test_whose_fault_nan_is() -> None:
    """Two steps of one environment; what follows a NaN action or NaN obs is not its doing."""
    nan, zero, yes, no = np.nan, 0.0, True, False

    def broken(obs: Any, action: Any, reward: Any, next_obs: Any, first: Any) -> bool:
        arrays = [np.array(x, np.float32)[:, None] for x in (obs, action, reward, next_obs)]
        first, discount = np.array(first)[:, None], np.ones((2, 1), np.float32)
        obs, action, reward, next_obs = arrays
        return bool(is_broken(Step(obs, action, reward, discount, next_obs, first, first, {})))

    fine = [zero, zero]
    assert not broken(fine, fine, fine, fine, [yes, no])
    assert broken(fine, fine, [zero, nan], fine, [yes, no])
    assert broken(fine, fine, [zero, -np.inf], fine, [yes, no])
    assert broken([zero, nan], [zero, nan], [zero, nan], [nan, nan], [yes, no])
    assert broken([nan, nan], [nan, nan], [nan, nan], [nan, nan], [yes, no]), "from the reset"
    assert not broken([zero, nan], [nan, nan], [nan, nan], [nan, nan], [yes, no])
    assert not broken([nan, nan], [nan, nan], [nan, nan], [nan, nan], [no, no])


# -- cut anywhere ---------------------------------------------------------------------------------


@pytest.mark.parametrize("case", in_time(*CASES), ids=str)
def test_chunks_and_resume_change_no_bit(case: Case, tmp_path: Path) -> None:
    """advance(7) is advance(3), advance(4), and so is a new run restored from the third."""
    report, expected, _ = whole(case)
    run = make(case)
    first = run.advance(3)
    saved = save(run, tmp_path / "3")
    second = run.advance(4)
    assert_equal(state_of(run), expected)
    np.testing.assert_array_equal(first.ended.count + second.ended.count, report.ended.count)

    fresh = make(case)
    fresh.advance(1)  # whatever it did before is forgotten
    fresh.restore(saved)
    assert fresh.iteration == 3
    third = fresh.advance(4)
    assert_equal(state_of(fresh), expected)
    told = lambda report: (report.metrics, report.ended)  # seconds differ
    jax.tree.map(np.testing.assert_array_equal, told(second), told(third))


@pytest.mark.parametrize(
    "case",
    in_time(Case("ppo", "host", 2), Case("es", "host", 1), Case("recurrent", "host", 1)),
    ids=str,
)
def test_breaking_off_a_rollout_changes_no_bit(case: Case, tmp_path: Path) -> None:
    """A rollout that ends early is gone on with, by the same run or by one that is restored."""
    run, steps = make(case), iter(range(100))
    run.advance(2)
    run.heed(lambda: next(steps) > LENGTH + 4)
    run.advance(4)
    assert run.iteration == 3, "the iterations that were whole are learned from"
    run.heed(lambda: next(steps) > LENGTH + 7)  # one step before the end of that rollout
    with pytest.raises(Halted):
        run.advance(4)
    saved = save(run, tmp_path / "3")
    run.heed(lambda: False)
    run.advance(4)
    assert_equal(state_of(run), whole(case)[1])
    fresh = make(case)
    fresh.restore(saved)
    fresh.advance(4)
    assert_equal(state_of(fresh), whole(case)[1])
    assert not any("begun" in name for name in state_of(fresh))


@pytest.mark.parametrize("execution", ["fused", "host"])
def test_resume_while_warming_up(execution: str, tmp_path: Path) -> None:
    case = Case("dqn", execution, 1)
    run, fresh = make(case), make(case)
    report = run.advance(1)
    assert report.metrics == {}, "nothing is learned yet"
    fresh.restore(save(run, tmp_path / "1"))
    fresh.advance(ITERATIONS - 1)
    assert_equal(state_of(fresh), whole(case)[1])


def test_snapshots_leave_a_run_as_it_was(tmp_path: Path) -> None:
    for execution in ("fused", "host"):
        run = make(Case("dqn", execution, 1))
        for i in range(ITERATIONS):
            save(run, tmp_path / str(i))
            run.advance(1)
        assert_equal(state_of(run), whole(Case("dqn", execution, 1))[1])


@pytest.mark.parametrize("case", in_time(*(c for c in CASES if c.execution == "host")), ids=str)
def test_learning_moves_parameters_and_warming_up_does_not(case: Case) -> None:
    """What all the equalities above would miss."""
    run = make(case)
    before = params_of(run)
    run.advance(2)
    moved = [n for n, x in params_of(run).items() if "params" in n and np.any(x != before[n])]
    assert bool(moved) == (case.algorithm not in OFF_POLICY)
    run.advance(3)
    after = params_of(run)
    still = [n for n in before if "kernel" in n and np.all(after[n] == before[n])]
    assert not still


@pytest.mark.parametrize("name", ENVS)
def test_a_run_that_is_resumed_finds_its_compiled_programs(name: str) -> None:
    """What comes from a checkpoint has strong types; weak ones at the start need a program more."""
    algorithm, spec = make_learner(name).algorithm, ENVS[name].spec
    start = jax.eval_shape(lambda key: algorithm.init(key, spec), jax.random.key(0))
    leaves = jax.tree.leaves_with_path(start)
    assert [jax.tree_util.keystr(path) for path, x in leaves if x.weak_type] == []
