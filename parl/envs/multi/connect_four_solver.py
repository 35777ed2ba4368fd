"""Perfect play of connect four from positions with many stones: alpha-beta on bitboards.

A board is an integer with 7 bits for each of 7 columns, from the left and from below; the seventh
of a column stays 0, so that lines do not run over an edge. A position is the stones of the player
to move and the stones of both. Threats and the moves that do not lose at once are found by shifts,
as in P. Pons' solver; results are kept in a table, and a mirrored position is the same position.
Values are 1 if the player to move wins, 0 for a draw and -1.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROWS, COLUMNS, HEIGHT = 6, 7, 7  # HEIGHT: bits of a column
LEAST_STONES = 12  # from which on a position is solved in a fraction of a second
COLUMN = [((1 << ROWS) - 1) << HEIGHT * c for c in range(COLUMNS)]
BOTTOM = sum(1 << HEIGHT * c for c in range(COLUMNS))
BOARD = BOTTOM * ((1 << ROWS) - 1)
CENTRE_FIRST = tuple(COLUMN[c] for c in (3, 2, 4, 1, 5, 0, 6))
PROBLEMS = Path(__file__).with_name("connect_four_problems.txt")
TABLE_SIZE = 4_000_000  # positions


def winning_cells(stones: int, taken: int) -> int:
    """The free cells, reachable or not, that complete a line of four of these stones."""
    found = (stones << 1) & (stones << 2) & (stones << 3)
    for shift in (HEIGHT - 1, HEIGHT, HEIGHT + 1):
        up, down = stones << shift, stones >> shift
        two_up, two_down = up & (stones << 2 * shift), down & (stones >> 2 * shift)
        found |= two_up & ((stones << 3 * shift) | down)
        found |= two_down & ((stones >> 3 * shift) | up)
    return found & (BOARD ^ taken)


def free_cells(taken: int) -> int:
    """The cells on which the next stone of each column falls."""
    return (taken + BOTTOM) & BOARD


def mirrored(board: int) -> int:
    """The board with its columns in reverse."""
    bits = (1 << HEIGHT) - 1
    parts = ((board >> HEIGHT * c & bits) << HEIGHT * (COLUMNS - 1 - c) for c in range(COLUMNS))
    return sum(parts)


def has_line(stones: int) -> bool:
    """Whether four of these cells are in a line."""
    for shift in (1, HEIGHT - 1, HEIGHT, HEIGHT + 1):
        pairs = stones & (stones >> shift)
        if pairs & (pairs >> 2 * shift):
            return True
    return False


class TooHard(Exception):
    """A search came to its limit of positions."""


class Solver:
    """Values of positions; what one search found serves the next.

    With a `limit`, a search of more positions than that raises TooHard.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.table: dict[int, int] = {}  # of position: 3 * (lower bound + 1) + upper bound + 1
        self.limit, self.nodes = limit, 0

    def value(self, own: int, taken: int) -> int:
        """The value of a position that is not over, for the player to move."""
        if winning_cells(own, taken) & free_cells(taken):
            return 1
        self.nodes = 0
        return self.search(own, taken, -1, 1)

    def search(self, own: int, taken: int, low: int, high: int) -> int:
        """The value within [low, high] of a position in which no move wins at once."""
        self.nodes += 1
        if self.limit is not None and self.nodes > self.limit:
            raise TooHard
        moves, theirs = free_cells(taken), own ^ taken
        threats = winning_cells(theirs, taken)
        forced = moves & threats
        if forced:
            if forced & (forced - 1):
                return -1  # two threats cannot both be met
            moves = forced
        moves &= ~(threats >> 1)  # never below a threat of the other
        if not moves:
            return -1 if free_cells(taken) else 0
        if taken.bit_count() >= ROWS * COLUMNS - 2:
            return 0  # the last stones meet no threat
        key = own + taken
        known = self.table.get(key)
        if known is not None:
            lower, upper = known // 3 - 1, known % 3 - 1
            if lower >= high or lower == upper:
                return lower
            if upper <= low:
                return upper
            low, high = max(low, lower), min(high, upper)
        open_cells = BOARD ^ taken
        if high > 0 and not has_line(own | open_cells):
            high = 0  # no line is left to win with
        if low < 0 and not has_line(theirs | open_cells):
            low = 0
        if low >= high:
            return low
        began, best = low, -1
        for move in ordered(own, taken, moves):
            best = max(best, -self.search(theirs, taken | move, -high, -low))
            if best >= high:
                break
            low = max(low, best)
        if len(self.table) < TABLE_SIZE:
            lower, upper = (
                (best, 1) if best >= high else (-1, best) if best <= began else (best, best)
            )
            self.table[key] = 3 * (lower + 1) + upper + 1
        return best


