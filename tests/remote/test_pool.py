import numpy as np
import pytest
from makers import assert_same, make_policy, worker_maker

from parl.remote import RolloutPool

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("id", "num_workers"),
    [
        ("jax:CartPole-v1", 2),
        ("CartPole-v1", 1),
        ("jax:CartPole-v1", 1),
        ("CartPole-v1", 2),
        ("CartPole-v1", 4),
        ("HalfCheetah-v5", 1),
        ("HalfCheetah-v5", 2),
        ("HalfCheetah-v5", 4),
    ],
)
def test_ray_gives_the_same_bits_as_inline(id, num_workers, monkeypatch):
    if num_workers > 1:  # policies through the object store, else with the requests
        monkeypatch.setattr("parl.remote.process.SMALL", 0)
    pools = [
        RolloutPool(worker_maker(id), num_workers, 3, 20, backend=backend)
        for backend in ("ray", "inline")
    ]
    policies = [make_policy(id, seed) for seed in range(2)]
    try:
        for version, random in enumerate([True, False, False]):
            for pool in pools:
                pool.publish(policies[version % 2], version)
            ray, inline = (pool.collect(random) for pool in pools)
            assert len(ray) == num_workers
            assert ray[0].rollout.steps.obs.shape[:2] == (20, 3)
            assert_same(ray, inline)
        if num_workers > 1:
            assert not np.array_equal(ray[0].rollout.steps.obs, ray[1].rollout.steps.obs)
        assert_same(*[[s.arrays for s in pool.get_states()] for pool in pools])
    finally:
        for pool in pools:
            pool.close()
