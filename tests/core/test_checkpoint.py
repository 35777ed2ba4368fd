"""Checkpoints: bit-equal round trips, atomic writes, and that no damage goes unnoticed."""

import ast
import contextlib
import inspect
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parl.core import checkpoint
from parl.core.errors import CheckpointError


class Pair(NamedTuple):
    params: Any
    opt: Any


def make_tree() -> dict[str, Any]:
    """Leaves of every dtype, scalars, an empty array, typed keys, a name with a slash."""
    key = jax.random.key(7)
    return {
        "net": Pair(
            params={"kernel": jax.random.normal(key, (3, 5)), "bias": jnp.arange(5.0)},
            opt={"count": jnp.int32(17), "mu": jnp.full((3, 5), 0.25, jnp.bfloat16)},
        ),
        "flags": [jnp.array([True, False, True]), jnp.array(False)],
        "image": jnp.arange(24, dtype=jnp.uint8).reshape(2, 3, 4),
        "keys": (jax.random.split(key, 3), jax.random.key(9, impl="rbg")),
        "empty": jnp.zeros((0, 4)),
        "slash/name": np.arange(4, dtype=np.int32),
    }


META = {"config": {"lr": 1e-3, "hidden": [64, 64]}, "exact": True, "note": "déjà vu"}


def bits(leaf: Any) -> bytes:
    return checkpoint.to_numpy(leaf).tobytes()


def assert_same(ours: Any, theirs: Any) -> None:
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        assert bits(a) == bits(b)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    checkpoint.save(tmp_path / "100", {"run": make_tree()}, META)
    return tmp_path / "100"


# -- round trip ---------------------------------------------------------------------------------


def test_round_trip_is_bit_equal(saved: Path) -> None:
    tree = make_tree()
    read = checkpoint.read(saved)
    assert read.meta == META
    template = jax.tree.map(
        lambda x: x if checkpoint.is_key(x) else jnp.zeros(x.shape, x.dtype), tree
    )
    restored = read.restore("run", template)
    assert_same(restored, tree)
    keys = jax.random.uniform(restored["keys"][1], (3,))
    np.testing.assert_array_equal(keys, jax.random.uniform(jax.random.key(9, impl="rbg"), (3,)))


def test_special_floats_survive(tmp_path: Path) -> None:
    odd = np.array([np.nan, -np.nan, np.inf, -0.0, np.float32(1e-45)], np.float32)
    checkpoint.save(tmp_path / "c", {"x": odd}, {})
    assert checkpoint.read(tmp_path / "c").arrays["x"].tobytes() == odd.tobytes()


def test_a_directory_of_two_files(saved: Path) -> None:
    assert sorted(p.name for p in saved.iterdir()) == ["arrays.bin", "manifest.json"]
    manifest = json.loads((saved / "manifest.json").read_text())
    entries = {entry["name"]: entry for entry in manifest["arrays"]}
    assert entries["run/net/params/kernel"]["dtype"] == "float32"
    assert entries["run/net/opt/mu"]["dtype"] == "bfloat16"
    assert entries["run/image"]["shape"] == [2, 3, 4]
    assert (saved / "arrays.bin").stat().st_size == sum(e["bytes"] for e in manifest["arrays"])


def test_restored_arrays_own_their_buffers(saved: Path) -> None:
    """They may be donated: two restores, and the file's bytes, must be independent."""
    read = checkpoint.read(saved)
    template = make_tree()
    first = read.restore("run", template)
    jax.jit(lambda x: x + 1, donate_argnums=0)(first["net"].params["kernel"])
    assert_same(read.restore("run", template), template)


def test_saving_again_replaces(saved: Path) -> None:
    checkpoint.save(saved, {"run": {"x": np.float32(3)}}, {})
    assert list(checkpoint.read(saved).arrays) == ["run/x"]
    assert [p.name for p in saved.parent.iterdir()] == ["100"]


