"""Families of environments that installed packages bring by the entry point group parl.suites."""

import textwrap
from pathlib import Path

import pytest

from parl.cli import main
from parl.core.errors import ConfigError, EnvError
from parl.envs.factory import make_factory
from parl.envs.suites import INTERPRETER, SUITES, suite_of

SOURCE = """
    from dataclasses import dataclass
    import gymnasium
    from parl.envs.classic.pendulum import Pendulum

    def make(name, *, steps=50):
        if name == "swing":
            return Pendulum(max_steps=steps)
        if name == "cart":
            return lambda: gymnasium.make("CartPole-v1", max_episode_steps=steps)
        raise KeyError(name)
"""


def install(place: Path, package: str, prefix: str = "mazes") -> None:
    """A package with a suite, as pip leaves it."""
    (place / f"{package}.py").write_text(textwrap.dedent(SOURCE))
    info = place / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[parl.suites]\n{prefix} = {package}:make\n")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_suite_of_a_package_is_used_as_ours_are(place, capsys):
    install(place, "own_mazes")
    pure, host = make_factory("mazes:swing?steps=7"), make_factory("mazes:cart")
    assert (pure.id, pure.spec.max_steps) == ("mazes:swing?steps=7", 7) and pure.jax is not None
    assert (host.spec.id, host.spec.max_steps) == ("mazes:cart", 50) and host.jax is None
    assert main(["list"]) == 0
    row = next(x for x in capsys.readouterr().out.splitlines() if x.strip().startswith("mazes:"))
    assert row.split() == ["mazes:", "own_mazes", "yes", "comes", "with", "own_mazes"]


def test_what_a_suite_cannot_make_is_one_sentence(place):
    install(place, "own_rooms", "rooms")
    with pytest.raises(EnvError, match="rooms:hall could not be made: KeyError"):
        make_factory("rooms:hall")
    with pytest.raises(EnvError, match="unexpected keyword argument 'size'"):
        make_factory("rooms:cart?size=3")


def test_a_prefix_belongs_to_one_package_and_ours_to_us(place, capsys):
    for package in ("own_a", "own_b"):
        install(place, package, "twice")
    with pytest.raises(ConfigError, match=r"own_a and own_b both bring the prefix 'twice:'"):
        make_factory("twice:cart")
    install(place, "own_c", "jax")
    found = suite_of("jax:CartPole-v1")
    assert found is not None and found.ours
    assert main(["list"]) == 0
    assert "no, the prefix is PARL's" in capsys.readouterr().out


def test_ids_without_a_prefix_have_no_suite():
    assert suite_of("CartPole-v1") is None and suite_of("own_maze:Maze") is None
    made_by_factory = {suite.prefix for suite in SUITES if not suite.make}
    assert made_by_factory == {"", INTERPRETER}
