"""Where compiled programs are kept."""

from pathlib import Path
from typing import Any

import pytest

from parl.runs.preparation import cache_folder, processor


def test_compiled_programs_lie_where_only_their_owner_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder: Any = cache_folder()
    assert folder == tmp_path / "parl" / f"xla-{processor()}"
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o770)
    assert cache_folder() is None, "others of the group could write there"
    folder.chmod(0o755)
    assert cache_folder() == folder, "it may be read"


def test_without_a_place_to_write_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "parl").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() is None
