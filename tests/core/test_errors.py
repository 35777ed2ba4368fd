"""Errors of the interface."""

import pytest

from parl.core import errors


def test_nearest_names_the_closest_or_nothing() -> None:
    known = ["ppo", "sac", "dqn"]
    assert errors.nearest("sca", known) == " Did you mean sac?"
    assert errors.nearest("ppoo", known) == " Did you mean ppo?"
    assert errors.nearest("zzz", known) == ""
    assert errors.nearest("learning_rat", iter(["gamma", "learning_rate"])) == (
        " Did you mean learning_rate?"
    )


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.ConfigError, 2),
        (errors.SpaceError, 2),
        (errors.MissingPackage, 2),
        (errors.EnvError, 2),
        (errors.CheckpointError, 2),
        (errors.RemoteError, 1),
    ],
)
def test_exit_codes(kind: type[errors.ParlError], code: int) -> None:
    assert issubclass(kind, errors.ParlError)
    assert kind("a sentence").exit_code == code
    assert str(kind("a sentence")) == "a sentence"
