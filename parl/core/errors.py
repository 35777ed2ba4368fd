"""Errors that are part of the interface: one sentence each, with what to do about it."""

import difflib
from collections.abc import Iterable


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
    """What a checkpoint holds is not what was written, or cannot be: another one may be good."""


class RemoteError(ParlError):
    """An exception raised in another process; the message holds the remote traceback."""

    exit_code = 1


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint like ' Did you mean sac?' for an unknown name, or an empty string."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {match[0]}?" if match else ""
