"""Where NaN and infinity are found in what environments return, and how that is said."""

import numpy as np
import pytest

from parl.core.errors import EnvError
from parl.core.finite import NotFinite, check_answer, find_not_finite


def test_the_first_number_is_found() -> None:
    array = np.zeros((3, 2), np.float32)
    assert find_not_finite(array) is None
    array[2, 0], array[1, 1] = np.nan, -np.inf
    assert find_not_finite(array) == NotFinite("infinity", (1, 1))
    assert find_not_finite({"a": np.zeros(2), "b": {"c": array[2]}}) == NotFinite("NaN", (0,))
    assert find_not_finite(np.array(np.nan)) == NotFinite("NaN", ())


def test_numbers_whose_squares_overflow_are_finite() -> None:
    large = np.full(3, 1e38, np.float32)
    assert find_not_finite(large) is None
    assert find_not_finite({"pixels": np.full(3, 255, np.uint8), "empty": np.zeros(0)}) is None


def test_the_environment_is_named() -> None:
    rewards = np.array([0.0, 1.0, np.inf], np.float32)
    check_answer(rewards[:2], "reward", "Toy-v0", 7)
    with pytest.raises(EnvError) as caught:
        check_answer(rewards, "reward", "Toy-v0", 7, first=4)
    assert str(caught.value) == (
        "Toy-v0 returned an infinite reward in environment 6 at step 7; its simulation has "
        "diverged or its code has a bug."
    )
