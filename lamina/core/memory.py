"""How freed memory is kept for what comes next, instead of being given back to the system and asked for again."""

import ctypes
import os
import sys

#: glibc's names for what is set: the numbers of mallopt's M_TRIM_THRESHOLD, M_MMAP_THRESHOLD and M_ARENA_MAX
TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8


def keep_freed_memory() -> bool:
    """Let the C library keep up to 2 GiB of freed memory; tell whether it does.

    A step of training asks for the same large pieces of memory again and again. By default Linux's C library gives them back
    to the system each time, and every page that comes anew is cleared first: a tenth of the time and more. It works
    before the first array is made, on Linux with glibc; ``MALLOC_ARENA_MAX`` in the environment leaves everything as it is.
    """
    if sys.platform != "linux" or "MALLOC_ARENA_MAX" in os.environ:
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return False
    settings = {ARENA_MAX: 1, MMAP_THRESHOLD: 1 << 30, TRIM_THRESHOLD: 2**31 - 1}
    return all(list(map(mallopt, settings, settings.values())))  # every one, whatever the others give