def test_no_pickle_anywhere() -> None:
    tree = ast.parse(inspect.getsource(checkpoint))
    names = {alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
    names |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
    assert not {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"} & names
    assert "pickle" not in vars(checkpoint)


# -- atomicity ----------------------------------------------------------------------------------


class Full:
    """A disk that fills up at the n-th call."""

    def __init__(self, n: int, real: Any):
        self.left, self.real = n, real

    def __call__(self, *args: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise OSError(28, "No space left on device")
        return self.real(*args)


@pytest.mark.parametrize("calls", [0, 1])
def test_a_full_disk_leaves_the_old_one(
    saved: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    """calls = 0: while writing the arrays; 1: while writing the manifest."""
    before = {p.name: p.read_bytes() for p in saved.iterdir()}
    monkeypatch.setattr(checkpoint, "sync", Full(calls, checkpoint.sync))
    for path in (saved, saved.with_name("200")):
        with pytest.raises(CheckpointError, match=r"could not write .*: No space left on device"):
            checkpoint.save(path, {"x": np.zeros(3)}, {})
        monkeypatch.setattr(checkpoint, "sync", Full(calls, checkpoint.sync))
    assert [p.name for p in saved.parent.iterdir()] == ["100"], "no temporary is left behind"
    assert {p.name: p.read_bytes() for p in saved.iterdir()} == before
    assert_same(checkpoint.read(saved).restore("run", make_tree()), make_tree())


def test_a_failing_rename_puts_the_old_one_back(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if self.name.startswith(".writing"):
            raise OSError(5, "Input/output error")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(CheckpointError, match="Input/output error"):
        checkpoint.save(saved, {"x": np.zeros(3)}, {})
    monkeypatch.undo()
    assert [p.name for p in saved.parent.iterdir()] == ["100"]
    assert_same(checkpoint.read(saved).restore("run", make_tree()), make_tree())


def test_a_path_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="could not write"):
        checkpoint.save(tmp_path / "file" / "100", {"x": np.zeros(3)}, {})


# -- corruption ---------------------------------------------------------------------------------


def mutate(path: Path, rng: np.random.Generator) -> str:
    """Damages a checkpoint; returns what was done."""
    manifest = json.loads((path / "manifest.json").read_text())
    file = path / str(rng.choice(["manifest.json", "arrays.bin"]))
    data = bytearray(file.read_bytes())
    match kind := str(rng.choice(["flip", "bit", "truncate", "append", "cut", "swap", "remove"])):
        case "flip":  # some bytes anywhere
            for place in rng.integers(len(data), size=rng.integers(1, 4)):
                data[place] ^= int(rng.integers(1, 256))
        case "bit":
            data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        case "truncate":
            data = data[: rng.integers(len(data))]
        case "append":
            data += rng.bytes(int(rng.integers(1, 9)))
        case "cut":  # a byte in the middle is gone
            del data[rng.integers(len(data))]
        case "swap":  # the bytes of two arrays of one size change places
            kernel, mu = (
                next(e for e in manifest["arrays"] if e["name"] == name)
                for name in ("run/net/params/bias", "run/net/params/kernel")
            )
            file = path / "arrays.bin"
            data = bytearray(file.read_bytes())
            a, b, n = kernel["offset"], mu["offset"], kernel["bytes"]
            data[a : a + n], data[b : b + n] = data[b : b + n], data[a : a + n]
        case "remove":
            file.unlink()
            return f"remove {file.name}"
    file.write_bytes(data)
    return f"{kind} {file.name}"


def test_every_random_damage_is_detected(saved: Path) -> None:
    rng = np.random.default_rng(0)
    intact = {p.name: p.read_bytes() for p in saved.iterdir()}
    seen = set()
    for _ in range(300):
        done = mutate(saved, rng)
        now = {p.name: p.read_bytes() for p in saved.iterdir()}
        if now != intact:  # two flips of one byte may cancel
            seen.add(done)
            with pytest.raises(CheckpointError) as caught:
                checkpoint.read(saved)
            assert str(saved) in str(caught.value), done
        for name, data in intact.items():
            (saved / name).write_bytes(data)
    assert len(seen) >= 11, "all kinds of damage, in both files"
    checkpoint.read(saved)


def foreign(path: Path, **changes: Any) -> None:
    """A manifest by another program, with a checksum that is right."""
    content = json.loads((path / "manifest.json").read_text())
    for name in ("schema", "checksum"):
        content.pop(name)
    content |= changes
    content = {name: value for name, value in content.items() if value is not None}
    checkpoint.write_manifest(path / "manifest.json", content)


ENTRY = {"name": "x", "dtype": "float32", "shape": [1], "offset": 0, "bytes": 4, "sha256": ""}


@pytest.mark.parametrize(
    "changes",
    [
        {"meta": None},
        {"arrays": None},
        {"arrays": 3},
        {"arrays": "abc"},
        {"arrays": {"x": 1}},
        {"arrays": [None]},
        {"arrays": []},
        {"arrays": [ENTRY]},
        {"arrays": [ENTRY | {"bytes": "4"}]},
        {"arrays": [ENTRY | {"offset": None}]},
    ],
)
def test_foreign_manifests_are_refused(saved: Path, changes: dict[str, Any]) -> None:
    foreign(saved, **changes)
    with pytest.raises(CheckpointError):
        checkpoint.read(saved)


@pytest.mark.parametrize(
    "change", [{"dtype": "nonsense"}, {"dtype": "object"}, {"shape": [7]}, {"shape": "x"}]
)
def test_an_entry_that_does_not_fit_its_bytes(saved: Path, change: dict[str, Any]) -> None:
    arrays = json.loads((saved / "manifest.json").read_text())["arrays"]
    arrays[0] |= change
    foreign(saved, arrays=arrays)
    with pytest.raises(CheckpointError):
        checkpoint.read(saved)


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", '{"schema": 99}', "\xff", '{"schema": 1}'])
def test_what_is_no_manifest(saved: Path, text: str) -> None:
    (saved / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError):
        checkpoint.read(saved)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        checkpoint.read(tmp_path / "none")


# -- restoring into another program ---------------------------------------------------------------


def test_missing_extra_and_other_leaves(saved: Path) -> None:
    read = checkpoint.read(saved)
    tree = make_tree()

    def refused(template: Any, message: str) -> None:
        with pytest.raises(CheckpointError, match=message):
            read.restore("run", template)

    fewer = {name: part for name, part in tree.items() if name != "image"}
    refused(fewer, "'run/image' is in only one")
    refused(tree | {"more": jnp.zeros(2)}, "'run/more' is in only one")
    refused(tree | {"image": tree["image"][:1]}, r"uint8\[2, 3, 4\], but this run has uint8\[1, 3")
    refused(tree | {"image": tree["image"].astype(jnp.int32)}, "this run has int32")
    refused(tree | {"keys": (tree["keys"][1], tree["keys"][1])}, "run/keys/0")
    with pytest.raises(CheckpointError):
        read.restore("other", tree)


def test_under_strips_the_prefix(saved: Path) -> None:
    found = checkpoint.read(saved).under("run/net/params")
    assert sorted(found) == ["bias", "kernel"]
    np.testing.assert_array_equal(found["bias"], np.arange(5))


# -- digest of the parameters ---------------------------------------------------------------------


def test_params_sha256_depends_on_parameters_only(tmp_path: Path) -> None:
    # linen puts everything under "params", and so it appears among the moments of an optimiser too
    kernel = {"params": {"Dense_0": {"kernel": np.arange(6.0, dtype=np.float32)}}}
    moments = jax.tree.map(np.zeros_like, kernel)
    tree = {"net": Pair(kernel, {"count": np.int32(1), "mu": moments}), "replay": np.ones(3)}
    digest = lambda tree: checkpoint.params_sha256(checkpoint.save(tmp_path / "c", tree, META))
    base = digest(tree)
    assert base == checkpoint.params_sha256(checkpoint.read(tmp_path / "c").arrays)

    more = jax.tree.map(lambda x: x + 1, tree["net"].opt)
    assert digest(tree | {"net": Pair(kernel, more)}) == base
    assert digest(tree | {"replay": np.zeros(4)}) == base
    changed = jax.tree.map(lambda x: np.nextafter(x, np.float32(9)), kernel)
    assert digest(tree | {"net": Pair(changed, moments)}) != base


# -- manifests of any content, and files of any size ----------------------------------------------


def entry_with(path: Path, **changes: Any) -> None:
    """Changes the first array's entry, with a checksum that is right."""
    arrays = json.loads((path / "manifest.json").read_text())["arrays"]
    arrays[0] |= changes
    foreign(path, arrays=arrays)


@pytest.mark.parametrize(
    "change",
    [
        {"name": 7},
        {"name": None},
        {"shape": [-1]},
        {"shape": [True]},
        {"shape": [3.0]},
        {"dtype": "V4"},
        {"dtype": ">f4"},
        {"dtype": "void32"},
        {"dtype": 3},
        {"offset": -4},
        {"offset": 4},
        {"bytes": -4},
        {"sha256": 5},
        {"file": "../../secret.bin"},
        {"file": "other.bin"},
    ],
)
def test_entries_that_cannot_be(saved: Path, change: dict[str, Any]) -> None:
    entry_with(saved, **change)
    with pytest.raises(CheckpointError, match=str(saved)):
        checkpoint.read(saved)


@pytest.mark.parametrize("meta", [[], "x", 3])
def test_meta_is_an_object(saved: Path, meta: Any) -> None:
    foreign(saved, meta=meta)
    for read in (checkpoint.read, checkpoint.read_meta):
        with pytest.raises(CheckpointError, match="meta is not an object"):
            read(saved)


def test_two_arrays_of_one_name(saved: Path) -> None:
    arrays = json.loads((saved / "manifest.json").read_text())["arrays"]
    arrays[1]["name"] = arrays[0]["name"]
    foreign(saved, arrays=arrays)
    with pytest.raises(CheckpointError, match="have one name"):
        checkpoint.read(saved)


def test_deep_nesting_is_refused(saved: Path) -> None:
    (saved / "manifest.json").write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(CheckpointError):
        checkpoint.read(saved)


@pytest.mark.parametrize("claimed", [False, True])
def test_a_file_that_is_larger_than_memory_is_not_read(saved: Path, claimed: bool) -> None:
    """A sparse file of a tebibyte takes no room on the disk, and must take none in memory."""
    size = 1 << 40
    if claimed:
        foreign(saved, arrays=[ENTRY | {"dtype": "uint8", "shape": [size], "bytes": size}])
    with (saved / "arrays.bin").open("wb") as file:
        file.truncate(size)
    with pytest.raises(CheckpointError, match="of memory are free" if claimed else "full length"):
        checkpoint.read(saved)


def test_a_pipe_is_no_file_of_arrays(saved: Path) -> None:
    (saved / "arrays.bin").unlink()
    os.mkfifo(saved / "arrays.bin")
    with pytest.raises(CheckpointError):
        checkpoint.read(saved)


# -- parts that lie apart -------------------------------------------------------------------------


def test_a_part_apart_can_be_left_out_and_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "7"
    tree = {"run": {"x": np.arange(3.0)}, "replay": {"rows": np.ones((4, 2))}}
    checkpoint.save(path, tree, META, apart=("replay", "nothing"))
    assert sorted(p.name for p in path.iterdir()) == ["arrays.bin", "manifest.json", "replay.bin"]
    assert checkpoint.read(path).arrays.keys() == {"run/x", "replay/rows"}
    good = (path / "replay.bin").read_bytes()
    (path / "replay.bin").write_bytes(good[:-1] + b"\1")
    with pytest.raises(CheckpointError, match="replay/rows"):
        checkpoint.read(path)
    assert checkpoint.read(path, without=("replay",)).arrays.keys() == {"run/x"}
    checkpoint.forget(path, "replay")
    assert sorted(p.name for p in path.iterdir()) == ["arrays.bin", "manifest.json"]
    assert checkpoint.read(path).arrays.keys() == {"run/x"} and checkpoint.read(path).meta == META
    checkpoint.forget(path, "replay")


# -- killed between any two steps -----------------------------------------------------------------


class Killed(BaseException):
    pass


@pytest.mark.parametrize("step", range(5))
def test_killed_at_any_rename_one_of_both_stands(
    saved: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """1: before the old one is set aside, 2: before the new one stands, 3: before the old goes."""
    done = iter(range(9))

    def dies(real: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            if next(done) == step:
                raise Killed
            return real(*args, **options)

        return call

    monkeypatch.setattr(Path, "rename", dies(Path.rename))
    monkeypatch.setattr(checkpoint, "remove", dies(checkpoint.remove))
    with contextlib.suppress(Killed):
        checkpoint.save(saved, {"x": np.float32(3)}, {"new": True})
    monkeypatch.undo()
    found = checkpoint.read(saved).meta
    assert found == (META if step < 3 else {"new": True})
    assert checkpoint.read_meta(saved) == found
    checkpoint.save(saved, {"x": np.float32(4)}, {"newer": True})
    assert checkpoint.read(saved).meta == {"newer": True}
    assert [p.name for p in saved.parent.iterdir()] == ["100"], "nothing is left behind"


def test_what_is_no_checkpoint_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.tex").write_text("x")
    (tmp_path / "file").write_text("x")
    for name in ("notes", "file"):
        with pytest.raises(CheckpointError, match="holds something that is not a checkpoint"):
            checkpoint.save(tmp_path / name, {"x": np.zeros(1)}, {})
    assert (tmp_path / "notes" / "thesis.tex").exists() and (tmp_path / "file").is_file()
    (tmp_path / "empty").mkdir()
    checkpoint.save(tmp_path / "empty", {"x": np.zeros(1)}, {})


def test_what_was_added_to_states_is_as_in_a_fresh_one(tmp_path: Path) -> None:
    """Older checkpoints lack it; all else that is missing is an error."""
    checkpoint.save(tmp_path / "old", {"run": {"mean": jnp.ones(2)}}, {})
    saved = checkpoint.read(tmp_path / "old")
    found = saved.restore("run", {"mean": jnp.zeros(2), "returns": jnp.zeros(3)})
    assert found["mean"].tolist() == [1, 1] and found["returns"].tolist() == [0, 0, 0]
    with pytest.raises(CheckpointError, match="'run/other' is in only one"):
        saved.restore("run", {"mean": jnp.zeros(2), "other": jnp.zeros(3)})
