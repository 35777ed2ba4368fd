"""Runs on two devices give the same parameters as on one: their seeds are spread, or one's batches.

The two devices are two of XLA's in a process of their own.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import quick
from tiny import Case, make, params_of

from parl.core.sharding import as_batch, batches_over, mesh_for

ITERATIONS = 5
SINGLE = [Case("ppo", "fused", 1), Case("ppo", "host", 1), Case("sac", "fused", 1)]
ON_HOST = {"replay_on_host": True}

START = """
import re
import sys
import jax
import numpy as np
from pathlib import Path
from test_sharding import ITERATIONS, ON_HOST, SINGLE
from tiny import Case, make, params_of, save

out = Path(sys.argv[1])
"""

SEEDS_SCRIPT = """
assert len(jax.devices()) == 2
run = make(Case("dqn", "fused", 2))
learn = run.programs[False] = run.programs[False].lower(run.data, run.run, 3).compile()
run.advance(3)
kernel = max(jax.tree.leaves(run.algorithm_state), key=lambda x: x.size)
assert len(kernel.sharding.device_set) == 2, kernel.sharding
text = learn.as_text()
assert "num_partitions=2" in text
assert not re.findall(r" (?:all-|collective-|reduce-scatter)[a-z-]*\\(", text), "seeds talk"
saved = save(run, out / "saved")
run.advance(2)
np.savez(out / "params.npz", **params_of(run))
again = make(Case("dqn", "fused", 2))
again.restore(saved)
again.advance(2)
for name, x in params_of(run).items():
    assert x.tobytes() == params_of(again)[name].tobytes(), name
"""

BATCH_SCRIPT = """
import jax.numpy as jnp
from parl.core.sharding import Averaging, as_batch, averaged_after, batches_over, mesh_for
from parl.core.sharding import on_shares

assert mesh_for(3) is None and mesh_for(4).size == 2
program = jax.jit(batches_over(mesh_for(2))(lambda x: as_batch(x) + 1))
assert program(jnp.zeros((6, 3))).sharding.shard_shape((6, 3)) == (3, 3)
assert program(jnp.zeros((5, 3))).sharding.is_fully_replicated

averaging = lambda updates: batches_over(mesh_for(4), Averaging(updates))
drift = lambda algorithm, state, batch, key: (
    state - batch.mean(), {"loss": batch.max(), "td_error": batch}
)

def learn(state, iteration):
    state, metrics = on_shares(drift, 0)(None, state, jnp.arange(4.0), jax.random.key(0))
    return averaged_after(state, iteration), metrics

with averaging(2):
    learn = jax.jit(learn)
    apart, metrics = learn(jnp.float32(0), 0)
    assert [float(x.data) for x in apart.addressable_shards] == [-0.5, -2.5]
    assert float(metrics["loss"]) == 2.0 and metrics["td_error"].tolist() == [0, 1, 2, 3]
    same, _ = learn(apart, 1)  # -1.0 and -5.0
    assert [float(x.data) for x in same.addressable_shards] == [-3.0, -3.0]

case = SINGLE[int(sys.argv[2])]
run = make(case)
if case.execution == "fused":
    learn = run.programs[False] = run.programs[False].lower(run.data, run.run, 3).compile()
run.advance(3)
assert all(x.sharding.is_fully_replicated for x in jax.tree.leaves(run.state))
assert all(len(x.sharding.device_set) == 2 for x in jax.tree.leaves(run.state))
if case.execution == "fused":
    obs = run.run.actor.vector.obs
    assert obs.sharding.shard_shape(obs.shape)[0] * 2 == obs.shape[0], obs.sharding
    text = learn.as_text()
    # the hidden layer of 6 units sees half a minibatch of 8 steps, or half a batch of 4
    rows = {int(n) for n in re.findall(r"f32\\[(\\d+),6\\]\\S* (?:dot|custom-call)\\(", text)}
    assert 4 in rows if case.algorithm == "ppo" else 2 in rows and 4 not in rows, rows
    assert " all-reduce(" in text, "gradients are summed"
else:
    rollout = run.divide(run.pool.collect(random=False)[0].rollout)
    shape = rollout.steps.obs.shape
    assert rollout.steps.obs.sharding.shard_shape(shape) == (shape[0], 1, shape[2])
    run = make(case)
    run.advance(3)
saved = save(run, out / "saved")
run.advance(ITERATIONS - 3)
np.savez(out / "params.npz", **params_of(run))
again = make(case)
if case.execution == "fused":
    again.programs[False] = learn
again.restore(saved)
again.advance(ITERATIONS - 3)
for name, x in params_of(run).items():
    assert x.tobytes() == params_of(again)[name].tobytes(), name
"""

HOST_MEMORY_SCRIPT = """
run = make(Case("sac", "host", 1), **ON_HOST)
run.advance(ITERATIONS)
assert type(run.state.replay.rows["float32"]) is np.ndarray
np.savez(out / "params.npz", **params_of(run))
"""


def on_two_devices(script: str, out: Path, case: int = 0) -> Any:
    """The parameters that a script writes."""
    here = Path(__file__).parent
    environment = os.environ | {
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2",
        "PYTHONPATH": f"{here}:{here.parent}:{here.parents[1]}",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",  # every run compiles its own start
    }
    words = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning"]
    words += ["-c", START + script, str(out), str(case)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return np.load(out / "params.npz")


def assert_close(run: Any, theirs: Any) -> None:
    ours = params_of(run)
    assert ours.keys() == set(theirs.files)
    for name, x in ours.items():
        np.testing.assert_allclose(x, theirs[name], rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_seeds_on_two_devices_equal_one(tmp_path: Path) -> None:
    run = make(Case("dqn", "fused", 2))
    run.advance(5)
    assert_close(run, on_two_devices(SEEDS_SCRIPT, tmp_path))


@pytest.mark.parametrize("case", quick(SINGLE, SINGLE[0]), ids=str)
def test_batches_on_two_devices_equal_one(case: Case, tmp_path: Path) -> None:
    run = make(case)
    run.advance(ITERATIONS)
    assert_close(run, on_two_devices(BATCH_SCRIPT, tmp_path, SINGLE.index(case)))


@pytest.mark.slow
def test_batches_from_host_memory_equal_too(tmp_path: Path) -> None:
    run = make(Case("sac", "host", 1), **ON_HOST)
    run.advance(ITERATIONS)
    assert_close(run, on_two_devices(HOST_MEMORY_SCRIPT, tmp_path))


def test_one_device_has_nothing_to_split() -> None:
    """Programs are those without any of this."""
    assert mesh_for(8) is None
    plain = lambda x: (x * 2).sum()
    marked = lambda x: (as_batch(x) * 2).sum()
    with batches_over(mesh_for(8)):
        assert str(jax.make_jaxpr(marked)(jnp.ones(4))) == str(jax.make_jaxpr(plain)(jnp.ones(4)))
    fused, host = make(Case("sac", "fused", 1)), make(Case("ppo", "host", 1))
    assert fused.places is None and host.mesh is None  # type: ignore[attr-defined]
