"""What memory this process may have, and what it does with that which it has no more use for."""

import contextlib
import ctypes
import os
import resource
import sys
from pathlib import Path

TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8  # of mallopt(3)
UNBOUNDED = 2**31 - 1
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def keep_freed_memory() -> None:
    """Has the C library hold on to what is freed, for the next time that as much is asked for.

    XLA's programs on a CPU ask for their temporaries at every call. Where these are large, as
    those of convolutions are, glibc goes to the kernel for each of them, and filling fresh pages
    with zeros then takes a third of a learner's time: 0.86 ms an image with, 0.55 without. Small
    ones it keeps anyway, and sharing one arena would only make them slower to find. The process
    stays as large as it ever was. Does nothing where there is no glibc, or where the user has made
    settings of their own, by MALLOC_* or GLIBC_TUNABLES.
    """
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(ARENA_MAX, 1)  # the others hold 64 MB at most, and go to the kernel for more
    mallopt(MMAP_MAX, 0)
    mallopt(TRIM_THRESHOLD, UNBOUNDED)


def available_memory() -> int:
    """Bytes that this process may have: what is free, but not above a limit that it runs under.

    A very large number where the system does not tell.
    """
    found = [sys.maxsize]
    for limit in LIMITS:
        with contextlib.suppress(OSError, ValueError):  # no such group, or `max`
            found.append(int(Path(limit).read_text()))
    with contextlib.suppress(OSError, ValueError, KeyError):
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    with contextlib.suppress(OSError, ValueError):
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            found.append(max(limit - taken, 0))
    return min(found)
