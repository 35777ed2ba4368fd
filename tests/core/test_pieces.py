"""Large arrays in pieces: what a second save writes, and that nothing wrong is ever read."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from parl.core import pieces
from parl.core.errors import DamagedCheckpoint
from parl.core.pieces import Pieces, Ring, changed, files_of


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "SIZE", 32)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of each piece that is written."""
    sizes: list[int] = []
    sync = pieces.sync

    def noting(file: Any) -> None:
        sync(file)
        sizes.append(os.fstat(file.fileno()).st_size)

    monkeypatch.setattr(pieces, "sync", noting)
    return sizes


def save(store: Pieces, arrays: dict[str, Any], ring: Ring | None) -> Any:
    """What JSON holds of the arrays."""
    cuts = store.write(arrays, ring)
    store.saved(ring, cuts)
    return json.loads(json.dumps(cuts))


def equal(store: Pieces, values: Any, arrays: dict[str, Any]) -> None:
    found = Pieces(store.path).read(values)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and np.array_equal(found[name], array)


@pytest.mark.parametrize(
    ("before", "now", "size", "ranges"),
    [
        ((2, 2), (6, 6), 6, [(2, 6)]),  # it grows
        ((6, 6), (2, 10), 8, [(0, 2), (6, 8)]),  # and is full
        ((2, 10), (4, 12), 8, [(2, 4)]),
        ((4, 12), (0, 16), 8, [(4, 8)]),
        ((4, 12), (4, 12), 8, []),
        ((4, 12), (4, 20), 8, [(0, 8)]),  # once around
        ((4, 12), (6, 22), 8, [(0, 8)]),
        ((4, 12), (6, 13), 8, [(0, 8)]),  # the count and the cursor do not agree
        ((4, 12), (2, 10), 8, [(0, 8)]),
        ((4, None), (6, 14), 8, [(0, 8)]),
    ],
)
def test_rows_that_changed(before: Any, now: Any, size: int, ranges: Any) -> None:
    assert changed(Ring(*before), Ring(*now), size) == ranges
    assert changed(None, Ring(*now), size) == [(0, size)]


@pytest.mark.parametrize("xp", [np, jnp])
@pytest.mark.parametrize("lead", [(), (2,)])
def test_a_ring_is_saved_by_what_is_new(
    tmp_path: Path, written: list[int], xp: Any, lead: tuple[int, ...]
) -> None:
    """Pieces of 4 rows of 8 bytes, or of 2 for two seeds; a ring of 10 rows, adds of 2."""
    store, ring, cursor, count = Pieces(tmp_path / "replay"), np.zeros((*lead, 10, 2), "f4"), 0, 0
    # 0123 4567 89, or 01 23 45 67 89 of two seeds
    pieces_written = {(): (1, 2, 1, 2, 1), (2,): (1, 2, 1, 3, 1)}[lead]
    for adds, expected in zip((1, 2, 1, 3, 1), pieces_written, strict=True):
        for _ in range(adds):
            ring[..., cursor : cursor + 2, :] = 1 + np.arange(count, count + 2)[:, None]
            cursor, count = (cursor + 2) % 10, count + 2
        written.clear()
        arrays = {"float32": xp.asarray(ring[..., : min(count, 10), :].copy())}
        values = save(store, arrays, Ring(cursor, count))
        equal(store, values, arrays)
        assert len(written) == expected and max(written) <= 32, (count, written)
        store.keep(files_of(values))
        assert len(list(store.path.iterdir())) == len(files_of(values))
    written.clear()
    assert save(store, arrays, Ring(cursor, count)) == values and not written
    assert save(store, arrays, None) == values and not written  # all hashed, and all there
    equal(store, values, arrays)


def test_what_is_there_by_another_process_is_written_anew(
    tmp_path: Path, written: list[int]
) -> None:
    arrays = {"int8": np.arange(64, dtype="i1").reshape(16, 4)}
    values = save(Pieces(tmp_path / "replay"), arrays, Ring(0, 16))
    spoil(next((tmp_path / "replay").iterdir()))
    store = Pieces(tmp_path / "replay")
    assert save(store, arrays, Ring(0, 16)) == values and written == [32] * 4
    equal(store, values, arrays)
    next(store.path.iterdir()).unlink()
    save(store, arrays, Ring(0, 16))  # what is missing is seen
    equal(store, values, arrays)
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(f.stat().st_mode) for f in store.path.iterdir()} == {0o600}


def spoil(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[3] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("harm", [spoil, Path.unlink, lambda f: f.write_bytes(b"short")])
def test_a_damaged_piece_is_no_row(tmp_path: Path, harm: Any) -> None:
    store = Pieces(tmp_path / "replay")
    values = save(store, {"int8": np.arange(64, dtype="i1").reshape(16, 4)}, None)
    harm(next(store.path.iterdir()))
    with pytest.raises(DamagedCheckpoint, match=r"fails its sha256|not there in its full length"):
        store.read(values)


def test_nonsense_in_a_manifest(tmp_path: Path) -> None:
    store = Pieces(tmp_path / "replay")
    good = save(store, {"int8": np.arange(64, dtype="i1").reshape(16, 4)}, None)["int8"]
    dtype, shape, rows, files = good
    odd = [None, 3, "x", [], [dtype, shape, rows], ["O", shape, rows, files]]
    odd += [[dtype, s, rows, files] for s in (None, 16, [64], [-16, 4], [1 << 62, 4], [16, 5])]
    odd += [[dtype, shape, r, files] for r in (0, -8, 1.0, None, 7)]
    odd += [[dtype, shape, rows, f] for f in (None, files[1:], ["../x"] * 2, [None] * 2, "ab")]
    for values in (None, [], "x", *({"int8": x} for x in odd)):
        with pytest.raises(DamagedCheckpoint):
            store.read(values)
    assert files_of({"int8": good}) == set(files) and files_of({"int8": odd}) == set()


def test_only_pieces_are_removed(tmp_path: Path) -> None:
    store = Pieces(tmp_path / "replay")
    (files,) = [files_of(save(store, {"int8": np.zeros((4, 4), "i1")}, None))]
    (store.path / f".{'0' * 64}.writing").write_bytes(b"")
    (store.path / "notes.txt").write_text("mine")
    store.keep(files)
    assert {f.name for f in store.path.iterdir()} == {"notes.txt", f"{min(files)}.bin"}
    (store.path / "notes.txt").unlink()
    store.keep(())
    assert not store.path.exists()
