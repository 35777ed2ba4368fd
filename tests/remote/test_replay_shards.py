"""A replay in shards: exact ledgers whatever happens to its processes, and runs on it."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import parl
from parl.agents.execution.sharded import ShardedLearner
from parl.agents.learner import OffPolicy
from parl.agents.replay.ring import Replay
from parl.agents.replay.sampling import Prioritized
from parl.agents.replay.shard import Shard
from parl.core.algorithm import Algorithm
from parl.core.errors import CheckpointError, ClusterLost, ConfigError, Halted, RemoteError
from parl.core.types import Rollout, Step
from parl.remote.ledger import ShardLedger
from parl.remote.process import Stored
from parl.remote.shard_host import OnRay
from parl.remote.shards import Died, Missing, Shards
from parl.remote.supervisor import Terms
from parl.runs.build import resolve
from parl.runs.config import RunConfig
from parl.runs.executions import make_execution

STEPS = 8  # of a rollout
CAPACITY = 24  # steps of a shard


def rollout(start: int) -> Rollout:
    number = np.arange(start, start + STEPS, dtype=np.float32)[:, None]
    flags, obs = np.zeros((STEPS, 1), bool), number[..., None]
    return Rollout(Step(obs, obs, number, np.ones_like(number), obs + 1, flags, flags, {}), ())


LEARNER = ShardedLearner.of(OffPolicy(Algorithm(), Prioritized(Replay(2 * CAPACITY))), 2)


class Here:
    """A shard in this process, which works when its answer is waited for."""

    def __init__(self, number: int):
        self.number, self.shard = number, Shard(LEARNER, rollout(0), number)
        self.dead = self.hangs = False

    def call(self, name: str, *arguments: Any) -> Any:
        return Ticket(self, name, arguments)

    def kill(self) -> None:
        self.dead = True


class Ticket:
    def __init__(self, process: Here, name: str, arguments: tuple[Any, ...]):
        self.process, self.name, self.arguments = process, name, arguments


class Hosts:
    """Shards in this process."""

    scheduled = False

    def __init__(self) -> None:
        self.started: list[Here] = []
        self.gone = ""

    def start(self, number: int) -> Here:
        self.started.append(Here(number))
        return self.started[-1]

    def wait(self, tickets: list[Ticket], timeout: float) -> list[Ticket]:
        return [ticket for ticket in tickets if not ticket.process.hangs]

    def answer(self, ticket: Ticket) -> Any:
        if ticket.process.dead:
            raise Died("it was killed")
        if ticket.arguments and ticket.arguments[0] is None:
            raise Missing("its owner has died")
        return getattr(ticket.process.shard, ticket.name)(*ticket.arguments)

    def lost(self) -> str:
        return self.gone


@pytest.fixture
def shards() -> Any:
    found: Any = Shards(Hosts(), 2, LEARNER.replay, STEPS, CAPACITY, seed=0, terms=Terms())
    found.ready()
    return found


def fill(shards: Any, adds: int) -> None:
    for add in range(adds):
        shards.add(rollout(STEPS * add))
    shards.settle()


def ledger(shards: Any, index: int) -> dict[str, int]:
    return shards.parts[index].ledger.report()


def books(sent: int, held: int, replaced: int, lost: int) -> dict[str, int]:
    return {"sent": sent, "writing": 0, "held": held, "replaced": replaced, "lost": lost}


def test_ledgers_are_what_the_shards_hold(shards: Any) -> None:
    """Nine rollouts in turn: five and four of them, of which a shard keeps three."""
    fill(shards, 9)
    assert ledger(shards, 0) == books(40, 24, 16, 0)
    assert ledger(shards, 1) == books(32, 24, 8, 0)
    assert [p.process.shard.standing()[:2] for p in shards.parts] == [(40, 24), (32, 24)]
    assert shards.held == shards.room == 48


def test_batches_come_from_all_shards_and_errors_go_back(shards: Any) -> None:
    fill(shards, 4)
    sample, batches = shards.draw(5, 40)
    found = set(np.int64(batches.reward).ravel())
    assert batches.reward.shape == (5, 40) and found <= set(range(32)) and len(found) > 25
    one = batches.reward[0, 0]
    shards.learned(sample, np.where(batches.reward == one, 1e6, 0.0))
    shards.settle()
    shards.draw(5, 40)  # was asked for before
    _, batches = shards.draw(5, 40)
    assert (batches.reward == one).mean() > 0.9
    assert shards.metrics()["drawn"] == 600 and shards.metrics()["late"] == 0


def test_a_dead_shard_is_counted_and_replaced(shards: Any) -> None:
    said: list[str] = []
    shards.terms = shards.terms._replace(say=said.append)
    fill(shards, 5)
    sample, _ = shards.draw(2, 10)
    shards.parts[0].process.dead = True
    shards.add(rollout(40))  # shard 1
    shards.add(rollout(48))  # shard 0, with which it dies
    shards.settle()
    assert ledger(shards, 0) == books(32, 0, 0, 32)
    assert ledger(shards, 1) == books(24, 24, 0, 0)
    assert shards.held == 24 and shards.parts[0].process.number == 2
    shards.learned(sample, np.ones((2, 10)))
    assert shards.metrics()["late"] == len(sample.rows[0])
    _, batches = shards.draw(3, 20)
    assert (np.int64(batches.reward) // STEPS % 2 == 1).all(), "all are of shard 1"
    shards.settle()
    fill(shards, 2)
    assert ledger(shards, 0) == books(40, 8, 0, 32)
    assert shards.metrics()["deaths"] == 1
    assert said == ["replay shard 0 died (it was killed); an empty one takes its place"]


def test_a_rollout_whose_worker_died_is_counted(shards: Any) -> None:
    fill(shards, 1)
    shards.add(None)
    shards.settle()
    assert ledger(shards, 1) == books(8, 0, 0, 8) and shards.deaths == 0


def test_without_a_step_nothing_is_drawn(shards: Any) -> None:
    assert shards.draw(2, 10) is None
    fill(shards, 2)
    assert shards.draw(2, 10) is not None
    for part in shards.parts:
        part.process.dead = True
    assert shards.draw(2, 10) is None and shards.held == 0
    assert shards.metrics()["lost"] == 16


def test_a_shard_that_hangs_is_replaced_after_the_deadline(
    shards: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(shards, 4)
    shards.draw(2, 10)
    now = [time.monotonic()]
    monkeypatch.setattr("time.monotonic", lambda: now.append(now[-1] + 5.0) or now[-1])
    shards.settle()
    hanging = shards.parts[1].process
    hanging.hangs = True
    fill(shards, 2)
    assert hanging.dead and shards.deaths == 1
    assert ledger(shards, 1) == books(24, 0, 0, 24) and ledger(shards, 0) == books(24, 24, 0, 0)


def test_waits_end(shards: Any) -> None:
    for part in shards.parts:
        part.process.hangs = True
    shards.add(rollout(0))
    shards.heed(lambda: True)
    with pytest.raises(Halted):
        shards.settle()
    shards.hosts.gone = "the raylet ended"
    with pytest.raises(ClusterLost, match=r"^the raylet ended\.$"):
        shards.settle()


def test_deaths_again_and_again_end_the_run(shards: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(number: int) -> Here:
        process = Here(number)
        process.dead = True
        return process

    monkeypatch.setattr(shards.hosts, "start", start)
    shards.parts[0].process.dead = True
    with pytest.raises(RemoteError, match=r"shard 0 died 6 times in a row: it was killed\.$"):
        for _ in range(10):
            fill(shards, 1)


def test_ledgers_go_on_after_a_resume(shards: Any) -> None:
    fill(shards, 4)
    resumed: Any = Shards(Hosts(), 2, LEARNER.replay, STEPS, CAPACITY, seed=1, terms=Terms())
    resumed.load_state_dict(json.loads(json.dumps(shards.state_dict())))
    assert ledger(resumed, 0) == books(16, 0, 0, 16) and resumed.held == 0
    with pytest.raises(CheckpointError, match="saved with 1 replay shards, not 2"):
        resumed.load_state_dict(shards.state_dict()[:1])
    with pytest.raises(AssertionError, match="does not add up"):
        ShardLedger(sent=3).report()


# -- settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "said", "message"),
    [
        ("dqn", {"replay_shards": 0}, "replay_shards"),
        ("dqn", {}, "replay_shards 2 is for rollout actors: add --actors 2"),
        ("dqn", {"execution": "fused"}, "replay_shards 2 is for rollout actors"),
        ("dqn", {"actors": 2, "execution": "host"}, "host execution has no rollout actors"),
        ("dqn", {"actors": 2, "mode": "sync"}, "for asynchronous runs: leave out mode sync"),
        ("dqn", {"actors": 2, "learners": 2}, "replay_shards serve one learner"),
        ("dqn", {"actors": 2, "record": "x"}, "record is for a replay in one process"),
        ("dqn", {"actors": 2, "checkpoint_replay": "yes"}, "in shards is in no checkpoint"),
        ("ppo", {"actors": 2}, "ppo learns on-policy and has no replay"),
        ("dqn", {"actors": 2, "settings": {"capacity": 100}}, "replay of 50 items cannot take 64"),
    ],
)
def test_bad_input_is_one_sentence(algorithm: str, said: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        config = {"replay_shards": 2, "algorithm": algorithm, "env": "jax:CartPole-v1"} | said
        make_execution(resolve(RunConfig(**config)))
    assert "\n" not in str(caught.value)


def test_iterations_make_one_call_of_32_batches_or_more() -> None:
    """64 updates of four workers become two iterations; one worker's 16 are two rounds of one."""
    layouts = {}
    for actors, updates in ((4, 64), (1, 16), (2, 4), (3, 96)):
        config = RunConfig(
            algorithm="dqn", env="jax:CartPole-v1", actors=actors, replay_shards=2,
            settings={"num_envs": actors, "updates": updates},
        )  # fmt: skip
        layouts[actors, updates] = resolve(config).layout[3:]
    assert layouts == {
        (4, 64): (1, 2, 32),
        (1, 16): (1, 2, 32),
        (2, 4): (1, 16, 32),
        (3, 96): (1, 1, 32),
    }


