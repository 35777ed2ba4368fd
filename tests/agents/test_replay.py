"""The ring, on the device and in numpy, and that no program ever copies it."""

import re
from collections import deque
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import quick
from tiny import Case, make

from parl.agents.execution.fused import Fused
from parl.agents.execution.pooled import Pooled
from parl.agents.learner import LearnerState, OffPolicy, with_rows, without_rows
from parl.agents.replay.ring import Layout, NumpyReplay, Replay, ReplayState
from parl.core.errors import ConfigError

pytestmark = pytest.mark.usefixtures("compiled_replay")


def items(start: int, count: int) -> dict[str, Any]:
    """Items that know their number in every leaf."""
    n = np.arange(start, start + count)
    return {
        "obs": np.float32(n[:, None] + np.array([0.0, 0.25, 0.5])),
        "pixels": (n[:, None, None] + np.zeros((2, 2))).astype(np.uint8),
        "reward": np.float32(n),
        "action": n.astype(np.int32),
        "last": n % 3 == 0,
        "first": n % 4 == 0,
    }


RINGS = [Replay(10), NumpyReplay(10)]
IDS = ["device", "numpy"]


def filled(replay: Replay, adds: int, count: int = 3) -> ReplayState:
    state = replay.init(items(0, count))
    for i in range(adds):
        state = replay.add(state, items(i * count, count))
    return state


def content(state: ReplayState) -> dict[str, Any]:
    """All items in the order of the ring's slots."""
    return jax.device_get(state.layout.unpack(state.rows))


# -- the ring -------------------------------------------------------------------------------------


@pytest.mark.parametrize("replay", RINGS, ids=IDS)
def test_ring_is_a_deque_of_the_newest(replay: Replay) -> None:
    """Capacity 10 holds three adds of 3: 9 items."""
    state, naive = replay.init(items(0, 3)), deque(maxlen=9)
    for i in range(11):
        state = replay.add(state, items(3 * i + 1, 3))  # no item is the 0 of an empty slot
        naive.extend(range(3 * i + 1, 3 * i + 4))
        assert int(state.size) == len(naive) == min(3 * i + 3, 9)
        assert int(state.cursor) == 3 * (i + 1) % 9
        held = content(state)
        order = np.argsort(held["action"])[-len(naive) :]
        expected = items(0, 100)
        for name, x in held.items():
            np.testing.assert_array_equal(x[order], expected[name][list(naive)], err_msg=name)
            assert x.dtype == expected[name].dtype


@pytest.mark.parametrize("replay", RINGS, ids=IDS)
def test_the_oldest_are_overwritten_in_place(replay: Replay) -> None:
    held = content(filled(replay, 5))["action"]
    np.testing.assert_array_equal(held, [9, 10, 11, 12, 13, 14, 6, 7, 8])


@pytest.mark.parametrize("shape", [(64,), (3, 5)])
@pytest.mark.parametrize("adds", [1, 2, 7])
def test_samples_are_whole_items_that_are_there(adds: int, shape: tuple[int, ...]) -> None:
    expected, key = items(0, 100), jax.random.key(adds)
    device, host = (replay.sample(filled(replay, adds), key, shape) for replay in RINGS)
    number = np.asarray(device["action"])
    there = set(range(3 * adds)[-9:])
    assert set(number.ravel()) <= there
    for name, x in device.items():
        assert x.shape[: len(shape)] == shape
        np.testing.assert_array_equal(x, expected[name][number])
        np.testing.assert_array_equal(x, host[name])  # the same key draws the same from both
        assert host[name].dtype == x.dtype and isinstance(host[name], np.ndarray)


def test_sampling_is_uniform() -> None:
    number = np.asarray(RINGS[0].sample(filled(RINGS[0], 4), jax.random.key(0), (9000,))["action"])
    counts = np.bincount(number, minlength=12)[3:]
    np.testing.assert_allclose(counts, 1000, atol=150)  # 5 standard deviations


def test_host_ring_equals_device_ring_when_full_and_wrapped() -> None:
    for adds in range(8):
        device, host = (filled(replay, adds) for replay in RINGS)
        for name, row in device.rows.items():
            np.testing.assert_array_equal(row, host.rows[name])
        assert int(device.cursor) == int(host.cursor) and int(device.size) == int(host.size)


def test_host_ring_writes_in_place() -> None:
    state = NumpyReplay(10).init(items(0, 3))
    row = state.rows["float32"]
    after = NumpyReplay(10).add(state, jax.tree.map(jnp.asarray, items(0, 3)))
    assert after.rows["float32"] is row and row[2, -1] == 2.0


# -- capacity and layout --------------------------------------------------------------------------


def test_capacity_is_rounded_down_to_whole_adds() -> None:
    for capacity, count, expected in ((10, 3, 9), (9, 3, 9), (10, 10, 10), (11, 4, 8)):
        state = Replay(capacity).init(items(0, count))
        assert {row.shape[0] for row in state.rows.values()} == {expected}


def test_a_replay_smaller_than_one_add_is_refused() -> None:
    with pytest.raises(ConfigError, match="replay of 10 items cannot take 11 at once; raise --cap"):
        Replay(10).init(items(0, 11))


def test_rows_are_one_array_per_dtype() -> None:
    state = Replay(10).init(items(0, 5), lead=(2,))
    shapes = {dtype: row.shape for dtype, row in state.rows.items()}
    assert shapes == {
        "float32": (2, 10, 3 + 1),
        "uint8": (2, 10, 4),
        "int32": (2, 10, 1),
        "bool": (2, 10, 2),
    }
    assert state.cursor.shape == state.size.shape == ()


