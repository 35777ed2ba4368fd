"""Modules are found by their old names."""

import importlib
import importlib.util

import pytest

from parl.core.moved import MOVED


@pytest.mark.parametrize("old", MOVED)
def test_the_old_name_is_the_same_module(old: str) -> None:
    try:
        new = importlib.import_module(MOVED[old])
    except ImportError as error:
        pytest.skip(str(error))
    assert importlib.import_module(old) is new
    assert new.__name__ == MOVED[old]
    assert new.__spec__ is not None and new.__spec__.name == MOVED[old]


def test_names_of_packages_that_were_modules() -> None:
    from parl.agents.execution import Execution, Seeds
    from parl.agents.replay import NumpyReplay, Replay
    from parl.cli import main

    assert callable(main) and issubclass(NumpyReplay, Replay)
    assert Seeds.__module__ == Execution.__module__ == "parl.agents.execution.protocol"


def test_other_names_are_not_found() -> None:
    assert importlib.util.find_spec("parl.trainer") is None
