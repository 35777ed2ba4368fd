"""Errors that users see: one sentence each, with what to do about it."""

import difflib
import os
import sysconfig
import traceback
from collections.abc import Iterable

PARL = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LIBRARIES = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]


class ParlError(Exception):
    """Base of every error that PARL raises on purpose. `exit_code` is the command line's."""

    exit_code = 2


class ConfigError(ParlError):
    """A setting, name or flag that does not exist or does not fit."""


class SpaceError(ParlError):
    """An algorithm or model was given a space that it cannot serve."""


class MissingPackage(ParlError):
    """An optional package is needed; the message holds the pip command."""


class EnvError(ParlError):
    """An environment does not exist, raised, or returned something unusable such as NaN."""


class CheckpointError(ParlError):
    """A checkpoint is missing, corrupt, or belongs to something else."""


class DamagedCheckpoint(CheckpointError):
    """The content of a checkpoint is corrupt or invalid; another checkpoint may be intact."""


class DataError(ParlError):
    """A data set is missing, damaged, incomplete, or of something else."""


class StoreError(ParlError):
    """A store cannot be reached, refuses this machine, fails, or is in use by another writer."""


class ArtefactError(ParlError):
    """An exported policy is damaged, or was given what it cannot act on."""


class ServingError(ParlError):
    """A policy server refused a request, with its HTTP `status`, or cannot be reached: None."""

    exit_code = 1

    def __init__(self, message: str, status: int | None = None):
        super().__init__(message)
        self.status = status


class RemoteError(ParlError):
    """An exception raised in another process; the message holds the remote traceback."""

    exit_code = 1


class ClusterLost(RemoteError):
    """The Ray cluster of a run's workers has ended; the run's learner is intact."""


class Halted(ParlError):
    """A wait was abandoned because a signal asked the run to end."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint like ' Did you mean sac?' for an unknown name, or an empty string."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {match[0]}?" if match else ""


def told(error: BaseException, where: str = "") -> str:
    """An exception in one line, with its place: 'KeyError in step, at my_env.py:4: 'missing''."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}{where}{place_of(error)}: {lines[0]}"


def place_of(error: BaseException) -> str:
    """', at FILE:LINE' of the innermost user code in the traceback, or an empty string.

    Without user code, it is the innermost line of a library other than PARL.
    """
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    foreign = [frame for frame in frames if not within(frame[0], [PARL])]
    own = [frame for frame in foreign if not within(frame[0], LIBRARIES)]
    for file, line in (own or foreign)[-1:]:
        return f", at {file.removeprefix(os.getcwd() + os.sep)}:{line}"
    return ""


def within(file: str, folders: Iterable[str]) -> bool:
    """Whether a source file lies in one of these folders or belongs to Python itself."""
    path = os.path.abspath(file)
    inside = any(path.startswith(folder + os.sep) for folder in folders)
    return inside or file.startswith("<frozen")
