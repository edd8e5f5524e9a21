"""The folder for what can be made again: compiled programs, downloaded data."""

import os
from pathlib import Path
from typing import Any

import jax


def cache_folder() -> Path:
    """The user's cache folder for Lamina: ``$XDG_CACHE_HOME/lamina``, or ``~/.cache/lamina``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "lamina"


def keep_compiled_programs() -> None:
    """Let JAX keep compiled programs between runs, so that a program's second run starts at once.

    What the user has set stays: ``JAX_COMPILATION_CACHE_DIR`` for another folder, ``JAX_ENABLE_COMPILATION_CACHE=false``
    for none.
    """
    settings: Any = jax.config  # its settings are not known to type checkers
    if settings.jax_enable_compilation_cache and settings.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "programs"))
        # Small ones too: if all come from the cache, the compiler itself is not even loaded.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
