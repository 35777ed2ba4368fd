"""Execution with a replay elsewhere, here with one shard in this process."""

from typing import Any

import jax
import numpy as np
from tiny import ENVS, LENGTH, SEEDS, make_learner

from parl.agents.execution.collector import Collector
from parl.agents.execution.sharded import Form, Sharded, ShardedLearner
from parl.agents.execution.streamed import Streamed
from parl.agents.learner import shapes
from parl.agents.replay.shard import Shard
from parl.core.seeding import env_seed
from parl.envs.jax_vector import JaxVectorEnv
from parl.remote import RolloutPool

SPEC = ENVS["dqn"].spec


class Local:
    """One shard."""

    room = 1_000

    def __init__(self, learner: ShardedLearner):
        self.shard = Shard(learner, shapes(learner.algorithm, SPEC, LENGTH, 1)[1], 0)
        self.told: list[Any] = []
        self.empty = False

    def add(self, reference: Any) -> None:
        self.shard.add(reference, 1.0)

    @property
    def held(self) -> int:
        return 0 if self.empty else self.shard.added

    def draw(self, updates: int, size: int) -> tuple[Any, Any]:
        drawn = self.shard.draw(updates * size)
        batches = jax.tree.map(lambda x: x.reshape(updates, size, *x.shape[1:]), drawn.items)
        return drawn.rows, batches

    def learned(self, sample: Any, td_error: Any) -> None:
        self.told.append((sample, td_error))

    def settle(self) -> None: ...

    def heed(self, stopped: Any) -> None: ...

    def metrics(self) -> dict[str, float]:
        return {"held": self.held}

    def state_dict(self) -> Any:
        return [self.shard.added]

    def load_state_dict(self, state: Any) -> None: ...

    def close(self) -> None: ...


def make(sharded: bool) -> Any:
    """A run of two workers with an environment each, whose observations are normalised."""
    learner: Any = make_learner("dqn", normalize_obs=True, num_envs=2, warmup=32)
    if sharded:
        learner = ShardedLearner.of(learner, 1)

    def build(worker: int) -> Collector:
        env = JaxVectorEnv(ENVS["dqn"], 1, env_seed(5, worker))
        return Collector([env], learner.algorithm, SEEDS[1], worker)

    form = Form.of(learner.algorithm, SPEC, LENGTH, 2)
    leaves = form.observed if sharded else None
    pool = RolloutPool(build, 2, 1, LENGTH, "async", "inline", max_in_flight=1, leaves=leaves)
    if not sharded:
        return Streamed(pool, 2, SPEC, learner, SEEDS[1], 2, LENGTH)
    return Sharded(pool, Local(learner), form, 2, SPEC, learner, SEEDS[1], 2, LENGTH)


def parameters(run: Any) -> list[np.ndarray]:
    """Copies: the state itself is given away with the next update."""
    return [np.array(leaf) for leaf in jax.tree.leaves(run.algorithm_state.inner.net.params)]


def test_a_run_learns_and_counts_and_observes() -> None:
    """Two iterations fill; what the statistics are made of is the same as with replay here."""
    run, whole = make(sharded=True), make(sharded=False)
    assert len(run.form.observed) == 1, "the observations, and nothing else"
    for each in (run, whole):
        assert each.advance(2).metrics == {}
    inner = run.algorithm_state, whole.algorithm_state
    assert int(inner[0].inner.env_steps) == 32
    for ours, theirs in zip(*map(jax.tree.leaves, inner), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    before = parameters(run)
    report = run.advance(3)
    assert np.isfinite(report.metrics["loss"]) and run.shards.shard.added == 5 * 2 * LENGTH
    updates, size = run.learner.updates, run.learner.batch_size
    assert run.updates_since(0) == 3 * updates and len(run.shards.told) == 3
    assert run.shards.told[0][1].shape == (updates, size)
    assert all((a != b).any() for a, b in zip(before, parameters(run), strict=True))
    assert run.stats()["replay/held"] == 5 * 2 * LENGTH and run.snapshot().meta["shards"] == [80]


def test_where_too_little_is_held_nothing_is_learned() -> None:
    run = make(sharded=True)
    run.advance(3)
    learned = parameters(run)
    run.shards.empty = True
    assert run.advance(2).metrics == {}
    for ours, theirs in zip(learned, parameters(run), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert run.updates_since(0) == run.learner.updates
    run.shards.empty = False
    assert run.advance(1).metrics and run.updates_since(0) == 2 * run.learner.updates
