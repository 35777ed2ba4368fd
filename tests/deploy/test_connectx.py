"""The search of experiments/competitions/connectx_adapter.py, on boards by hand."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture(scope="module")
def adapter() -> Any:
    place = Path(__file__).parents[2] / "experiments" / "competitions" / "connectx_adapter.py"
    spec: Any = importlib.util.spec_from_file_location("connectx_adapter", place)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def board(moves: str) -> list[int]:
    """Kaggle's board after moves in these columns, the first by player 1."""
    cells = np.zeros((6, 7), int)  # from the top
    for number, column in enumerate(map(int, moves)):
        row = int(np.flatnonzero(cells[:, column] == 0).max())
        cells[row, column] = 1 + number % 2
    return cells.ravel().tolist()


def best(adapter: Any, moves: str, nodes: int = 150) -> set[int]:
    """The columns that the search leaves to the player to move."""
    place = adapter.bitboards(board(moves), 1 + len(moves) % 2)
    return set(adapter.best_columns(*place, nodes))


@pytest.mark.parametrize(
    ("moves", "columns"),
    [
        ("", {0, 1, 2, 3, 4, 5, 6}),
        ("304152", {6}),  # 3 4 5 in the bottom row
        ("001122", {3}),  # 0 1 2 in the bottom row
        ("060606", {0}),  # four on top of each other
        ("06060", {0}),  # which the other one has to stop
        ("3343", {2, 5}),  # 3 4 in the bottom row become three with both ends free
        ("3355", {4}),  # 3 5 likewise
        ("335", {2, 4, 6}),  # which the other one has to prevent
    ],
)
def test_the_search_finds_what_is_forced(adapter: Any, moves: str, columns: set[int]) -> None:
    assert best(adapter, moves) == columns


def test_cells_that_complete_four_are_those_that_do(adapter: Any) -> None:
    """Against all cells tried one by one, on 60 boards of random play."""
    rng = np.random.default_rng(0)

    def four(stones: int) -> bool:
        pairs = [(stones & stones >> by, 2 * by) for by in (1, 6, 7, 8)]
        return any(x & x >> by for x, by in pairs)

    cells = [1 << 7 * column + row for column in range(7) for row in range(6)]
    found = 0
    for length in range(60):
        columns = rng.permutation(np.repeat(np.arange(7), 6))[: length % 40]
        own, whole = adapter.bitboards(board("".join(map(str, columns))), 1)
        want = sum(cell for cell in cells if not whole & cell and four(own | cell))
        if not four(own):
            assert adapter.completing(own, whole) == want
            found += want > 0
    assert found > 10


def test_full_columns_are_left_out_and_equal_boards_get_equal_answers(adapter: Any) -> None:
    moves = "333333"
    seen = adapter.observe({"board": board(moves), "mark": 1}, {})
    assert seen["legal"].tolist() == [True, True, True, False, True, True, True]
    again = adapter.observe({"board": board(moves), "mark": 1}, {})
    np.testing.assert_equal(seen, again)