def test_packing_is_lossless_for_any_leading_axes() -> None:
    layout, batch = Layout.of(items(0, 6)), items(0, 6)
    rows = layout.pack(batch, np)
    folded = layout.unpack({dtype: row.reshape(2, 3, -1) for dtype, row in rows.items()})
    for name, x in batch.items():
        np.testing.assert_array_equal(folded[name].reshape(x.shape), x)
    assert hash(layout) == hash(Layout.of(items(6, 6)))


# -- what a checkpoint takes ----------------------------------------------------------------------


@pytest.mark.parametrize("replay", RINGS, ids=IDS)
@pytest.mark.parametrize("adds", [0, 2, 5])
def test_detach_and_attach(replay: Replay, adds: int) -> None:
    state = LearnerState({"w": jnp.ones(2)}, filled(replay, adds))
    rest, used = without_rows(state)
    assert rest.replay is not None and rest.replay.rows == {}
    assert used["float32"].shape == (min(3 * adds, 9), 4), "empty slots are not saved"
    saved = jax.tree.map(np.array, used)
    back = with_rows(rest, saved, LearnerState({}, replay.init(items(0, 3))))
    assert back.replay is not None and state.replay is not None
    for name, row in state.replay.rows.items():
        np.testing.assert_array_equal(back.replay.rows[name], row)
        assert isinstance(back.replay.rows[name], type(row))


# -- the copy trap --------------------------------------------------------------------------------

CAPACITY = 100_003 * 16  # a multiple of what one iteration adds; found nowhere else in a program


PLACES = ["fused-1", "fused-2", "host-1", "host-2"]


@pytest.fixture(scope="module", params=quick(PLACES, "fused-2", "host-1"))
def programs(request: Any) -> dict[str, Any]:
    """The compiled programs of SAC with a large replay, by whether they learn."""
    execution, num_seeds = request.param.split("-")
    run = make(Case("sac", execution, int(num_seeds)), capacity=CAPACITY)
    if isinstance(run, Fused):
        return {
            str(fill): run.programs[fill].lower(run.data, run.run, 2).compile()
            for fill in (True, False)
        }
    assert isinstance(run, Pooled)
    rollout = run.pool.collect(random=True)[0].rollout
    clock = np.int32(5)
    return {
        "fill": run.fill.lower(run.data, run.state, rollout).compile(),
        "learn": run.learn.lower(run.data, run.state, rollout, run.keys, clock).compile(),
    }


def test_no_program_copies_the_replay(programs: dict[str, Any]) -> None:
    """Neither an instruction that copies, nor scratch memory that could hold a copy."""
    rows = rf"\[(?:\d+,)?{CAPACITY},\d+\]"
    for name, compiled in programs.items():
        lines = [line.strip() for line in compiled.as_text().splitlines()]
        touching = [line for line in lines if re.search(rf"= \S*{rows}", line)]
        kinds = {re.search(r"\s([a-z][\w-]*)\(", line)[1] for line in touching}  # type: ignore
        assert "dynamic-update-slice" in kinds and "parameter" in kinds, kinds
        assert kinds <= {
            *("parameter", "dynamic-update-slice", "fusion", "get-tuple-element", "bitcast"),
        }, (name, kinds)
        memory = compiled.memory_analysis()
        assert memory.temp_size_in_bytes < CAPACITY, name  # bytes; one row has 9 floats
        assert memory.alias_size_in_bytes > 9 * 4 * CAPACITY, "donated and written in place"


def test_the_check_sees_a_copy() -> None:
    """A ring that is added to without donation has to be copied."""
    replay = Replay(CAPACITY)
    state = replay.init(items(0, 16))
    compiled = jax.jit(replay.add).lower(state, items(0, 16)).compile()
    assert re.search(rf"\[{CAPACITY},4\]\S* copy\(", compiled.as_text() or "")


def test_step_is_one_item() -> None:
    """An off-policy learner stores T * B single steps."""
    run = make(Case("dqn", "host", 1))
    assert isinstance(run.learner, OffPolicy)
    rollout = run.pool.collect(random=True)[0].rollout  # type: ignore[attr-defined]
    stored = run.learner.algorithm.items(rollout)
    assert stored.obs.shape == (16, 4) and stored.action.shape == (16,)
    np.testing.assert_array_equal(stored.obs[5], rollout.steps.obs[2, 1])


# -- what does not fit ----------------------------------------------------------------------------


@pytest.mark.parametrize("replay", RINGS, ids=IDS)
def test_an_add_of_another_size_is_refused(replay: Replay) -> None:
    """It would wrap around in the middle of a write."""
    state = filled(replay, 2)
    for count in (1, 5, 9):
        with pytest.raises(ConfigError, match=f"made for 3 items at a time and was given {count};"):
            replay.add(state, items(6, count))
    np.testing.assert_array_equal(content(replay.add(state, items(6, 3)))["action"], np.arange(9))
    with pytest.raises(ConfigError, match="without a step"):
        replay.init(items(0, 0))


@pytest.mark.parametrize("replay", RINGS, ids=IDS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -1e20])
def test_unusable_items_are_stored_and_others_taken(replay: Replay, value: float) -> None:
    """In their place is the sample before them, round the end of the batch."""
    spoilt = items(3, 3)
    spoilt["reward"][1] = value
    state = replay.add(filled(replay, 1), spoilt)
    assert not np.isfinite(content(state)["reward"][4]) or content(state)["reward"][4] == value
    batch = replay.take(state, np.array([[1, 4, 4, 2], [4, 0, 5, 4]]))
    np.testing.assert_array_equal(batch["reward"], [[1, 1, 1, 2], [5, 0, 5, 5]])
    np.testing.assert_array_equal(batch["action"], [[1, 1, 1, 2], [5, 0, 5, 5]])
    alone = replay.take(state, np.array([4, 4]))
    np.testing.assert_array_equal(alone["action"], [4, 4])
