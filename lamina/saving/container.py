"""What a ``.safetensors`` file may be, for reader and writer: its header is checked whole before anything is allocated.

The format (https://github.com/huggingface/safetensors): 8 bytes with the length of the header, the header as JSON, the
tensors' bytes. The header gives each tensor's dtype, shape and place; together the places cover all bytes, each once.
"""

import json
import math
import struct
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from lamina.core.errors import FileError, shown

#: the longest header that is read or written, in bytes
LONGEST = 32_000_000
#: the most bytes that Python may take for a header's characters: one wide character makes it take four for each of them
WIDEST = 30_000_000
#: bytes that Python takes for what stands at each of these characters of JSON, at most: an item, an entry, a list
COSTS = {",": 72, ":": 130, "[": 80, "{": 80}
#: bytes that the values of a JSON text may take, whatever its length, and for each of its characters
VALUES, PER_CHARACTER = 100_000_000, 4
#: how deep lists and dictionaries of a description may stand inside each other
DEEPEST = 100
#: the most axes, and the longest one
AXES, AXIS = 32, 2**40
DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("bool"),
    "U8": np.dtype("uint8"),
    "I8": np.dtype("int8"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "C64": np.dtype("<c8"),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
}


class Entry(NamedTuple):
    """Where a tensor stands: its dtype, its shape, and the place of its first byte in the file."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int


class Header(NamedTuple):
    """What the header says: the tensors by name, and the texts beside them."""

    tensors: dict[str, Entry]
    metadata: dict[str, str]


class HeaderError(Exception):
    """What is wrong with a header, in one line."""


def read_header(path: Path, kind: str = "model file") -> Header:
    """The header of a file, checked.

    Args:
        path: the file.
        kind: what it should be, for messages.

    Raises:
        FileError: if the file is missing, damaged, or not of this format.
    """
    if not path.is_file():
        raise FileError(f"there is no file {path}")
    try:
        with path.open("rb") as file:
            start = file.read(8)
            size = path.stat().st_size
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            content = [file.read(length) if length <= min(LONGEST, size - 8) else b""]
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from None
    try:
        return parse_header(start, content.pop(), size)
    except HeaderError as error:
        raise FileError(f"{path} is not a {kind}, or is damaged: {error}.") from None


def parse_header(start: bytes, content: bytes, size: int) -> Header:
    """The header that the bytes at the start of a file hold.

    Args:
        start: the file's first 8 bytes; or what there is of them.
        content: the bytes after them, at least to the header's end; or what there is of them.
        size: the length of the whole file, in bytes.

    Raises:
        HeaderError: if they are not such a header, or its tensors are not the rest of the file.
    """
    if len(start) < 8:
        raise HeaderError(f"it has {size} bytes, and a header has at least 8")
    (length,) = struct.unpack("<Q", start)
    if length > LONGEST:
        raise HeaderError(f"its header is said to have {length} bytes; at most {LONGEST} are read")
    if len(content) < length:
        raise HeaderError(f"its header is said to have {length} bytes, and {size - 8} follow")
    try:
        text = str(memoryview(content)[:length], "utf-8")
        del content  # its text can take four times as much
        found = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise HeaderError(f"its header is not JSON: {_first_line(error)}") from None
    if not isinstance(found, dict):
        raise HeaderError("its header is not a dictionary")
    return Header(*_checked(found, 8 + length, size))


def parse_json(text: str) -> Any:
    """JSON from anybody: no name twice in a dictionary, lists and dictionaries not too deep, and not too many values.

    Raises:
        ValueError: saying what is wrong.
    """
    if (wide := sys.getsizeof(text)) > WIDEST:
        raise ValueError(f"its {len(text)} characters take {wide} bytes; at most {WIDEST} are read")
    # An empty list takes thirty times its characters, a short entry of a dictionary as much: they are counted beforehand.
    needed = sum(text.count(mark) * cost for mark, cost in COSTS.items())
    if needed > VALUES + PER_CHARACTER * len(text):
        raise ValueError(f"its values could take {needed} bytes, too many for {len(text)} characters")
    found = json.loads(text, object_pairs_hook=_each_once)
    if text.count("[") + text.count("{") > DEEPEST:
        _refuse_deep(found)
    return found


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the name {shown(twice)} stands twice")
    return made


def _refuse_deep(found: Any) -> None:
    level = [found]
    for _ in range(DEEPEST):
        level = [item for group in level for item in _items(group) if isinstance(item, dict | list)]
        if not level:
            return
    raise ValueError(f"lists and dictionaries stand more than {DEEPEST} deep inside each other")


def _items(group: Any) -> Iterable[Any]:
    return group.values() if isinstance(group, dict) else group if isinstance(group, list) else ()


def _checked(found: dict[str, Any], start: int, size: int) -> tuple[dict[str, Entry], dict[str, str]]:
    metadata = found.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise HeaderError("its metadata are not texts")
    tensors: dict[str, Entry] = {}
    spans = []
    for name, entry in found.items():
        if not name.isprintable() or not name:
            raise HeaderError(f"a tensor is named {shown(name)}")
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise HeaderError(f"tensor {shown(name)} is described by something else than dtype, shape and data_offsets")
        kind, shape, span = entry["dtype"], entry["shape"], entry["data_offsets"]
        dtype = DTYPES.get(kind) if isinstance(kind, str) else None
        if dtype is None:
            raise HeaderError(f"tensor {shown(name)} has the dtype {shown(kind)}; known are {', '.join(DTYPES)}")
        if not _are_lengths(shape) or len(shape) > AXES:
            raise HeaderError(f"tensor {shown(name)} has the shape {shown(shape)}")
        if not _are_lengths(span) or len(span) != 2:
            raise HeaderError(f"tensor {shown(name)} has the offsets {shown(span)}")
        begin, end = span
        needed = math.prod(shape) * dtype.itemsize
        if end - begin != needed:
            raise HeaderError(
                f"tensor {shown(name)} of shape {shape} needs {needed} bytes; its offsets are {begin}, {end}"
            )
        spans.append((begin, end, name))
        tensors[name] = Entry(dtype, tuple(shape), start + begin)
    reached = 0
    for begin, end, name in sorted(spans):
        if begin != reached:
            what = "overlaps the one before it" if begin < reached else f"leaves a hole of {begin - reached} bytes"
            raise HeaderError(f"tensor {shown(name)} {what}")
        reached = end
    if reached != size - start:
        raise HeaderError(f"its tensors need {reached} bytes; {size - start} follow the header")
    return tensors, metadata


def _are_lengths(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n <= AXIS for n in value)


def read_tensor(file: BinaryIO, name: str, entry: Entry) -> np.ndarray:
    """One tensor of an open file, in memory of its own.

    Raises:
        FileError: if the file ends before it, or its bytes are no values of its dtype.
    """
    file.seek(entry.start)
    array = np.fromfile(file, entry.dtype, math.prod(entry.shape))
    if array.size != math.prod(entry.shape):
        raise FileError(f"{file.name} ends within the tensor {shown(name)}: it is shorter than it was a moment ago.")
    if entry.dtype == bool and np.any(array.view("uint8") > 1):
        raise FileError(f"{file.name}: tensor {shown(name)} of truth values holds a byte that is neither 0 nor 1.")
    return array.reshape(entry.shape)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).partition("\n")[0][:200]
