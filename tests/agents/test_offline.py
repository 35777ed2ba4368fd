"""Learning from data: what is drawn from it, in one phase and in two, alone and mixed."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from same import assert_equal, assert_resumes
from tiny import (
    CARTPOLE,
    PENDULUM,
    SEEDS,
    Case,
    data_for,
    from_data,
    make,
    make_learner,
    params_of,
    save,
)

from parl.agents.execution.fused import Fused
from parl.agents.execution.offline import Data, Offline
from parl.agents.execution.then_online import ThenOnline
from parl.agents.learner import FromData, LearnerState
from parl.agents.replay.ring import Layout, NumpyReplay, Replay
from parl.agents.replay.sampling import NextAction, NStep, Prioritized
from parl.core.errors import CheckpointError
from parl.core.types import Step

SPEC = PENDULUM.spec
pytestmark = pytest.mark.usefixtures("compiled_replay")


def numbered(last: list[bool], discount: list[float] | None = None) -> Data:
    """Steps whose reward and action are their number: obs n, next_obs n + 1."""
    count = len(last)
    n = np.arange(count, dtype=np.float32)
    ends = np.array(last)
    first = np.append(True, ends[:-1])
    factor = np.ones(count, np.float32) if discount is None else np.asarray(discount, np.float32)
    steps = Step(n[:, None], n[:, None], n, factor, n[:, None] + 1, first, ends, {})
    layout = Layout.of(steps)
    return Data(layout.pack(steps, np), layout, "")


def filled(replay: Any, data: Data) -> Any:
    return replay.filled({k: jnp.asarray(x) for k, x in data.rows.items()}, data.layout, ())


def test_every_step_is_drawn_and_only_those() -> None:
    data = numbered([False] * 5)
    steps = Replay(1).sample(filled(Replay(1), data), jax.random.key(0), (400,))
    counts = np.bincount(np.asarray(steps.reward, int), minlength=5)
    assert len(counts) == 5 and counts.min() > 50


def test_n_steps_of_data_end_with_the_episode_and_with_the_data() -> None:
    data = numbered([False, True, False, False, False], [1.0, 0.0, 1.0, 1.0, 1.0])
    replay = NStep(Replay(1), 3, 0.5)
    steps = replay.at(filled(replay, data), jnp.arange(5))
    np.testing.assert_allclose(steps.reward, [0 + 0.5 * 1, 1, 2 + 1.5 + 1, 3 + 2, 4])
    np.testing.assert_allclose(steps.next_obs[:, 0], [2, 2, 5, 5, 5])
    np.testing.assert_allclose(steps.discount, [0.0, 0.0, 0.25, 0.5, 1.0])


def test_the_next_action_is_known_within_an_episode() -> None:
    data = numbered([False, True, False, False])
    replay = NextAction(Replay(1))
    steps = replay.at(filled(replay, data), jnp.arange(4))
    np.testing.assert_array_equal(steps.extras["next_known"], [True, False, True, False])
    np.testing.assert_array_equal(steps.extras["next_action"][[0, 2], 0], [1, 3])


def test_all_data_begin_with_one_priority_and_learn_theirs() -> None:
    data = numbered([False] * 300)
    replay = Prioritized(Replay(1), 1.0)
    state = filled(replay, data)
    drawn = replay.index(state, jax.random.key(0), (600,))
    assert len(np.unique(drawn)) > 200
    state = replay.learned(state, jnp.arange(300), jnp.where(jnp.arange(300) == 7, 1e6, 0.0))
    assert (np.asarray(replay.index(state, jax.random.key(1), (50,))) == 7).mean() > 0.9


def mixed(share: float, batch: int) -> tuple[FromData, LearnerState]:
    learner = FromData(None, Replay(4), batch, 2, share=share)  # pyright: ignore
    full, none = np.full((4, 1), 100.0, np.float32), np.zeros((4, 1), np.float32)
    flag = np.ones(4, bool)
    items: Any = Step(full, full, full[:, 0], none[:, 0], none, flag, flag, {})
    ring = learner.replay.add(learner.replay.init(items), items)
    return learner, LearnerState({}, ring, data=filled(learner.replay, numbered([False] * 5)))


@pytest.mark.parametrize(("share", "of_data"), [(0.0, 0), (0.5, 4), (0.3, 2), (1.0, 8)])
def test_a_share_of_each_batch_is_of_the_data(share: float, of_data: int) -> None:
    learner, state = mixed(share, 8)
    _, batches = learner.sample(state, jax.random.key(0))
    from_data = np.asarray(batches.reward) < 50
    assert batches.reward.shape == (2, 8)
    np.testing.assert_array_equal(from_data.sum(1), of_data)


def test_a_share_of_nothing_is_learning_online_bit_for_bit() -> None:
    """With the data at hand."""
    case = Case("dqn", "fused", 1)
    plain: Any = make(case)
    data = data_for(CARTPOLE.spec)
    held = Replay(1).filled({k: jnp.asarray(x) for k, x in data.rows.items()}, data.layout, ())
    learner = from_data(make_learner("dqn"), 0.0)
    with_data = Fused(CARTPOLE, learner, SEEDS[1], 2, 8, held)
    for run in (plain, with_data):
        run.advance(4)
    assert_equal(
        {k: np.asarray(x) for k, x in params_of(plain).items()},
        {k: np.asarray(x) for k, x in params_of(with_data).items()},
    )


def two_phases(share: float = 0.5, iterations: int = 2) -> ThenOnline:
    learner = from_data(make_learner("sac", warmup=0), share)
    offline = Offline(SPEC, learner.replace(share=1.0, updates=16), SEEDS[1], data_for(SPEC))
    online = Fused(PENDULUM, learner, SEEDS[1], 2, 8, offline.state.data)
    return ThenOnline(offline, online, iterations)


def test_a_run_goes_on_online_and_resumes_in_either_phase(tmp_path: Path) -> None:
    run = two_phases()
    assert run.advance(5).ended.count == 0 and run.iteration == 2  # ends with the phase
    assert run.updates_since(0) == 32 and run.is_online
    run.advance(1)
    assert run.iteration == 3 and run.updates_since(0) == 34 and run.updates_since(2) == 2
    assert int(run.state.replay.size) == 16
    for at in (1, 3):
        whole, fresh = two_phases(), two_phases()
        whole.advance(at)
        whole.advance(max(at - 2, 0))  # no-op in the first phase
        saved = save(whole, tmp_path / str(at))
        assert not any(name.startswith("run/learner/data/rows") for name in saved.arrays)
        fresh.restore(saved)
        for _ in range(2):
            whole.advance(1)
            fresh.advance(1)
        assert_equal(*({k: np.asarray(x) for k, x in params_of(x).items()} for x in (whole, fresh)))


def test_prioritised_data_resume_bit_for_bit(tmp_path: Path) -> None:
    case = Case("dqn", "offline", 2)
    new = lambda: make(case, priority=0.6, n_step=3, normalize_obs=True)
    assert_resumes(new(), new(), tmp_path)


def test_data_in_host_memory_teach_the_same() -> None:
    learner = from_data(make_learner("sac"))
    on_host = learner.replace(replay=NumpyReplay(100))
    runs = [Offline(SPEC, each, SEEDS[1], data_for(SPEC)) for each in (learner, on_host)]
    reports = [run.advance(3) for run in runs]
    assert reports[0].metrics.keys() == reports[1].metrics.keys()
    ours, theirs = (params_of(run) for run in runs)
    for name, x in ours.items():
        np.testing.assert_allclose(x, theirs[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_statistics_are_those_of_the_data() -> None:
    run: Any = make(Case("dqn", "offline", 1), normalize_obs=True)
    data = data_for(run.spec)
    obs = data.layout.unpack(data.rows).obs
    stats = next(iter(run.algorithm_state.obs.values()))
    np.testing.assert_allclose(stats.mean, obs.mean(0), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(stats.std, obs.std(0), rtol=1e-3)
    mean = np.array(stats.mean)
    run.advance(2)
    np.testing.assert_array_equal(next(iter(run.algorithm_state.obs.values())).mean, mean)


def test_other_data_are_refused(tmp_path: Path) -> None:
    run = make(Case("sac", "offline", 1))
    saved = save(run, tmp_path / "a")
    other: Any = make(Case("sac", "offline", 1))
    other.sha256 = "1" * 64
    with pytest.raises(CheckpointError, match="was saved with other data, of sha256 000000000000"):
        other.restore(saved)
