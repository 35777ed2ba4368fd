"""Between grid2op and a policy of l2rpn_env.py: what it sees, and what its choices do.

NumPy is enough. Nothing is done while all lines are below SAFE of their limits, except that lines
are connected again; above it the policy chooses one of ACTIONS, which is done where grid2op's own
simulation of the next step does not find it worse than doing nothing.
"""

import numpy as np

SAFE = 0.95  # of a line's limit
SEEN = ("rho", "line_status", "topo_vect", "gen_p", "load_p", "timestep_overflow",
        "time_before_cooldown_sub", "time_before_cooldown_line")  # fmt: skip
SCALES = (1.0, 1.0, 1.0, 50.0, 20.0, 3.0, 3.0, 10.0)
ACTIONS: list = []  # (substation, bus of each thing that is connected to it); l2rpn.py fills it in


def observe(raw, config):
    """The numbers that the policy sees [O], and the hour."""
    parts = [np.asarray(getattr(raw, name), np.float32) / by for name, by in zip(SEEN, SCALES)]  # noqa: B905
    angle = 2 * np.pi * (raw.hour_of_day + raw.minute_of_hour / 60) / 24
    return np.concatenate([*parts, [np.sin(angle), np.cos(angle)]]).astype(np.float32)


def act(action, raw, config):
    """The move: that of the choice where a line is near its limit."""
    return calm(raw, config) if is_safe(raw) else guarded(int(action), raw, config)


def fallback(raw, config):
    """Doing nothing."""
    return config({})


def is_safe(raw):
    """Whether no line is near its limit."""
    return float(np.max(raw.rho)) < SAFE


def calm(raw, config):
    """Connects the first line again that may be, where that is safe; else does nothing."""
    for line in np.flatnonzero(~raw.line_status & (raw.time_before_cooldown_line == 0)):
        again = config({"set_line_status": [(int(line), 1)]})
        if load_after(again, raw) < SAFE:
            return again
    return config({})


def guarded(choice, raw, config):
    """The move of a choice, or doing nothing where simulation finds it better."""
    chosen, nothing = move(choice, config), config({})
    return chosen if load_after(chosen, raw) <= load_after(nothing, raw) else nothing


def move(choice, config):
    """What a choice does: 0 is nothing, others set the buses of a substation."""
    if choice == 0:
        return config({})
    substation, buses = ACTIONS[choice - 1]
    return config({"set_bus": {"substations_id": [(substation, np.array(buses))]}})


def load_after(move, raw):
    """The largest share of its limit that a line has after a move, by simulation."""
    after, _, over, info = raw.simulate(move)
    bad = over or info["is_illegal"] or info["is_ambiguous"]
    return 10.0 if bad else float(np.max(after.rho))
