"""Algorithms are equations: their files speak of no other layer."""

import keyword
import tokenize
from pathlib import Path

import pytest

from parl import algorithms

ROOT = Path(algorithms.__file__).parent
FILES = [path for path in sorted(ROOT.rglob("*.py")) if path.name != "__init__.py"]
FOREIGN = "env envs environment replay buffer loop device devices logger config pmean ray gymnasium"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_name_is_of_another_layer(path: Path) -> None:
    """Prose may mention them."""
    with path.open() as file:
        tokens = list(tokenize.generate_tokens(file.readline))
    names = {t.string for t in tokens if t.type == tokenize.NAME}
    names = {name for name in names if not keyword.iskeyword(name)}
    assert len(names) > 5
    assert names & set(FOREIGN.split()) == set()
