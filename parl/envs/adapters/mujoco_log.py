"""Logs MuJoCo's warnings about models."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mujoco

LOG = logging.getLogger("parl.mujoco")
HOOKS: Any = mujoco  # these two are missing in its types


@contextmanager
def remarks_logged() -> Iterator[None]:
    """Logs MuJoCo's warnings during model compilation at level INFO.

    By default MuJoCo prints them for every environment and writes MUJOCO_LOG.TXT to the working
    directory.
    """
    before = HOOKS.get_mju_user_warning()
    HOOKS.set_mju_user_warning(LOG.info)
    try:
        yield
    finally:
        HOOKS.set_mju_user_warning(before)
