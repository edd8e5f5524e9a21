"""The kernels in C++: found, loaded for the processor at hand, and offered to XLA.

They are built when Lamina is installed. Where there was no compiler, or the processor is another one, everything works
without them, by the portable forms in :mod:`lamina.kernels`. ``LAMINA_KERNELS=portable`` in the environment leaves them
alone.
"""

import ctypes
import functools
import os
import sys
from pathlib import Path
from typing import NamedTuple

import jax.ffi

from lamina.core.errors import ConfigError

#: what the names of the kernels begin with in a compiled program
PREFIX = "lamina."


class _Handler(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("function", ctypes.c_void_p))


class Loaded(NamedTuple):
    """What :func:`load` found."""

    #: what the kernels were built for, or why there are none
    how: str
    #: of the kernels that are there
    names: frozenset[str] = frozenset()
    library: ctypes.CDLL | None = None


@functools.cache
def load() -> Loaded:
    """Load the kernels.

    Raises:
        ConfigError: if ``LAMINA_KERNELS`` is neither ``native`` nor ``portable``.

    >>> isinstance(load().how, str) and isinstance(load().names, frozenset)
    True
    """
    wanted = os.environ.get("LAMINA_KERNELS", "native")
    if wanted not in ("native", "portable"):
        raise ConfigError(f"the environment's LAMINA_KERNELS is 'native' or 'portable'; received {wanted!r}")
    if wanted == "portable":
        return Loaded("portable, as LAMINA_KERNELS says")
    suffix = ".dll" if sys.platform == "win32" else ".so"
    folders = [Path(folder) for folder in __path__]
    built = {path.name: path for folder in folders for path in sorted(folder.glob(f"lamina_*{suffix}"))}
    processor = built.get(f"lamina_processor{suffix}")
    if processor is None:
        return Loaded("portable: the native ones were not built (no C++ compiler was found when Lamina was installed)")
    ask = ctypes.CDLL(str(processor)).lamina_instruction_set
    ask.restype = ctypes.c_char_p
    instructions = ask().decode()
    path = built.get(f"lamina_{instructions}{suffix}")
    if path is None:
        return Loaded("portable: there are no native ones for this processor")
    library = ctypes.CDLL(str(path))
    library.lamina_handlers.restype = ctypes.POINTER(_Handler)
    count = ctypes.c_int64()
    first = library.lamina_handlers(ctypes.byref(count))
    offered = first[: count.value]
    for handler in offered:
        capsule = _capsule(handler.function)
        jax.ffi.register_ffi_target(PREFIX + handler.name.decode(), capsule, platform="cpu")
    return Loaded(f"native, for {instructions}", frozenset(handler.name.decode() for handler in offered), library)


def place_of(size: int) -> int | None:
    """The address at which so much memory would lie that a program of XLA works in, as the heap is now; see ``heap.cc``.

    ``None`` where that is not known: without native kernels, or with another C library than glibc.
    """
    library = load().library
    if library is None:
        return None
    find = library.lamina_place_of
    find.restype, find.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
    place: int | None = find(size)
    return place


def _capsule(function: int) -> object:
    make = ctypes.pythonapi.PyCapsule_New
    make.restype, make.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
    return make(function, None, None)
