"""Data sets: what is played is what is read, and what is wrong with a file is one sentence."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import parl
from parl.cli import main
from parl.core.actions import number_map
from parl.core.errors import ConfigError, DataError
from parl.core.spec import Box, Discrete, EnvSpec
from parl.core.types import Step
from parl.datasets.card import Card, Shard, card_for
from parl.datasets.cutter import Cutter
from parl.datasets.episode import Episode, steps_of
from parl.datasets.maintenance import merged, problems
from parl.datasets.reader import DataSet, open_data
from parl.datasets.writer import Writer
from parl.envs.classic.cartpole import CartPole, CartPoleState
from parl.runs import data, record
from parl.runs.data import packed

h5py = pytest.importorskip("h5py")

RUNS = Path(__file__).parents[1] / "data" / "runs"
LINE = EnvSpec("line", Box((1,)), Discrete(3))


def episode(start: float, count: int, terminated: bool = False, truncated: bool = True) -> Episode:
    """Observations start, start + 1, ...; actions and rewards count from 0."""
    n = np.arange(count)
    flags = [np.where(n == count - 1, flag, False) for flag in (terminated, truncated)]
    obs = (start + np.arange(count + 1, dtype=np.float32))[:, None]
    return Episode(obs, n % 3, n.astype(np.float32), *flags)


def written(root: Path, *episodes: Episode, spec: EnvSpec = LINE) -> DataSet:
    with Writer(root, card_for(spec, spec.id)) as writer:
        writer.add(episodes)
    return open_data(root)


def same(one: Episode, other: Episode) -> None:
    jax.tree.map(np.testing.assert_array_equal, one, other)


# --- recording ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Episodes of a policy, of which some terminate and some are cut after 30 steps."""
    out = tmp_path_factory.mktemp("recorded") / "set"
    env = "jax:CartPole-v1?max_steps=30"
    parl.record(RUNS / "ppo-fused", out, episodes=20, sample=True, seed=1, env=env)
    return out


def test_what_is_read_is_what_was_played(recorded: Path) -> None:
    """Step by step: the physics leads from each observation by its action to the next one."""
    env, ends = CartPole(max_steps=30), set()
    step = jax.jit(env.step)
    source = open_data(recorded)
    assert source.card.episodes == 20
    for each in source.episodes():
        assert len(each.observations) == each.size + 1
        assert abs(each.observations[0]).max() <= 0.05  # an episode's start
        for t in range(each.size):
            state = CartPoleState(each.observations[t], jnp.int32(t))
            _, obs, reward, terminated, truncated = step(state, each.actions[t], None)
            np.testing.assert_allclose(each.observations[t + 1], obs, rtol=1e-6, atol=1e-7)
            assert each.rewards[t] == reward and each.terminated[t] == terminated
            assert each.truncated[t] == (truncated & ~terminated)
        ends.add((bool(each.terminated[-1]), each.size))
        assert not (each.terminated | each.truncated)[:-1].any()
    assert (False, 30) in ends and any(end for end, _ in ends)  # both kinds are there
    totals = [each.total for each in source.episodes()]
    assert source.card.returns["mean"] == pytest.approx(np.mean(totals))
    assert source.card.policy["actions"] == "sampled" and source.card.complete


def test_a_cut_episode_goes_on_in_value_and_one_that_terminated_does_not(recorded: Path) -> None:
    """Taken for the other, `truncated` would give the last step of these a discount of 0."""
    source = open_data(recorded)
    spec = source.spec()
    discounts = {e.size < 30: steps_of(e, spec, "").discount[-1] for e in source.episodes()}
    assert discounts == {True: 0.0, False: 1.0}
    for each in source.episodes():
        steps = steps_of(each, spec, "")
        assert steps.last[-1] and steps.first[0] and steps.last.sum() == steps.first.sum() == 1
        np.testing.assert_array_equal(steps.discount[:-1], 1.0)


def test_a_recording_that_was_broken_off_goes_on_as_if_nothing_was(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "SHARD_STEPS", 240)  # 8 episodes of 30 steps
    given: dict[str, Any] = {
        "episodes": 20,
        "sample": True,
        "seed": 1,
        "env": "jax:CartPole-v1?max_steps=30",
    }
    whole = parl.record(RUNS / "ppo-fused", tmp_path / "whole", **given)
    assert [shard.episodes for shard in whole.card.shards] == [8, 8, 4]
    half = tmp_path / "half"
    begun = dataclasses.replace(
        whole.card, shards=(), episodes=0, steps=0, returns={}, complete=False
    )
    writer = Writer(half, begun)
    writer.add([*open_data(whole.path).episodes(8)])
    writer.flush()
    (half / "data" / "shard_00001.hdf5").write_bytes(b"torn")  # no card names it
    with pytest.raises(ConfigError, match="is being written by this process"):
        Writer(half, begun)
    with pytest.raises(DataError, match="is still being written, or its recording was broken off"):
        open_data(half)
    writer.lock.close()
    other: dict[str, Any] = given | {"seed": 2}
    with pytest.raises(ConfigError, match="holds the beginning of another data set"):
        parl.record(RUNS / "ppo-fused", half, **other)
    done = parl.record(RUNS / "ppo-fused", half, **given)
    assert done.card.sha256 == whole.card.sha256
    with pytest.raises(ConfigError, match="already holds a data set"):
        parl.record(RUNS / "ppo-fused", half, **given)


