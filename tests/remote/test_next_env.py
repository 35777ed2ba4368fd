"""Parameters that a hook gives the next environments reach those of rollout workers."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from makers import build_paid

import parl
from parl.remote import RolloutPool, chaos

POLICY = np.float32(0.5)
RUN: dict[str, Any] = {
    "length": 8, "minibatches": 1, "epochs": 1, "hidden": (4,), "num_envs": 4, "steps": 128,
    "eval_every": 32, "eval_episodes": 1, "quiet": True, "curve": False,
}  # fmt: skip


def paid(fragments: Any) -> list[float]:
    """What the steps of each fragment were paid, which is one number."""
    found = [np.unique(fragment.rollout.steps.reward) for fragment in fragments]
    assert all(len(each) == 1 for each in found)
    return [float(each[0]) for each in found]


def test_the_next_fragments_have_the_parameters_whoever_collects_them() -> None:
    pool = RolloutPool(build_paid, 2, 3, 5, backend="inline")
    pool.publish(POLICY, 0)
    assert paid(pool.collect()) == [1, 1]
    pool.change({"pay": 2.0})
    assert paid(pool.collect()) == [2, 2]
    with chaos(kill=0.5, seed=1) as faults:  # others come in the place of those that die
        assert [paid(pool.collect()) for _ in range(6)] == [[2, 2]] * 6
    assert faults.injected["kill"] > 2
    pool.publish(POLICY, 1)
    assert paid(pool.collect()) == [2, 2]
    resumed = RolloutPool(build_paid, 2, 3, 5, backend="inline")
    resumed.change({"pay": 2.0})  # before a policy is there, as a run does
    resumed.publish(POLICY, 1)
    resumed.set_states(pool.get_states())
    assert paid(resumed.collect()) == [2, 2]


def test_in_async_mode_no_more_fragments_than_were_under_way_have_the_old_ones() -> None:
    pool = RolloutPool(build_paid, 2, 3, 5, mode="async", backend="inline", seed=3)
    pool.publish(POLICY, 0)
    stream = (arrival.fragment for arrival in pool.stream())
    assert paid(islice(stream, 4)) == [1] * 4
    pool.change({"pay": 2.0})
    with chaos(kill=0.2, raise_=0.1, seed=2):
        found = paid(islice(stream, 30))
    assert found == sorted(found) and found.count(1) <= 4  # two under way for each worker


def harder(values: dict[str, Any]) -> Any:
    """The cart is pushed harder after half of the steps."""
    return parl.NextEnv(force=20.0) if values["env_steps"] == 64 else None


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_curriculum_on_ray_is_the_one_without_and_goes_on_bit_for_bit(tmp_path: Path) -> None:
    def run(name: str, **options: Any) -> parl.Run:
        given: dict[str, Any] = RUN | {"on_evaluation": harder} | options
        return parl.train("ppo", "jax:CartPole-v1", tmp_path / name, **given)

    plain = run("plain", execution="host", on_evaluation=None)
    host, ray = run("host", execution="host"), run("ray", actors=1)
    digests = [each.result["params_sha256"] for each in (plain, host, ray)]
    assert digests[0] != digests[1] == digests[2]
    end = lambda line: parl.Stop("half") if line["env_steps"] == 96 else None
    run("half", actors=1, on_record=end)
    more = parl.resume(tmp_path / "half", quiet=True, on_evaluation=harder, curve=False)
    assert more.result["params_sha256"] == ray.result["params_sha256"]