@pytest.mark.parametrize(
    ("algorithm", "env", "said", "expected"),
    [
        ("dqn", "jax:CartPole-v1", {}, {"epsilon_spread": 7.0, "epsilon_end": 0.4}),
        ("dqn", "jax:CartPole-v1", {"epsilon_spread": 0.0}, {"epsilon_spread": 0.0}),
        ("r2d2", "jax:CartPole-v1", {}, {"epsilon_spread": 3.0, "epsilon_end": 0.1}),
        ("d4pg", "jax:Pendulum-v1", {}, {"noise_spread": 3.0, "exploration": 0.3}),
        ("sac", "jax:Pendulum-v1", {}, {"noise_spread": 3.0}),
    ],
)
def test_environments_explore_unlike_each_other(
    algorithm: str, env: str, said: dict[str, Any], expected: dict[str, float]
) -> None:
    config = RunConfig(algorithm=algorithm, env=env, actors=2, replay_shards=2, settings=said)
    found = resolve(config).config.settings
    assert {name: found[name] for name in expected} == expected
    assert resolve(RunConfig(algorithm=algorithm, env=env)).config.settings.get("noise_spread") in (
        None,
        0.0,
    )


# -- in Ray's processes ----------------------------------------------------------------------------

TINY = {
    "hidden": (8,), "length": 16, "updates": 4, "warmup": 64, "batch_size": 8, "capacity": 400,
    "eval_episodes": 1, "actors": 2, "replay_shards": 2, "priority": 0.6,
}  # fmt: skip