def test_so_many_steps_and_no_more(tmp_path: Path) -> None:
    """In the environment's own actions, from -2 to 2."""
    done = parl.record(RUNS / "sac-host", tmp_path / "set", steps=450, seed=3)
    lengths = [each.size for each in open_data(tmp_path / "set").episodes()]
    assert lengths == [200, 200, 50] and done.card.steps == 450
    last = [*open_data(tmp_path / "set").episodes()][-1]
    assert not (last.truncated | last.terminated).any() and last.actions.shape == (50, 1)
    assert done.card.returns["count"] == 2  # those that ended
    assert 1 < abs(last.actions).max() <= 2
    steps = steps_of(last, open_data(tmp_path / "set").spec(), "")
    np.testing.assert_allclose(steps.action * 2, last.actions, rtol=1e-6)


def test_what_record_refuses(tmp_path: Path) -> None:
    run = RUNS / "ppo-fused"
    with pytest.raises(ConfigError, match="--episodes N or --steps N, one of the two"):
        parl.record(run, tmp_path / "a")
    with pytest.raises(ConfigError, match="that is 'parl video"):
        parl.record(run, tmp_path / "a.mp4", episodes=1)
    with pytest.raises(ConfigError, match="has 1 seed, so seed_index must be below that, not 1"):
        parl.record(run, tmp_path / "a", episodes=1, seed_index=1)


def test_rollouts_are_cut_into_episodes() -> None:
    """Across rollouts, for each environment, with pieces of what is longer than the limit."""
    first = np.array([[1, 0], [0, 0], [1, 1], [0, 0]], bool)
    last = np.array([[0, 0], [1, 1], [0, 0], [0, 0]], bool)
    n = np.arange(8, dtype=np.float32).reshape(4, 2)
    discount = np.where(last & (n < 3), 0.0, 1.0)
    steps = Step(n[..., None], n.astype(int) % 3, n, discount, n[..., None] + 2, first, last, {})
    cutter = Cutter(LINE)
    one, two = cutter.add(steps)
    assert [each.rewards.tolist() for each in one] == [[0, 2]] and two == []  # its start is unknown
    assert one[0].terminated.tolist() == [False, True] and not one[0].truncated.any()
    assert one[0].observations[:, 0].tolist() == [0, 2, 4]
    more = steps._replace(first=np.zeros((4, 2), bool), last=np.eye(4, 2, k=-1, dtype=bool))
    (long,), (other,) = cutter.add(more._replace(discount=np.ones((4, 2))))
    assert long.rewards.tolist() == [4, 6, 0, 2] and long.truncated.tolist() == [0, 0, 0, 1]
    assert other.rewards.tolist() == [5, 7, 1, 3, 5]
    limited = Cutter(LINE, limit=3).add(more._replace(first=np.eye(4, 2, dtype=bool)))
    assert [[e.size for e in column] for column in limited] == [[2], [2]]
    assert [e.size for e in Cutter(LINE, limit=2).add(steps._replace(last=first & False))[0]] == [
        2,
        2,
    ]


# --- other layouts ------------------------------------------------------------------------------


