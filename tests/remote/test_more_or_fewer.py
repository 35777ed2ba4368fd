"""As many workers as there is room for, between a least and a most; machines that are to leave."""

import time
from typing import Any

import pytest
from makers import toy_maker

import parl
from parl.cli import main
from parl.cli.train import with_range
from parl.core.errors import ConfigError, RemoteError
from parl.remote import RolloutPool
from parl.runs.config import RunSettings
from parl.runs.executions import variables


def test_a_least_and_a_most():
    given: Any = "8:64"
    settings = RunSettings(actors=given)
    assert (settings.min_actors, settings.actors) == (8, 64)
    assert (RunSettings(actors=3).min_actors, RunSettings(actors=3).actors) == (0, 3)
    text: Any
    for text in ("8:", ":8", "9:8", "0:8", "a:b", "8:64:9", "many"):
        with pytest.raises(ConfigError, match=f"MIN:MAX such as 8:64, not '{text}'"):
            RunSettings(actors=text)
    assert with_range(["--actors", "8:64", "--seed", "1"]) == (
        ["--actors", "64", "--seed", "1", "--min-actors", "8"]
    )
    assert with_range(["--actors=8:64"]) == ["--actors=64", "--min-actors", "8"]
    assert with_range(["--actors", "8"]) == ["--actors", "8"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--actors", "8:4"], "parl: actors is a number, or MIN:MAX such as 8:64, not '8:4'."),
        (["--actors", "1:2"], "parl: mode sync waits for all actors: --actors 2, or --mode async "
         "with --actors MIN:MAX."),
        (["--min-actors", "2"], "parl: min_actors 2 is for rollout actors: add --actors 2."),
        (["--worker-env", "A=1"], "parl: worker_env A=1 is for rollout actors: add --actors 2."),
        (["--worker-files", "m"], "parl: worker_files m is for rollout actors: add --actors 2."),
        (["--actors", "2", "--min-actors", "3"], "parl: 3 min_actors are more than 2 actors."),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_sentence(words, said, capsys, tmp_path):
    out = ["--out", str(tmp_path / "run")]
    assert main(["train", "ppo", "--env", "jax:CartPole-v1", *words, *out]) == 2
    assert capsys.readouterr().err.strip() == said
    assert not (tmp_path / "run").exists()


def test_variables_of_workers():
    assert variables(("A=1", "B=x=y", "C=")) == {"A": "1", "B": "x=y", "C": ""}
    for text in ("A", "=1", "a b=1"):
        with pytest.raises(ConfigError, match=f"worker_env is KEY=VALUE, not '{text}'"):
            variables((text,))


def make_pool(least):
    shape: dict[str, Any] = {
        "mode": "async",
        "backend": "inline",
        "room": 50.0,
        "min_workers": least,
    }
    return RolloutPool(toy_maker(), 3, 3, 10, **shape)


@pytest.mark.parametrize("least", [1, 2, 3])
def test_workers_above_the_least_may_wait_for_ever(least, monkeypatch):
    """Two of three have no room."""
    pool = make_pool(least)
    supervisor = pool.supervisor
    monkeypatch.setattr(pool.backend, "scheduled", True)
    monkeypatch.setattr(pool.backend, "room", lambda: (0.0, 1.0))
    first = {pending.ticket for pending in supervisor.slots[0].pending}
    monkeypatch.setattr(pool.backend, "wait", lambda tickets, _: [t for t in tickets if t in first])
    for slot in supervisor.slots[1:]:
        slot.since = time.monotonic() - 60
    if least == 1:
        return pool.ready()
    with pytest.raises(RemoteError, match=r"no room for 2 of 3 rollout workers.* after 6\d s"):
        pool.ready()


def test_workers_of_a_machine_that_leaves_are_replaced_after_their_fragments(monkeypatch):
    pool = make_pool(1)
    pool.publish(0.5, 0)
    supervisor = pool.supervisor
    stream = pool.stream()
    next(stream)
    before: list[Any] = [slot.process for slot in supervisor.slots]
    for count, process in enumerate(before):
        process.key = b"%d" % count
    monkeypatch.setattr(pool.backend, "leaving", lambda processes: ({b"1"}, False))
    supervisor.looked = supervisor.listened = -1e9
    assert not pool.asks_to_save()
    for _ in range(9):
        next(stream)
    monkeypatch.undo()
    after = [slot.process for slot in supervisor.slots]
    assert [one is other for one, other in zip(before, after, strict=True)] == [True, False, True]
    stats = pool.stats()
    assert (stats["drained"], stats["deaths"], stats["ledger"]["fragments"]["lost"]) == (1, 0, 0)
    assert pool.asks_to_save() and not pool.asks_to_save()


def test_a_run_is_saved_when_a_machine_is_to_leave(tmp_path, monkeypatch):
    from parl.agents.execution.pool import InlinePool

    asked = iter([False] * 5 + [True] + [False] * 100)
    monkeypatch.setattr(InlinePool, "asks_to_save", lambda self: next(asked))
    saved = []
    small = {"num_envs": 2, "length": 4, "hidden": (4,), "epochs": 1, "minibatches": 1}
    parl.train(
        "ppo", "jax:CartPole-v1", tmp_path / "run", True, curve=False, execution="host", steps=80,
        eval_episodes=0, checkpoint_every=80, eval_every=80,
        on_checkpoint=lambda told: saved.append(told["env_steps"]), **small,
    )  # fmt: skip
    assert saved == [0, 48, 80]  # after the sixth of ten iterations
