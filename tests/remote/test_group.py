"""Several learners as one execution: what is divided, put together, and repeated after a death."""

import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from parl.agents.execution.ended import nothing
from parl.agents.execution.protocol import Devices, Report, Seeds, Snapshot
from parl.agents.learner import OnPolicy
from parl.core.algorithm import Algorithm
from parl.core.checkpoint import Checkpoint, named_leaves
from parl.core.errors import CheckpointError, ClusterLost, ConfigError, RemoteError
from parl.envs.pulse import DEATHS
from parl.remote.connect import there
from parl.remote.group import Group
from parl.remote.ledger import Books
from parl.remote.rank import Told, calmly
from parl.remote.ranks import RankLost
from parl.remote.shares import digest, share_of, stats_of_all, together
from parl.runs.config import RunConfig
from parl.runs.learners import among_all


def test_workers_of_all_ranks_are_those_of_one() -> None:
    assert [[among_all(i, rank, 2, 3) for i in range(2)] for rank in range(3)] == [
        [0, 1], [2, 3], [4, 5],
    ]  # fmt: skip
    # one that starts afresh keeps its place among all and has a number nobody had
    assert [among_all(2 * 7 + 1, rank, 2, 3) for rank in range(3)] == [43, 45, 47]
    assert [index % 6 for index in (43, 45, 47)] == [1, 3, 5]


def shot(rank: int) -> Snapshot:
    books = Books()
    for steps in range(rank + 1):
        books.arrive(10 * (steps + 1))
        books.leave("trained", 10 * (steps + 1))
    workers = [{"collector": {"time": np.int64(10 * rank + i)}} for i in range(2)]
    tree: dict[str, Any] = {"workers": workers}
    if not rank:
        tree["run"] = {"iteration": np.int64(3)}
    pool = {"ledger": books.report(), "epochs": [rank, rank + 5], "fragment_steps": 8}
    meta = {"workers": [[rank], [rank, 1]], "pool": pool, "learned": digest({"a": np.ones(3)})}
    return Snapshot(tree, meta, exact=rank != 1)


def test_a_snapshot_of_all_is_divided_again() -> None:
    whole = together([shot(0), shot(1)])
    assert not whole.exact and whole.meta["pool"]["epochs"] == [0, 5, 1, 6]
    assert whole.meta["pool"]["ledger"]["steps"]["trained"] == 10 + (10 + 20)
    saved = Checkpoint(Path("x"), whole.meta, named_leaves(whole.tree))
    for rank in range(2):
        mine = share_of(saved, rank, 2)
        times = [int(mine.arrays[f"workers/{i}/collector/time"]) for i in range(2)]
        assert times == [10 * rank, 10 * rank + 1]
        assert mine.meta["workers"] == shot(rank).meta["workers"]
        assert mine.meta["pool"]["epochs"] == [rank, rank + 5]
        assert int(mine.arrays["run/iteration"]) == 3
        trained = mine.meta["pool"]["ledger"]["steps"]["trained"]
        assert trained == (0 if rank else 40)  # in one ledger, so that all add up
    other = shot(1)._replace(meta=shot(1).meta | {"learned": digest({"a": np.zeros(3)})})
    with pytest.raises(RemoteError, match="learner 1 has other parameters than learner 0"):
        together([shot(0), other])
    assert int(share_of(saved, 3, 4).arrays["workers/0/collector/time"]) == 11
    with pytest.raises(CheckpointError, match="4 rollout workers, which do not divide among 3"):
        share_of(saved, 0, 3)


def test_metrics_of_all_pools() -> None:
    one, other = {"trained": 3, "lag_p99": 1.0}, {"trained": 4, "lag_p99": 5.0, "deaths": 1}
    assert stats_of_all([one, other]) == {"trained": 7, "lag_p99": 5.0, "deaths": 1}


class Fake:
    """Two ranks without processes: a number that grows, and orders that are noted."""

    count, gpus, kind, warm = 2, 0, "cpu", False

    def __init__(self, losses: dict[int, str] | None = None):
        self.losses = losses or {}  # at which order one is lost
        self.orders: list[Any] = []
        self.value, self.alive, self.starts, self.closed = 0, False, 0, False

    def start(self, make: Any) -> None:
        self.value, self.alive = 0, True
        self.starts += 1

    def ask(self, name: str, *arguments: Any) -> list[Any]:
        if not self.alive:
            raise RankLost("the learners were ended")
        self.orders.append((name, *arguments))
        if reason := self.losses.pop(len(self.orders), None):
            raise RankLost(reason)
        if name == "advance":
            self.value += arguments[0]
            return [
                Told(Report({"loss": np.ones((), np.float32)}, nothing()), (0, 0), {"trained": 1})
            ] * 2
        if name == "restore":
            self.value = int(arguments[0].arrays["run/iteration"])
        return [self.value, None]

    def end(self) -> None:
        self.alive = False

    def close(self) -> None:
        self.closed = True


def group(ranks: Any, **options: Any) -> Group:
    learner = OnPolicy(Algorithm())
    return Group(ranks, lambda rank: None, learner, Seeds((0,)), 64, **options)  # type: ignore[arg-type, return-value]


def saved_at(iteration: int) -> Checkpoint:
    return Checkpoint(Path("x"), {}, {"run/iteration": np.asarray(iteration)})


