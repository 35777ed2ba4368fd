"""Replay: a ring of rows, and ways to sample from it."""

from parl.agents.replay.ring import NumpyReplay as NumpyReplay
from parl.agents.replay.ring import Replay as Replay
from parl.agents.replay.ring import ReplayState as ReplayState
