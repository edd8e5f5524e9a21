"""Writing ``.safetensors``, a header of JSON and then the arrays one after the other; and reading all of such a file.

It is written here rather than by the library of that name, which holds every array three times while it writes: a
checkpoint is made beside training, and may take the memory of one copy of the state.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lamina.core.errors import ConfigError
from lamina.saving import disk
from lamina.saving.container import DTYPES, HeaderError, parse_header, parse_json, read_header, read_tensor

#: bytes in one call to the system
_PIECE = 1 << 20
_NAMES = {dtype.name: name for name, dtype in DTYPES.items()}


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write arrays and texts into one file; at every instant the old or the new one is there, whole.

    Args:
        path: the file.
        tensors: name -> array.
        metadata: name -> text of JSON.

    Raises:
        FileError: if it cannot be written.
        ConfigError: for an array of a dtype that the format has no name for, and whatever else could not be read again.

    >>> import tempfile; from safetensors.numpy import load_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_tensors(Path(folder) / "two", {"a": np.ones(2), "b": np.zeros((1, 3), "int8")}, {"by": '"us"'})
    ...     load_file(Path(folder) / "two")["b"], read_tensors(Path(folder) / "two")[1]
    (array([[0, 0, 0]], dtype=int8), {'by': '"us"'})
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
    length = len(text).to_bytes(8, "little")
    try:
        parse_header(length, text, 8 + len(text) + start)
        for part in metadata.values():
            parse_json(part)
    except (HeaderError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be written, since it could not be read again: {error}.") from None
    disk.replace(path, _pieces([length, text, *map(bytes_of, arrays.values())]))


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the texts in a file, as :func:`write_tensors` takes them.

    Raises:
        FileError: if it is missing or damaged.
    """
    header = read_header(path, "safetensors file")
    with path.open("rb") as file:
        return {name: read_tensor(file, name, entry) for name, entry in header.tensors.items()}, header.metadata


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