def ordered(own: int, taken: int, moves: int) -> Iterator[int]:
    """Moves that make most threats first, those in the centre before others."""
    found = [column & moves for column in CENTRE_FIRST if column & moves]
    if len(found) < 2:
        return iter(found)
    made = lambda move: -winning_cells(own | move, taken | move).bit_count()
    return iter(sorted(found, key=made))


def played(moves: str) -> tuple[int, int]:
    """(stones of the player to move, stones of both) after moves, columns from 1 to 7.

    Raises ValueError for a move that is not legal.
    """
    own = taken = 0
    for move in moves:
        cell = COLUMN[int(move) - 1] & free_cells(taken)
        if not cell:
            raise ValueError(f"column {move} of '{moves}' is full.")
        own, taken = own ^ taken, taken | cell
    return own, taken


def move_values(own: int, taken: int, solver: Solver | None = None) -> list[int | None]:
    """The value of each column for the player to move; None where it is full.

    Positions with fewer than LEAST_STONES stones may take hours.
    """
    solver = Solver() if solver is None else solver
    free, wins = free_cells(taken), winning_cells(own, taken)
    found: list[int | None] = []
    for column in COLUMN:
        cell = column & free
        if not cell:
            found.append(None)
        elif cell & wins:
            found.append(1)
        elif taken.bit_count() == ROWS * COLUMNS - 1:
            found.append(0)
        else:
            found.append(-solver.value(own ^ taken, taken | cell))
    return found


def boards_of(stones: np.ndarray) -> tuple[int, int]:
    """(stones of the first player, of both) of planes [2, 42] bool, row-major from the top."""
    planes = np.asarray(stones, bool).reshape(2, ROWS, COLUMNS)[:, ::-1]
    bits = [sum(1 << int(HEIGHT * c + r) for r, c in np.argwhere(plane)) for plane in planes]
    return bits[0], bits[0] | bits[1]


def planes_of(own: int, taken: int) -> np.ndarray:
    """[2, 42] bool, row-major from the top: the inverse of `boards_of`."""
    cells = [HEIGHT * c + r for r in reversed(range(ROWS)) for c in range(COLUMNS)]
    return np.array([[board >> cell & 1 for cell in cells] for board in (own, own ^ taken)], bool)


def drawn_position(rng: np.random.Generator) -> str:
    """The moves of a random game with 12 to 30 stones, whose next player cannot win at once."""
    while True:
        moves, own, taken = "", 0, 0
        for _ in range(rng.integers(LEAST_STONES, 31)):
            free = free_cells(taken)
            if winning_cells(own, taken) & free:
                break
            columns = [c for c in range(COLUMNS) if COLUMN[c] & free]
            column = columns[rng.integers(len(columns))]
            moves += str(column + 1)
            own, taken = own ^ taken, taken | (COLUMN[column] & free)
        else:
            if not winning_cells(own, taken) & free_cells(taken):
                return moves


def drawn_problems(count: int, seed: int, limit: int) -> Iterator[tuple[str, str]]:
    """Positions in which some moves are worse than others: (moves, values of the columns).

    Values are + for a win, = for a draw, - for a loss, and . where the column is full. What a
    search of `limit` positions does not decide is left out.
    """
    rng, made = np.random.default_rng(seed), 0
    while made < count:
        moves = drawn_position(rng)
        try:
            values = move_values(*played(moves), Solver(limit))
        except TooHard:
            continue
        if len(set(values) - {None}) > 1:
            made += 1
            yield moves, "".join("." if x is None else "-=+"[x + 1] for x in values)


def problems() -> list[tuple[str, str]]:
    """A thousand positions of `drawn_problems`, solved: (moves, values of the columns)."""
    lines = PROBLEMS.read_text().splitlines()
    return [(moves, values) for moves, _, values in (line.partition(" ") for line in lines)]


if __name__ == "__main__":  # writes PROBLEMS anew, in some minutes
    with PROBLEMS.open("w") as file:
        for moves, values in drawn_problems(1000, seed=0, limit=5_000):
            print(moves, values, file=file, flush=True)
