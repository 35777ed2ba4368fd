"""Names of the form module:attribute."""

import textwrap

import pytest

from parl.core.errors import ConfigError
from parl.core.loading import is_path, load, name_of
from parl.core.spec import Box


@pytest.fixture
def lab(tmp_path, monkeypatch):
    (tmp_path / "my_lab.py").write_text(
        textwrap.dedent("""
        class Mine:
            class Inner: pass
        def maker():
            class Hidden: pass
            return Hidden
        """)
    )
    (tmp_path / "broken_lab.py").write_text("1 / 0")
    (tmp_path / "hungry_lab.py").write_text("import no_such_package_at_all")
    monkeypatch.syspath_prepend(tmp_path)


def test_a_class_is_found_by_its_name(lab):
    assert load("my_lab:Mine").__name__ == "Mine"
    assert load("my_lab:Mine.Inner").__qualname__ == "Mine.Inner"
    assert load("parl.core.spec:Box") is Box


def test_what_can_be_found_again_has_a_name(lab):
    assert name_of(load("my_lab:Mine.Inner")) == "my_lab:Mine.Inner"
    assert name_of(Box) == "parl.core.spec:Box"
    assert name_of(load("my_lab:maker")()) is None  # made inside a function
    assert name_of(lambda: None) is None
    assert name_of(Box((2,))) is None  # an object of a class, not the class


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("my_lab:Mien", r"'my_lab' has no 'Mien'. Did you mean Mine\?"),
        ("no_lab:Mine", "there is no module 'no_lab' here"),
        ("hungry_lab:Mine", "needs the module 'no_such_package_at_all'"),
        ("broken_lab:Mine", "raised ZeroDivisionError on import: division by zero"),
        ("my_lab", "not a name of the form"),
        ("..os:system", "not a name of the form"),
        (":x", "not a name of the form"),
    ],
)
def test_a_name_of_nothing_is_one_sentence(lab, name, said):
    with pytest.raises(ConfigError, match=said):
        load(name)


def test_ids_of_environments_are_no_paths():
    assert not is_path("jax:CartPole-v1")
    assert not is_path("my_lab:Grid-v0")
    assert is_path("my_lab.maze:Maze")