def test_orders_since_the_checkpoint_are_repeated() -> None:
    lost: list[str] = []
    ranks = Fake({6: "learner 1 died"})
    checkpoints: list[Checkpoint] = []
    run = group(ranks, latest=lambda: checkpoints[-1] if checkpoints else None, warn=lost.append)
    run.advance(2)
    run.change({"wind": 1.0})
    run.advance(3)
    checkpoints.append(saved_at(5))
    run.advance(1)
    run.change({"wind": 2.0})
    ranks.orders.clear()
    ranks.losses = {1: "learner 1 died"}
    run.advance(4)
    assert ranks.orders == [
        ("advance", 4),  # in which one dies
        ("change", {"wind": 1.0}), ("restore", checkpoints[0]),
        ("advance", 1), ("change", {"wind": 2.0}), ("advance", 4),
    ]  # fmt: skip
    assert (run.iteration, ranks.value, run.restarts, ranks.starts) == (10, 10, 1, 2)
    assert lost == ["learner 1 died; all learners start again from the last checkpoint"]
    assert run.stats() == {"pool/trained": 2, "learners": 2, "learner_restarts": 1}
    assert run.devices == Devices("cpu", 2) and run.steps_per_iteration * run.iteration == 640
    run.close()
    assert ranks.closed


def test_a_loss_before_anything_is_saved_and_one_amid_recovery() -> None:
    ranks = Fake({2: "first", 4: "second"})
    run = group(ranks)
    run.advance(2)
    run.advance(1)
    # lost in the second order, then in the order after the repeated first
    assert ranks.orders == [("advance", 2), ("advance", 1)] + 2 * [("advance", 2), ("advance", 1)]
    assert (ranks.value, run.restarts, ranks.starts) == (3, 2, 3)


def test_losses_without_end_are_told() -> None:
    ranks = Fake(dict.fromkeys(range(1, 100), "learner 0 died"))
    run = group(ranks)
    with pytest.raises(RemoteError, match=f"lost {DEATHS + 1} times in a row: learner 0 died"):
        run.advance(1)


def test_rounds_are_iterations_between_averages() -> None:
    ranks = Fake()
    run = group(ranks, rounds=4)
    run.advance(3)
    assert ranks.orders == [("advance", 12)] and run.steps_per_iteration == 256
    assert run.updates_since(0) == 12 and run.updates_since(2) == 4
    run.restore(saved_at(8))
    assert run.iteration == 2
    with pytest.raises(CheckpointError, match="between two averages"):
        run.restore(saved_at(6))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"learners": 2}, "learners 2 is for rollout actors: add --actors"),
        ({"learners": 2, "execution": "fused"}, "learners 2 is for rollout actors"),
        ({"learners": 2, "actors": 2, "execution": "host"}, "host execution has no rollout actors"),
        ({"learners": 2, "actors": 3}, "3 actors do not divide among 2 learners; try --actors 4"),
        ({"sync": "update"}, "sync is for several learners: add --learners 2"),
        ({"learners": 2, "actors": 2, "sync": "often"}, "sync is step, update, or a number"),
        ({"learners": 2, "actors": 2, "sync": "0"}, "sync is step, update, or a number"),
        (
            {"learners": 2, "actors": 2, "sync": "update", "flat_gradients": True},
            "flat_gradients is for sync step",
        ),
        ({"learners": 2, "actors": 2, "opponent": "self"}, "opponent is for one learner"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        RunConfig("ppo", "jax:CartPole-v1", **settings).check()


@pytest.mark.parametrize(
    ("algorithm", "env", "settings", "sentence"),
    [
        ("ppo", "jax:CartPole-v1", {"num_envs": 3, "actors": 0}, "rollout actors"),
        ("sac", "jax:Pendulum-v1", {"batch_size": 9}, "batch-size 9 does not divide among 2 dev"),
        ("ppo", "jax:CartPole-v1", {"minibatches": 256}, "minibatches of 1 steps do not divide"),
        ("es", "jax:Pendulum-v1", {"sync": "update"}, "has nothing to average: use --sync step"),
        (
            "sac",
            "jax:Pendulum-v1",
            {"num_envs": 2, "flat_gradients": True, "replay_on_host": True},
            "replay_on_host is for --sync step",
        ),
    ],
)
def test_batches_that_do_not_divide(
    algorithm: str, env: str, settings: dict[str, Any], sentence: str
) -> None:
    from parl.runs.build import resolve

    of_run: dict[str, Any] = {"actors": 2, "learners": 2} | {
        name: settings.pop(name)
        for name in ("actors", "sync", "flat_gradients")
        if name in settings
    }
    with pytest.raises(ConfigError, match=sentence):
        resolve(RunConfig(algorithm, env, settings=settings, **of_run))


@pytest.mark.skipif(sys.platform != "linux", reason="priorities are of processes elsewhere")
def test_threads_of_collectives_come_last_and_others_do_not() -> None:
    found: list[int] = []
    priority = lambda: found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    def make() -> str:
        begun = threading.Thread(target=priority)
        begun.start()
        begun.join()
        return "made"

    priority()
    assert calmly(make) == "made"
    priority()
    after = threading.Thread(target=priority)
    after.start()
    after.join()
    usual = found[0]
    assert found == [usual, 19, usual, usual] and usual < 19


def test_a_ray_that_ended_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: Any, **__: Any) -> Any:
        raise OSError("Broken pipe")

    monkeypatch.setattr(ray, "wait", closed)
    with pytest.raises(ClusterLost, match=r"^Ray has ended on this machine\.$"):
        there([object()], 1.0)
