"""Between Kaggle's ConnectX and a policy of jax:connect_four, exported with --agent player_0."""

import numpy as np

COLUMNS = 7


def observe(raw, config):
    """Own and other stones by cell, and the columns that are not full."""
    board = np.array(raw["board"])
    own = board == raw["mark"]
    cells = np.stack([own, (board != 0) & ~own], -1)
    return {"view": cells.reshape(-1).astype(np.float32), "legal": board[:COLUMNS] == 0}


def act(action, raw, config):
    """The column."""
    return int(action)


def legal(move, raw, config):
    """Whether the column is not full."""
    return raw["board"][move] == 0


def fallback(raw, config):
    """The free column that is nearest to the middle."""
    free = [i for i in range(COLUMNS) if raw["board"][i] == 0]
    return min(free, key=lambda i: abs(i - COLUMNS // 2))
