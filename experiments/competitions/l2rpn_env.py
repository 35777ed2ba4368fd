"""grid2op's case14 as an environment of Gymnasium, for an interpreter that has grid2op.

    parl train ppo --env 'venv:/path/to/python!l2rpn_env:Grid?actions=/path/actions.json'
    /path/to/python l2rpn_env.py actions 40 actions.json     # reduces the actions by simulation
    /path/to/python l2rpn_env.py play nothing|expert actions.json

A step is a decision: the environment goes on by itself while all lines are safe.
"""

import itertools
import json
import sys
import time
import warnings
from pathlib import Path

import gymnasium
import l2rpn_adapter as adapter
import numpy as np

warnings.filterwarnings("ignore")

GAME = "rte_case14_realistic"  # bundled: two months in steps of five minutes
STEPS = 100.0  # of grid2op that are a reward of 1


def made():
    """The grid, with the quick solver of power flows where it is installed."""
    import grid2op

    try:
        from lightsim2grid import LightSimBackend

        return grid2op.make(GAME, test=True, backend=LightSimBackend())
    except ImportError:
        return grid2op.make(GAME, test=True)


class Grid(gymnasium.Env):
    """One choice among the actions of a file whenever a line is near its limit."""

    def __init__(self, actions="actions.json", length=1000):
        self.grid, self.length = made(), length
        adapter.ACTIONS[:] = json.loads(Path(actions).read_text())
        self.obs = self.grid.reset()
        size = adapter.observe(self.obs, None).size
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(len(adapter.ACTIONS) + 1)

    def reset(self, *, seed=None, options=None):
        """Begins anywhere in a month, and at its first decision."""
        super().reset(seed=seed)
        over = True
        while over:
            self.grid.seed(int(self.np_random.integers(2**31)))
            last = self.grid.chronics_handler.max_timestep() - self.length
            begin = int(self.np_random.integers(1, last))
            self.obs, self.lived = self.grid.reset(options={"init ts": begin}), 0
            over = self.calm(False)
        return self.seen(), {}

    def step(self, action):
        """Does a choice, and goes on to the next one."""
        before = self.lived
        over = self.calm(self.done(adapter.act(action, self.obs, self.grid.action_space)))
        cut = not over and self.lived >= self.length
        return self.seen(), (self.lived - before) / STEPS - over, over, cut, {"lived": self.lived}

    def done(self, move):
        """Whether the grid is down after a move."""
        self.obs, _, over, _ = self.grid.step(move)
        self.lived += not over
        return over

    def calm(self, over):
        """Goes on while all lines are safe; whether the grid is down."""
        while not over and self.lived < self.length and adapter.is_safe(self.obs):
            over = self.done(adapter.calm(self.obs, self.grid.action_space))
        return over

    def seen(self):
        return np.nan_to_num(adapter.observe(self.obs, None))


def topologies(grid):
    """(substation, buses) of all ways to split a substation that leave no bus with one thing."""
    for substation, size in enumerate(grid.sub_info):
        for buses in itertools.product((1, 2), repeat=int(size) - 1):
            whole = (1, *buses)
            if whole.count(2) != 1 and whole.count(1) != 1:
                yield substation, list(whole)


def loads_of(obs, space):
    """[choices] the fullest line's load after each choice, by simulation."""
    moves = [adapter.move(choice, space) for choice in range(len(adapter.ACTIONS) + 1)]
    return np.array([adapter.load_after(move, obs) for move in moves])


def advised(obs, space):
    """The expert's move: where a line is near its limit, what simulation finds best."""
    if adapter.is_safe(obs):
        return adapter.calm(obs, space)
    return adapter.move(int(loads_of(obs, space).argmin()), space)


def reduced(count, states=120, length=600):
    """The topologies that are most often among the best three by simulation, in unsafe states."""
    grid, rng, seen = made(), np.random.default_rng(0), 0
    adapter.ACTIONS[:] = list(topologies(grid))
    wins = np.zeros(len(adapter.ACTIONS) + 1, int)
    while seen < states:
        begin, steps, over = int(rng.integers(1, 7000)), 0, False
        obs = grid.reset(seed=int(rng.integers(2**31)), options={"init ts": begin})
        while not over and seen < states and steps < length:
            move = adapter.calm(obs, grid.action_space)
            if not adapter.is_safe(obs):
                loads = loads_of(obs, grid.action_space)
                best = np.argsort(loads)[:3]
                wins[best] += loads[best] < loads[0]
                move = adapter.move(int(rng.choice(best)), grid.action_space)
                seen += 1
            obs, _, over, _ = grid.step(move)
            steps += 1
    kept = [int(i) for i in np.argsort(-wins[1:])[:count] if wins[i + 1]]
    told = {"topologies": len(wins) - 1, "of use": int((wins > 0).sum()), "kept": len(kept)}
    print(json.dumps(told | {"states": seen}), file=sys.stderr)
    return [adapter.ACTIONS[i] for i in kept]


def play(kind, limit=8064):
    """Steps survived from the beginning of each month by doing nothing, or by the expert."""
    grid, lived, began = made(), {}, time.perf_counter()
    for number in range(2):
        grid.seed(number)
        obs, over, steps = grid.reset(), False, 0
        while not over and steps < limit:
            move = grid.action_space({})
            if kind == "expert":
                move = advised(obs, grid.action_space)
            obs, _, over, _ = grid.step(move)
            steps += 1
        lived[grid.chronics_handler.get_name()] = steps
    return {"steps": lived, "seconds": round(time.perf_counter() - began)}


if __name__ == "__main__":
    verb, what, *rest = sys.argv[1:]
    if verb == "actions":
        Path(rest[0]).write_text(json.dumps(reduced(int(what))))
    else:
        adapter.ACTIONS[:] = json.loads(Path(rest[0]).read_text()) if rest else []
        print(json.dumps(play(what)))
