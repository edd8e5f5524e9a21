"""Memory: how much there is left, how freed memory is kept for what comes next, and that no two programs take it at once."""

import ctypes
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

#: glibc's names for what is set: the numbers of mallopt's M_TRIM_THRESHOLD, M_MMAP_THRESHOLD and M_ARENA_MAX
TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
#: what JAX tells when it has compiled, and seconds from which on a compilation leaves much memory behind
COMPILED, LONG = "/jax/core/compile/backend_compile_duration", 0.2
#: bytes up to which JAX copies an array of the host at once, not in another thread
COPIED_AT_ONCE = 100 << 10
#: whether the C library keeps freed memory
_keeps = False
#: that share an arena: with more of them, threads that compile wait for each other
CORES_OF_ARENA = 4


def keep_freed_memory() -> bool:
    """Let the C library keep up to 2 GiB of freed memory; tell whether it does.

    A step of training asks for the same large pieces of memory again and again. By default Linux's C library gives them back
    to the system each time, and every page that comes anew is cleared first: a tenth of the time and more. It works
    before the first array is made, on Linux with glibc; ``MALLOC_ARENA_MAX`` in the environment leaves everything as it is.
    So does an accelerator, whose steps take none of this memory: compiling for it, in many threads, took six times as
    long with these settings.
    """
    if sys.platform != "linux" or "MALLOC_ARENA_MAX" in os.environ or _has_accelerator():
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return False
    arenas = max(1, (os.cpu_count() or 1) // CORES_OF_ARENA)
    settings = {ARENA_MAX: arenas, MMAP_THRESHOLD: 1 << 30, TRIM_THRESHOLD: 2**31 - 1}
    global _keeps
    _keeps = all(list(map(mallopt, settings, settings.values())))  # every one, whatever the others give
    if _keeps:
        jax.monitoring.register_event_duration_secs_listener(_after_compiling)
    return _keeps


def keeps_freed() -> bool:
    """Whether the C library keeps freed memory, as :func:`keep_freed_memory` told it to."""
    return _keeps


def give_back() -> None:
    """Give the system the freed memory that the C library keeps."""
    if _keeps:
        ctypes.CDLL(None).malloc_trim(0)


def compute_in_turn() -> None:
    """Let a program on a CPU run in the thread that calls it.

    By default JAX runs it in a thread of its own, which tells that the results are ready and then frees the memory it worked
    in: if the next program is quicker than that, it takes as much again. In the caller's thread that is seldom so; the last
    operations may still end in another one. What the host could do meanwhile would run on the same cores. It works before
    the first array is made; ``jax.config.update("jax_cpu_enable_async_dispatch", True)`` right after ``import lamina``
    undoes it.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)


def arrived(data: Any) -> Any:
    """``data`` as a program on a CPU should be given it: large arrays of the host are copied first.

    A program whose data is still being copied runs in another thread, and the next one beside it, with memory of its own.
    """
    large = any(isinstance(leaf, np.ndarray) and leaf.nbytes > COPIED_AT_ONCE for leaf in jax.tree.leaves(data))
    if not large or jax.default_backend() != "cpu":
        return data
    return jax.block_until_ready(jax.device_put(data))


def _has_accelerator() -> bool:
    """Whether JAX is to compute on something else than the processor, as far as can be told before it looks for devices."""
    asked: str | None = jax.config.jax_platforms  # type: ignore[attr-defined]
    return asked.split(",")[0] != "cpu" if asked else importlib.util.find_spec("jax_plugins") is not None


def _after_compiling(event: str, duration_secs: float, **details: str | int) -> None:
    # the program will not need memory of such shapes
    if event == COMPILED and duration_secs > LONG:
        give_back()


def memory_left() -> int | None:
    """How many bytes this process can still have, by the least of its limits; ``None`` where the system does not tell.

    Limits are that of the process (``ulimit -v``), that of its control group, and what the machine has left.
    """
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        used = int(_words("/proc/self/statm")[0]) * resource.getpagesize()
        free = next(int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemAvailable:")) * 1024
    except (ImportError, OSError, ValueError, StopIteration):
        return None
    left = [free] if limit == resource.RLIM_INFINITY else [free, limit - used]
    try:
        group = Path("/sys/fs/cgroup") / _lines("/proc/self/cgroup")[0].rpartition(":")[2].strip().lstrip("/")
        left.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    except (OSError, ValueError, IndexError):  # no such group, or one without a limit
        pass
    return max(0, min(left))


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def _words(path: str) -> list[str]:
    return Path(path).read_text().split()
