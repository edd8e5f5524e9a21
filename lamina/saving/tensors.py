"""Writing ``.safetensors``: a header of JSON, then the arrays one after the other.

It is written here rather than by the library of that name, which holds every array three times while it writes: a
checkpoint is made beside training, and may take the memory of one copy of the state. Reading is the library's.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lamina.core.errors import ConfigError, FileError
from lamina.saving import disk

#: bytes in one call to the system
_PIECE = 1 << 20
_NAMES = {
    "bool": "BOOL",
    **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"F{bits}" for bits in (16, 32, 64)},
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "complex64": "C64",
}


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write arrays and texts into one file; at every instant the old or the new one is there, whole.

    Args:
        path: the file.
        tensors: name -> array.
        metadata: name -> text.

    Raises:
        FileError: if it cannot be written.
        ConfigError: for an array of a dtype that the format has no name for.

    >>> import tempfile; from safetensors.numpy import load_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_tensors(Path(folder) / "two", {"a": np.ones(2), "b": np.zeros((1, 3), "int8")}, {"by": "us"})
    ...     load_file(Path(folder) / "two")["b"], read_tensors(Path(folder) / "two")[1]
    (array([[0, 0, 0]], dtype=int8), {'by': 'us'})
    """
    # The widest first, as the library does: so every array lies at a multiple of its entries' size.
    arrays = {name: _little(array) for name, array in tensors.items()}
    arrays = dict(sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0])))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    start = 0
    for name, array in arrays.items():
        if array.dtype.name not in _NAMES:
            raise ConfigError(f"{name!r} is an array of {array.dtype.name}, which a safetensors file cannot hold.")
        stop = start + array.nbytes
        header[name] = {"dtype": _NAMES[array.dtype.name], "shape": list(array.shape), "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)

    disk.replace(path, _pieces([len(text).to_bytes(8, "little"), text, *map(bytes_of, arrays.values())]))


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the texts in a file.

    Raises:
        FileError: if it is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise FileError(f"{path} is not a safetensors file, or is damaged: {error}") from None


def _pieces(parts: list[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """``parts`` for few calls to the system: small ones joined, large ones cut."""
    small = bytearray()
    for part in parts:
        if len(part) < _PIECE:
            small += part
        if len(small) >= _PIECE or len(part) >= _PIECE:
            yield bytes(small)
            small.clear()
        if len(part) >= _PIECE:
            yield from (part[first : first + _PIECE] for first in range(0, len(part), _PIECE))
    if small:
        yield bytes(small)


def bytes_of(array: np.ndarray) -> memoryview:
    """The memory of an array, without a copy where its entries lie in order."""
    return np.ascontiguousarray(array).reshape(-1).view("uint8").data


def _little(array: np.ndarray) -> np.ndarray:
    swapped = array.dtype.byteorder == ">" or (array.dtype.byteorder == "=" and sys.byteorder == "big")
    return array.astype(array.dtype.newbyteorder("<")) if swapped else array