IMAGES = {"hidden": (), "capacity": 200, "warmup": 128, "steps": 512}
R2D2 = {"num_envs": 2, "window": 8, "burn_in": 2, "n_step": 2, "memory_size": 4}


def lines(run: parl.Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.path / "metrics.jsonl").open()]


def check_books(record: dict[str, Any]) -> None:
    """Every step that was produced and handed out was sent to a shard, and has one place."""
    assert record["pool/trained"] == record["replay/sent"] == record["env_steps"]
    places = ("writing", "held", "replaced", "lost")
    assert record["replay/sent"] == sum(record[f"replay/{place}"] for place in places)
    assert record["replay/writing"] == 0


def processes(kind: str) -> list[psutil.Process]:
    """Those of Ray's actors of a class that descend from this one."""
    family = psutil.Process().children(recursive=True)
    return [each for each in family if f"ray::{kind}" in " ".join(each.cmdline()[:1])]


def train(algorithm: str, out: Path, env: str = "jax:CartPole-v1", **said: Any) -> parl.Run:
    return parl.train(algorithm, env, out, quiet=True, curve=False, **(TINY | said))


def make_shard(number: int) -> Shard:
    return Shard(LEARNER, rollout(0), number)


@pytest.mark.usefixtures("cluster")
def test_a_shard_in_an_actor() -> None:
    import ray

    shards: Any = Shards(
        OnRay(make_shard), 1, LEARNER.replay, STEPS, CAPACITY, seed=0, terms=Terms()
    )
    try:
        for add in range(4):
            kept = rollout(STEPS * add)
            shards.add(Stored(ray.put(kept), 0))
        shards.settle()
        sample, batches = shards.draw(4, 20)
        shards.learned(sample, batches.reward)
        while shards.parts[0].calls:
            shards.look(1.0)
        assert set(np.int64(batches.reward).ravel()) <= set(range(8, 32))
        largest = (batches.reward.max() + 1e-3) ** 0.6
        assert shards.parts[0].standing.largest == pytest.approx(largest)
        assert ledger(shards, 0) == books(32, 24, 8, 0)
    finally:
        shards.close()


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_run_and_its_resume(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """128 steps and 32 updates an iteration, of which the first fills."""
    run = train("dqn", tmp_path / "run", steps=1_536)
    last = lines(run)[-1]
    check_books(last)
    assert (last["replay/shards"], last["replay/lost"], last["replay/deaths"]) == (2, 0, 0)
    assert last["replay/held"] == 2 * (200 // 16 * 16)
    assert last["replay/drawn"] == 11 * 32 * 8 and run.result["updates"] == 11 * 32
    capfd.readouterr()
    longer = parl.resume(run.path, steps=2_560, quiet=True)
    said = "not bit for bit: its environments begin new episodes; it has no replay, which fills "
    assert said in capfd.readouterr().err
    last = lines(longer)[-1]
    check_books(last)
    assert last["replay/lost"] == 2 * (200 // 16 * 16)
    assert longer.result["updates"] == 19 * 32, "128 steps fill it to what the warm-up stores"


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_run_goes_on_without_a_shard(how: signal.Signals, tmp_path: Path) -> None:
    hit: list[int] = []

    def strike(record: dict[str, Any]) -> None:
        if record["env_steps"] > 2_000 and not hit:
            (victim, *_) = processes("Host")
            victim.send_signal(how)
            hit.append(victim.pid)

    run = train("dqn", tmp_path / "run", steps=25_600, deadline=15.0, on_record=strike)
    records = lines(run)
    for record in records:
        check_books(record)
    last = records[-1]
    assert hit and last["env_steps"] == 25_600
    assert last["replay/deaths"] == 1 and last["replay/lost"] >= 192 and last["replay/shards"] == 2
    assert last["replay/held"] == 2 * (200 // 16 * 16), "the new one is full again"
    assert run.result["updates"] == (25_600 // 128 - 1) * 32
    assert not psutil.pid_exists(hit[0])


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_books_are_exact_where_workers_die(tmp_path: Path) -> None:
    chaos = "kill=0.02,raise=0.05,seed=85"
    last = lines(train("dqn", tmp_path / "run", steps=6_400, chaos=chaos))[-1]
    check_books(last)
    assert last["pool/deaths"] > 0 and last["pool/rebuilds"] > 0 and last["replay/deaths"] == 0


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("algorithm", "env", "said"),
    [
        ("sac", "jax:Pendulum-v1", {}),
        ("d4pg", "jax:Pendulum-v1", {"n_step": 3}),
        ("r2d2", "jax:CartPole-v1", R2D2),
        ("rainbow", "jax:CartPole-v1", {}),
        ("dqn", "ale:Pong", IMAGES),
        ("dqn", "pictures:Square", IMAGES),
    ],
)
def test_other_algorithms_learn_on_it(
    algorithm: str, env: str, said: dict[str, Any], tmp_path: Path
) -> None:
    if env.startswith("ale:"):
        pytest.importorskip("ale_py")
    run = train(algorithm, tmp_path / "run", env, **({"steps": 1_024} | said))
    check_books(lines(run)[-1])
    assert run.result["updates"] > 0 and run.result["skipped_updates"] == 0
