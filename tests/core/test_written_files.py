"""Files are written whole or stay as they were; a place that cannot be written is one sentence."""

from pathlib import Path

import pytest

from parl.core import files
from parl.core.errors import ParlError


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"a": 1}, indent=None)
    assert path.read_text() == '{"a": 1}\n'
    with pytest.raises(KeyError), files.replacing(path) as file:
        file.write("half")
        raise KeyError
    assert path.read_text() == '{"a": 1}\n' and list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for write in (files.make_directory, lambda path: files.write_text(path, "a")):
        with pytest.raises(ParlError) as caught:
            write(tmp_path / "file" / "out")
        assert str(caught.value) == (
            f"could not write {tmp_path}/file/out: Not a directory; make room there, or choose "
            "another place."
        )
