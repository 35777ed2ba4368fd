"""How much memory this process may use, and whether freed memory is kept."""

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
    """Makes the C library keep freed memory for later allocations.

    XLA's CPU programs allocate their temporaries at every call. glibc maps large ones, such as
    those of convolutions, anew each time, and the kernel's zeroing of fresh pages then takes about
    a third of a learner's time. Small allocations are kept anyway, and sharing one arena would only
    slow them down. The process never shrinks below its peak size. Does nothing without glibc, or if
    the user has set MALLOC_* or GLIBC_TUNABLES.
    """
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(ARENA_MAX, 1)  # other arenas hold at most 64 MB and ask the kernel for more
    mallopt(MMAP_MAX, 0)
    mallopt(TRIM_THRESHOLD, UNBOUNDED)


def available_memory() -> int:
    """Bytes that this process may still use: free memory, bounded by its cgroup and rlimit.

    A very large number if the system does not report any.
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
