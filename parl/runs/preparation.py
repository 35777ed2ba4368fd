"""Configuration of jax before anything is compiled."""

import hashlib
import os
import platform
from pathlib import Path
from typing import Any

import jax

CACHED_S = 0.2  # seconds of compiling from which on a program is kept on disk; jax has 1


def prepare() -> None:
    """Sets jax up for reinforcement learning; what the user has set stays.

    Compiled programs are kept from one process to the next, unless JAX_ENABLE_COMPILATION_CACHE is
    false.
    """
    config: Any = jax.config
    if config.jax_default_matmul_precision is None:
        jax.config.update("jax_default_matmul_precision", "float32")  # TF32 breaks critics
    if config.jax_compilation_cache_dir is None and (folder := cache_folder()) is not None:
        jax.config.update("jax_compilation_cache_dir", str(folder))
        if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
            jax.config.update("jax_persistent_cache_min_compile_time_secs", CACHED_S)


def cache_folder() -> Path | None:
    """Where compiled programs are kept; None where others could write there, or nobody can.

    What lies there is run, so that only its owner may write it. Machines that share a home have a
    folder for each kind of processor.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = home / "parl" / f"xla-{processor()}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError:
        return None
    if not hasattr(os, "getuid"):
        return folder
    return folder if found.st_uid == os.getuid() and not found.st_mode & 0o022 else None


def processor() -> str:
    """What tells kinds of processors apart: programs are compiled for what one of them can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    told = f"{platform.machine()} {platform.processor()} {features}"
    return hashlib.sha256(told.encode()).hexdigest()[:12]
