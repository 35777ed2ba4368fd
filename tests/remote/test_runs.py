"""Training runs on Ray actors, from `parl.train` to what stands in the run's files."""

import json
from pathlib import Path
from typing import Any

import pytest
from marks import slow

import parl
from parl.studies.reproduce import reproduce

pytestmark = pytest.mark.usefixtures("cluster")
TINY = {
    "hidden": (8,), "length": 16, "updates": 1, "warmup": 64, "batch_size": 8, "capacity": 2_000,
    "eval_episodes": 1,
}  # fmt: skip
PLACES = ("trained", "dropped_stale", "dropped_overflow", "in_queue")


def lines(run: parl.Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.path / "metrics.jsonl").open()]


def check_books(records: list[dict[str, Any]]) -> None:
    """Every step is accounted for, at every log point."""
    for record in records:
        assert record["pool/produced"] == sum(record[f"pool/{place}"] for place in PLACES)
        assert record["pool/trained"] == record["env_steps"]


@pytest.mark.slow
def test_an_asynchronous_run_under_chaos_and_its_resume(tmp_path: Path) -> None:
    run = parl.train(
        "dqn", "jax:CartPole-v1", tmp_path / "run", quiet=True, steps=1_600, actors=2,
        mode="async", chaos="kill=0.01,raise=0.05,nan=0.05,seed=85", **TINY,
    )  # fmt: skip
    assert run.result["env_steps"] == 1_600
    # each iteration learns once from 16 steps, after four that fill
    assert run.result["updates"] == 1_600 // 16 - 4
    records = lines(run)
    check_books(records)
    last = records[-1]
    assert last["pool/lost"] > 0 and last["pool/rebuilds"] > 0 and last["pool/given_up"] == 0
    assert last["pool/deaths"] == 1 and 0 <= last["pool/lag_p50"] <= 2
    config = json.loads((run.path / "config.json").read_text())
    assert (config["execution"], config["mode"]) == ("ray", "async")
    manifest = json.loads((run.path / "checkpoints" / "1600" / "manifest.json").read_text())
    assert manifest["meta"]["exact"] is False

    longer = parl.resume(run.path, steps=2_400, quiet=True)
    assert (longer.result["env_steps"], longer.result["updates"]) == (2_400, 146)
    records = lines(longer)
    check_books(records)
    assert [record["env_steps"] for record in records] == sorted(
        {record["env_steps"] for record in records}
    )
    assert records[-1]["pool/lost"] >= last["pool/lost"] + last["pool/in_queue"]


ON_POLICY = {"hidden": (8,), "length": 16, "eval_episodes": 1}
SEARCH = {"hidden": (8,), "length": 16, "batch_size": 8, "simulations": 2, "eval_episodes": 1}
CASES: list[Any] = [
    ("dqn", "jax:CartPole-v1", TINY),
    slow("ppo", "jax:CartPole-v1", ON_POLICY),
    slow("sac", "jax:Pendulum-v1", TINY),
    slow("qmix", "jax:two_step", TINY),
    slow("mappo", "jax:simple_spread", ON_POLICY),
    slow("maddpg", "jax:simple_spread", TINY),
    slow("az", "jax:tic_tac_toe", SEARCH),
]


@pytest.mark.parametrize(("algorithm", "env", "tiny"), CASES, ids=lambda x: str(x)[:16])
def test_a_synchronous_run_is_the_run_without_ray(
    algorithm: str, env: str, tiny: dict[str, Any], tmp_path: Path
) -> None:
    """Bit for bit, both times that it is run, and it keeps books too."""
    settings: dict[str, Any] = tiny | {"num_envs": 2, "steps": 640}
    ray = parl.train(algorithm, env, tmp_path / "ray", quiet=True, actors=1, **settings)
    host = parl.train(
        algorithm, env, tmp_path / "host", quiet=True, execution="host", **settings
    )  # fmt: skip
    assert ray.result["params_sha256"] == host.result["params_sha256"]
    check_books(lines(ray))
    assert not any(name.startswith("pool/") for name in lines(host)[-1])
    for run in (ray, host):
        again = reproduce(run.path, quiet=True)
        assert again.equal and again.sha256 == (run.result["params_sha256"],) * 2
        assert again.parted is None and not again.reasons
    more = [parl.resume(run.path, steps=960, quiet=True) for run in (ray, host)]
    assert more[0].result["params_sha256"] == more[1].result["params_sha256"]
    check_books(lines(more[0]))


@pytest.mark.slow
def test_self_play_by_search_keeps_its_books_under_chaos(tmp_path: Path) -> None:
    run = parl.train(
        "az", "jax:tic_tac_toe", tmp_path / "run", quiet=True, steps=3_200, actors=2, num_envs=4,
        updates=2, mode="async", chaos="kill=0.01,raise=0.05,nan=0.05,seed=85", **SEARCH,
    )  # fmt: skip
    # a fragment of either worker, 2 games of 16 moves, and an update for each
    assert (run.result["env_steps"], run.result["updates"]) == (3_200, 100)
    records = lines(run)
    check_books(records)
    last = records[-1]
    assert last["pool/lost"] > 0 and last["pool/deaths"] + last["pool/rebuilds"] > 0
    longer = parl.resume(run.path, steps=4_800, quiet=True)
    assert (longer.result["env_steps"], longer.result["updates"]) == (4_800, 150)
    check_books(lines(longer))
