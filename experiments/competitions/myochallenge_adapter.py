"""Between MyoChallenge's server and a policy that was trained in MyoSuite's own environment.

Both show the same vector and take the same activations of muscles; KEYS would name other parts.
"""

import numpy as np


def observe(raw, config):
    """The vector."""
    return np.asarray(raw, np.float32)


def act(action, raw, config):
    """The activations, in [-1, 1]."""
    return np.clip(action, -1.0, 1.0)


def legal(move, raw, config):
    """Whether all are numbers within their bounds."""
    return bool((np.abs(move) <= 1).all())
