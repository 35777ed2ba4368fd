"""Where MuJoCo's remarks about models go."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mujoco

LOG = logging.getLogger("parl.mujoco")
HOOKS: Any = mujoco  # these two are missing in its types


@contextmanager
def remarks_logged() -> Iterator[None]:
    """What MuJoCo warns of while models are compiled is logged as information.

    By itself it prints a warning for every environment, and writes MUJOCO_LOG.TXT where one stands.
    """
    before = HOOKS.get_mju_user_warning()
    HOOKS.set_mju_user_warning(LOG.info)
    try:
        yield
    finally:
        HOOKS.set_mju_user_warning(before)