def flat(path: Path, timeouts: bool = True, following: bool = False, **changes: Any) -> Path:
    """Three episodes of 3 steps in D4RL's layout: one terminates, one is cut, one goes on."""
    n = np.arange(9, dtype=np.float32)
    ends = {"terminals": n == 2, "timeouts": n == 5} if timeouts else {"terminals": n == 2}
    obs = np.stack([n, n // 3 * 100], 1)
    columns: dict[str, Any] = {"observations": obs, "actions": n[:, None] / 10, "rewards": n}
    if following:
        columns["next_observations"] = obs + np.array([1, 0], np.float32)
    with h5py.File(path, "w") as file:
        for name, x in (columns | ends | changes).items():
            if x is not None:
                file[name] = x
    return path


def test_files_of_d4rl(tmp_path: Path) -> None:
    """What followed the step that was cut is not known: it is left out, unless it is stored."""
    found = [*open_data(flat(tmp_path / "a.hdf5")).episodes()]
    assert [each.rewards.tolist() for each in found] == [[0, 1, 2], [3, 4], [6, 7]]
    assert found[0].terminated.tolist() == [False, False, True]
    assert not found[1].terminated.any() and not found[1].truncated.any()
    assert [each.observations[-1, 0] for each in found] == [2, 5, 8]
    whole = [*open_data(flat(tmp_path / "b.hdf5", following=True)).episodes()]
    assert [each.rewards.tolist() for each in whole] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert whole[1].truncated.tolist() == [False, False, True]
    np.testing.assert_array_equal(
        [each.observations[-1] for each in whole], [[3, 0], [6, 100], [9, 200]]
    )
    told = [*open_data(flat(tmp_path / "c.hdf5", timeouts=False, following=True)).episodes()]
    assert [each.size for each in told] == [3, 3, 3], "the jumps between them tell where they end"
    assert open_data(tmp_path / "a.hdf5").spec().action_space == Box((1,))


def test_minari_s_layout_without_our_card(tmp_path: Path) -> None:
    made = written(tmp_path / "set", episode(0, 3), episode(9, 2, True, False))
    (tmp_path / "set" / "card.json").unlink()
    found = open_data(tmp_path / "set")
    assert not found.card.shards and found.most_steps() == 5
    for one, other in zip(found.episodes(), made.episodes(), strict=True):
        same(one, other)
    with pytest.raises(DataError, match="does not say how many actions there are"):
        found.spec()


def test_minari_reads_ours(recorded: Path) -> None:
    minari = pytest.importorskip("minari")
    theirs = minari.MinariDataset(recorded / "data")
    ours = [*open_data(recorded).episodes()]
    assert theirs.total_episodes == 20 and theirs.total_steps == sum(each.size for each in ours)
    assert theirs.observation_space.shape == (4,) and theirs.action_space.n == 2
    for each, own in zip(theirs.iterate_episodes(), ours, strict=True):
        np.testing.assert_array_equal(each.observations, own.observations)
        np.testing.assert_array_equal(each.actions, own.actions)
        np.testing.assert_array_equal(each.terminations, own.terminated)
        np.testing.assert_array_equal(each.truncations, own.truncated)


# --- what is wrong ------------------------------------------------------------------------------


def test_damaged_files_are_one_sentence(tmp_path: Path) -> None:
    made = written(tmp_path / "set", *[episode(i, 50) for i in range(40)])
    shard = tmp_path / "set" / "data" / "shard_00000.hdf5"
    assert problems(made.path) == [] and main(["data", "check", str(made.path)]) == 0
    content = shard.read_bytes()
    shard.write_bytes(content[: len(content) // 2])  # cut off
    (line,) = problems(made.path)
    assert "shard_00000.hdf5 is damaged" in line
    shutil.copy(shard, tmp_path / "cut.hdf5")
    with pytest.raises(DataError, match="damaged, cut off or something else"):
        list(open_data(tmp_path / "cut.hdf5").episodes())
    shard.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])  # one byte
    assert main(["data", "check", str(made.path)]) == 1
    with pytest.raises(DataError, match="is not the file that card"):
        packed(made, LINE, Any, None)  # pyright: ignore[reportArgumentType]
    shard.unlink()
    with pytest.raises(DataError, match=r"is damaged: .* is not there"):
        open_data(made.path)
    card = json.loads((made.path / "card.json").read_text())
    card["shards"][0]["sha256"] = "0"
    (made.path / "card.json").write_text(json.dumps(card))
    with pytest.raises(DataError, match="its checksum does not match"):
        open_data(made.path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"terminals": None}, "has no terminals: which steps ended an episode and which were only"),
        ({"timeouts": None}, "neither timeouts nor next_observations"),
        ({"rewards": np.zeros(8)}, "arrays of different lengths: it is cut off"),
    ],
)
def test_files_that_do_not_tell_enough(changes: dict, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        list(open_data(flat(tmp_path / "a.hdf5", **changes)).episodes())


def test_what_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_data(tmp_path / "none")
    with pytest.raises(DataError, match=r"neither card.json nor data/main_data.hdf5"):
        open_data(tmp_path)
    (tmp_path / "text.hdf5").write_text("no")
    with pytest.raises(DataError, match="damaged, cut off or something else"):
        list(open_data(tmp_path / "text.hdf5").episodes())
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["episode_0/observations"] = np.zeros((3, 1))
        file["episode_0/actions"] = np.zeros(2)
        file["episode_0/rewards"] = np.zeros(2)
    with pytest.raises(DataError, match=r"episode_0, has no terminations: which steps ended"):
        list(open_data(tmp_path / "other.hdf5").episodes())
    with h5py.File(tmp_path / "other.hdf5", "a") as file:
        file["episode_0/terminations"] = file["episode_0/truncations"] = np.zeros(2, bool)
        del file["episode_0/observations"]
        file["episode_0/observations"] = np.zeros((2, 1))
    with pytest.raises(DataError, match="2 rewards and 2 observations, where there has to be one"):
        list(open_data(tmp_path / "other.hdf5").episodes())


def test_data_of_other_spaces_and_not_numbers() -> None:
    data = episode(0, 3)
    wide = EnvSpec("wide", Box((2,)), Discrete(3))
    with pytest.raises(DataError, match=r"observations of shape \(1,\), but wide has Box\(2,\)"):
        steps_of(data, wide, "x")
    space, action_map = number_map(-2.0, 2.0, (1,), np.float32)
    real = EnvSpec("real", Box((1,)), space, action_map=action_map)
    with pytest.raises(DataError, match=r"choices of shape \(\), but real takes Box\(1,\)"):
        steps_of(data, real, "x")
    numbers = data._replace(actions=np.zeros((3, 1), np.float32))
    with pytest.raises(DataError, match=r"numbers of shape \(1,\), but line takes Discrete\(3\)"):
        steps_of(numbers, LINE, "x")


def test_nan_is_found(tmp_path: Path) -> None:
    bad = episode(0, 3)
    bad.rewards[1] = np.nan
    made = written(tmp_path / "set", episode(5, 4), bad)
    with pytest.raises(DataError, match="holds NaN or infinity in the reward of episode 1"):
        packed(made, LINE, parl.Algorithm(), None)
    assert problems(made.path) == ["episode 1 holds NaN or infinity in its rewards."]


# --- whole data sets ----------------------------------------------------------------------------


def test_merge_and_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = written(tmp_path / "one", episode(0, 3), episode(10, 2))
    two = written(tmp_path / "two", episode(20, 4, True, False))
    both = tmp_path / "both"
    assert main(["data", "merge", str(one.path), str(two.path), "--out", str(both)]) == 0
    found = open_data(both)
    wanted = [*one.episodes(), *two.episodes()]
    assert found.returns() == (1.0, 6.0)  # 0 + 1 and 0 + 1 + 2 + 3
    assert found.card.steps == 9 and found.card.policy == {
        "merged": [one.card.sha256, two.card.sha256]
    }
    for each, own in zip(found.episodes(), wanted, strict=True):
        same(each, own)
    out = [str(tmp_path / name) for name in "ab"]
    assert main(["data", "split", str(both), "--share", "0.7", "--out", *out]) == 0
    parts = [{float(e.observations[0, 0]) for e in open_data(path).episodes()} for path in out]
    assert [len(part) for part in parts] == [2, 1] and parts[0] | parts[1] == {0, 10, 20}
    capsys.readouterr()
    assert main(["data", "info", str(both)]) == 0
    assert "3 episodes, 9 steps" in capsys.readouterr().out
    other = written(tmp_path / "other", episode(0, 2), spec=EnvSpec("x", Box((1,)), Discrete(4)))
    with pytest.raises(ConfigError, match="is of another environment than"):
        merged([one.path, other.path], tmp_path / "c")


def test_the_card_counts_returns_over_shards(tmp_path: Path) -> None:
    totals = [3.0, 6.0, 1.0, 10.0]
    card = Card()
    for part in (totals[:1], totals[1:]):
        card = card.with_shard(Shard("a", 1, 1, "b"), part)
    assert card.returns["count"] == 4 and card.returns["mean"] == np.mean(totals)
    assert card.returns["std"] == pytest.approx(np.std(totals))
    assert (card.returns["min"], card.returns["max"]) == (1, 10)


def test_steps_that_do_not_fit_lie_in_a_file_that_goes_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = written(tmp_path / "set", episode(0, 30), episode(50, 20))
    held = packed(made, LINE, parl.Algorithm(), tmp_path)
    assert not data.is_large(made, LINE)
    monkeypatch.setattr(data, "available_memory", lambda: 1_000)
    mapped = packed(made, LINE, parl.Algorithm(), tmp_path)
    assert data.is_large(made, LINE)
    assert all(isinstance(row, np.memmap) for row in mapped.rows.values())
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert held.size == mapped.size == 50
    for name, row in held.rows.items():
        np.testing.assert_array_equal(row, mapped.rows[name])
    steps = mapped.layout.unpack(mapped.rows)
    np.testing.assert_array_equal(steps.obs[:, 0], [*range(30), *range(50, 70)])
    np.testing.assert_array_equal(np.flatnonzero(steps.last), [29, 49])
    assert steps.discount.min() == 1.0  # both were only cut
