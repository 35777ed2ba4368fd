"""Between Kaggle's ConnectX and a policy of jax:connect_four, exported with --agent player_0.

The policy chooses among the columns that a small search does not find worse than others: it looks
for forced wins of both players, at most NODES positions a move, so that a move takes a few
hundredths of a second. Boards are bitboards: cell (column, row from below) is bit 7 column + row.
"""

import numpy as np

COLUMNS, ROWS = 7, 6
HIGH = ROWS + 1  # bits of a column, one of them always empty
NODES = 150  # positions that are looked at for a move
MIDDLE = (3, 2, 4, 1, 5, 0, 6)  # columns, the best ones first
BOTTOM = sum(1 << HIGH * column for column in range(COLUMNS))
BOARD = BOTTOM * ((1 << ROWS) - 1)


def observe(raw, config):
    """Own and other stones by cell, and the columns that are worth a stone."""
    board = np.array(raw["board"])
    own = board == raw["mark"]
    cells = np.stack([own, (board != 0) & ~own], -1)
    worth = np.isin(np.arange(COLUMNS), best_columns(*bitboards(raw["board"], raw["mark"])))
    return {"view": cells.reshape(-1).astype(np.float32), "legal": worth & (board[:COLUMNS] == 0)}


def act(action, raw, config):
    """The column."""
    return int(action)


def legal(move, raw, config):
    """Whether the column is not full."""
    return raw["board"][move] == 0


def fallback(raw, config):
    """The free column that is nearest to the middle."""
    return next(column for column in MIDDLE if raw["board"][column] == 0)


# --- forced wins ------------------------------------------------------------------------------


class Spent(Exception):
    """All positions of a move were looked at."""


def bitboards(board, mark):
    """(own stones, all stones) of Kaggle's board, whose first row is the highest."""
    own = whole = 0
    for cell, stone in enumerate(board):
        row, column = divmod(cell, COLUMNS)
        bit = 1 << HIGH * column + ROWS - 1 - row
        whole |= bit if stone else 0
        own |= bit if stone == mark else 0
    return own, whole


def completing(stones, whole):
    """Empty cells that would complete four of some stones, whether or not they can be reached."""
    cells = stones << 1 & stones << 2 & stones << 3
    for by in (HIGH, HIGH - 1, HIGH + 1):
        left = stones << by & stones << 2 * by
        cells |= left & stones << 3 * by
        cells |= left & stones >> by
        right = stones >> by & stones >> 2 * by
        cells |= right & stones << by
        cells |= right & stones >> 3 * by
    return cells & BOARD & ~whole


class Search:
    """Whether wins can be forced, within a number of positions."""

    def __init__(self, nodes=NODES):
        self.left, self.known = nodes, {}

    def wins(self, own, whole, depth):
        """Whether the player to move, who has `own`, wins with at most `depth` own stones."""
        reached = whole + BOTTOM & BOARD
        if completing(own, whole) & reached:
            return True
        if depth == 1:
            return False
        key = own, whole, depth
        if key not in self.known:
            if not self.left:
                raise Spent
            self.left -= 1
            threats = completing(own ^ whole, whole) & reached
            moves = threats or reached
            self.known[key] = threats & threats - 1 == 0 and any(
                self.forces(own, whole, moves & 63 << HIGH * column, depth) for column in MIDDLE
            )
        return self.known[key]

    def forces(self, own, whole, stone, depth):
        """Whether a stone, if it is one, wins whatever the other player does."""
        if not stone:
            return False
        own, whole = own | stone, whole | stone
        reached = whole + BOTTOM & BOARD
        if not reached or completing(own ^ whole, whole) & reached:
            return False
        threats = completing(own, whole) & reached
        if threats & threats - 1:
            return True
        replies = threats or reached
        for column in MIDDLE:
            reply = replies & 63 << HIGH * column
            if reply and not self.wins(own, whole | reply, depth - 1):
                return False
        return True


def best_columns(own, whole, nodes=NODES):
    """The columns that win soonest; else those not known to lose, or that lose last."""
    search, reached = Search(nodes), whole + BOTTOM & BOARD
    stones = {column: reached & 63 << HIGH * column for column in MIDDLE}
    stones = {column: stone for column, stone in stones.items() if stone}
    good = list(stones)
    try:
        for depth in range(1, ROWS * COLUMNS // 2):
            winning = [
                column for column in good if wins_by(search, own, whole, stones[column], depth)
            ]
            if winning:
                return winning
            kept = [
                column
                for column in good
                if not search.wins(own ^ whole, whole | stones[column], depth)
            ]
            if not kept:
                return good
            good = kept
    except Spent:
        pass
    return good


def wins_by(search, own, whole, stone, depth):
    """Whether a stone completes four or, with more depth, forces that."""
    if completing(own, whole) & stone:
        return True
    return depth > 1 and search.forces(own, whole, stone, depth)
