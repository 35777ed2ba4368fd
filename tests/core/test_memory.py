"""Freed memory is kept for the next one who asks."""

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import numpy as np
from parl.core.memory import keep_freed_memory

keep_freed_memory()
faults = []
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = np.full(8_000_000, 1.0)  # 64 MB
    del block
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(max(faults[1:]))
"""
PAGES = 64_000_000 // os.sysconf("SC_PAGE_SIZE")


def faults(**settings: str) -> int:
    """Fresh pages of the worse of two repetitions."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | settings | {"NUMPY_MADVISE_HUGEPAGE": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="settings of glibc")
def test_memory_is_filled_once_unless_the_user_has_settings_of_their_own() -> None:
    assert faults() < PAGES / 100
    assert faults(MALLOC_PERTURB_="0") > PAGES / 2
