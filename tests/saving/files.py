"""Model files made by hand, as a stranger could make them."""

import contextlib
import ctypes
import json
import resource
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

#: the dtypes that the tests write, as the format calls them
NAMES = {"float32": "F32", "float64": "F64", "int32": "I32", "int64": "I64", "bool": "BOOL", "uint8": "U8"}


def layer(name: str, /, **config: Any) -> dict[str, Any]:
    """A layer as a description holds it."""
    return {"class": name if "." in name else f"layers.{name}", "config": config}


def network(*layers: Any, shape: tuple[Any, ...] = (None, 4), dtype: str = "float32", **more: Any) -> dict[str, Any]:
    """The description of a Sequential model."""
    start = {"batch_shape": list(shape), "dtype": dtype, "name": None}
    config = {"name": None, "trainable": True, "input": start, "layers": list(layers)}
    return described({"class": "layers.Sequential", "config": config}, **more)


def graph(
    calls: list[dict[str, Any]], layers: Mapping[str, Any] = {}, outputs: Any = None, **more: Any
) -> dict[str, Any]:
    """The description of a functional model with one input of four numbers."""
    config = {
        "inputs": [{"shape": [None, 4], "dtype": "float32", "name": None}],
        "input_structure": {"value": ["input", 0]},
        "layers": dict(layers),
        "calls": calls,
        "outputs": outputs or {"value": [len(calls) - 1, 0]},
    }
    return described(model(config), **more)


def model(config: dict[str, Any]) -> dict[str, Any]:
    return {"class": "layers.Model", "config": {"name": None, "trainable": True, "graph": config}}


def call(operation: dict[str, str], *args: Any, **kwargs: Any) -> dict[str, Any]:
    return {"operation": operation, "args": {"tuple": list(args)}, "kwargs": {"dict": kwargs}}


def described(architecture: Any, **more: Any) -> dict[str, Any]:
    rest = {"built_for": None, "task": None, "compile": None}
    return {"format": 1, "lamina": "0.1.0", "architecture": architecture, **rest, **more}


def header_of(description: Any, tensors: Mapping[str, np.ndarray]) -> tuple[dict[str, Any], bytes]:
    """A file's header, and the bytes after it."""
    header: dict[str, Any] = {"__metadata__": {"lamina": json.dumps(description)}}
    data = b""
    for name, array in tensors.items():
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": NAMES[array.dtype.name], "shape": list(array.shape), "data_offsets": offsets}
        data += array.tobytes()
    return header, data


def joined(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A file of a header (JSON, or a text that need not be) and the bytes after it."""
    text = (header if isinstance(header, str) else json.dumps(header)).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def write(path: Path, description: Any, tensors: Mapping[str, np.ndarray] = {}) -> Path:
    """A file with a description and tensors."""
    path.write_bytes(joined(*header_of(description, tensors)))
    return path


#: what starts processes or unpickles
STARTS = {"os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "pickle.find_class"}
_watching: list[set[str]] = []


def _hook(event: str, args: tuple[Any, ...]) -> None:
    for seen in _watching:
        if event == "open" and isinstance(args[0], str | bytes | Path):
            seen.add(str(args[0] if isinstance(args[0], str | Path) else args[0].decode()))
        elif event in STARTS or event.startswith("socket."):
            seen.add(event)


sys.addaudithook(_hook)


@contextlib.contextmanager
def watched() -> Iterator[set[str]]:
    """The files that are opened inside, and the names of what starts processes, unpickles or speaks to the network."""
    seen: set[str] = set()
    _watching.append(seen)
    try:
        yield seen
    finally:
        _watching.remove(seen)


def parts_of(content: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """A file's header, its description, and the bytes after the header."""
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    return header, json.loads(header["__metadata__"]["lamina"]), content[8 + length :]


def altered(source: Path, path: Path, change: Any) -> Path:
    """A copy of a model file, with ``change`` called on its description."""
    header, description, data = parts_of(source.read_bytes())
    change(description)
    header["__metadata__"]["lamina"] = json.dumps(description)
    path.write_bytes(joined(header, data))
    return path


#: bytes of memory that reading a file may take beside ten times its size
CONSTANT = 100_000_000


def most_memory(path: Path) -> int:
    """The bytes of memory that reading a file may take at most."""
    return 10 * path.stat().st_size + CONSTANT


@contextlib.contextmanager
def memory_taken() -> Iterator[Callable[[], int]]:
    """Gives a function that tells how many bytes more the process has held at once since, as the system counts them."""
    with contextlib.suppress(AttributeError, OSError):  # freed memory is given back: taken again, it would not be seen
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):  # the most that was held so far is forgotten; where this cannot be, it counts
        Path("/proc/self/clear_refs").write_text("5")
    before = _most_held()
    yield lambda: _most_held() - before


def _most_held() -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
