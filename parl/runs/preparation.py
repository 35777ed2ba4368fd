"""What has to be set up in jax before anything is compiled."""

import os
from pathlib import Path
from typing import Any

import jax


def prepare() -> None:
    """Sets jax up for reinforcement learning; what the user has set stays."""
    config: Any = jax.config
    if config.jax_default_matmul_precision is None:
        jax.config.update("jax_default_matmul_precision", "float32")  # TF32 breaks critics
    if config.jax_compilation_cache_dir is None:
        home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        jax.config.update("jax_compilation_cache_dir", str(home / "parl" / "xla"))
