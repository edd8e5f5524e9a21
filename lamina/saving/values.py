"""Plain values and arrays as JSON beside tensors, and back; and short descriptions of values, to tell two apart."""

import hashlib
import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import jax
import numpy as np

from lamina.core.errors import ConfigError, FileError
from lamina.core.state import Variable
from lamina.saving.tensors import bytes_of

#: of larger arrays, a sample of so many bytes is described
SAMPLE = 1 << 24
#: pieces of a sample
_PIECES = 1 << 10
#: a longer text or list is described by its length and a hash
_SHOWN = 60


def encode(value: Any, name: str, tensors: dict[str, np.ndarray]) -> Any:
    """``value`` as JSON; every array in it is copied into ``tensors``.

    Args:
        value: numbers, texts, ``None``, bytes, arrays, variables, NumPy's random generators; lists, tuples, sets and
            dictionaries of such.
        name: what the arrays' names begin with.
        tensors: where they are put.

    Raises:
        ConfigError: for any other value.

    >>> tensors = {}
    >>> encode({"wait": 3, "best": (np.ones(2), None)}, "state", tensors)
    {'dict': [['wait', 3], ['best', {'tuple': [{'array': 'state/best/0'}, None]}]]}
    >>> decode(_, tensors)
    {'wait': 3, 'best': (array([1., 1.]), None)}
    """
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if type(value) is list:
        return [encode(item, f"{name}/{i}", tensors) for i, item in enumerate(value)]
    if type(value) in (tuple, set, frozenset):
        items = sorted(value, key=repr) if type(value) is not tuple else value
        return {type(value).__name__: [encode(item, f"{name}/{i}", tensors) for i, item in enumerate(items)]}
    if type(value) is dict:
        pairs = [
            [encode(key, f"{name}/key", {}), encode(item, f"{name}/{key}", tensors)] for key, item in value.items()
        ]
        return {"dict": pairs}
    if isinstance(value, np.random.Generator):
        return {"generator": encode(value.bit_generator.state, name, tensors)}
    kind = "array"
    if isinstance(value, bytes | bytearray):
        kind, value = type(value).__name__, np.frombuffer(value, "uint8")
    elif isinstance(value, np.generic):
        kind = "scalar"
    elif hasattr(value, "detach") and hasattr(value, "cpu"):  # a PyTorch tensor
        kind, value = "tensor", value.detach().cpu().numpy()
    if isinstance(value, Variable):
        value = value.stored
    if isinstance(value, np.ndarray | np.generic | jax.Array) and np.dtype(value.dtype).kind not in "OSUMm":
        name = "".join(c if c.isprintable() else "?" for c in name)
        while name in tensors:
            name += "'"
        tensors[name] = np.array(value)
        return {kind: name}
    raise ConfigError(f"{name}: a checkpoint cannot hold a {type(value).__name__}: {value!r:.80}")


def can_encode(value: Any) -> bool:
    """Whether :func:`encode` takes ``value``."""
    if type(value) in (list, tuple, set, frozenset):
        return all(map(can_encode, value))
    if type(value) is dict:
        return all(can_encode(key) and can_encode(item) for key, item in value.items())
    try:
        encode(value[:0] if isinstance(value, np.ndarray) and value.ndim else value, "", {})
    except ConfigError:
        return False
    return True


def decode(value: Any, tensors: Mapping[str, np.ndarray]) -> Any:
    """The opposite of :func:`encode`. A random generator comes back as ``{"generator": its state}``.

    Raises:
        FileError: for JSON that :func:`encode` does not write.
    """
    if isinstance(value, list):
        return [decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    try:
        ((kind, inner),) = value.items()
        if kind == "dict":
            return {decode(key, tensors): decode(item, tensors) for key, item in inner}
        if kind == "float":
            return float(inner)
        if kind in ("tuple", "set", "frozenset"):
            return {"tuple": tuple, "set": set, "frozenset": frozenset}[kind](decode(inner, tensors))
        if kind == "generator":
            return {"generator": decode(inner, tensors)}
        array = tensors[inner]
        if kind in ("bytes", "bytearray"):
            return array.tobytes() if kind == "bytes" else bytearray(array.tobytes())
        if kind == "tensor":
            import torch

            return torch.from_numpy(np.array(array))
        return {"array": array, "scalar": array[()]}[kind]
    except (KeyError, ValueError, TypeError) as error:
        raise FileError(f"a checkpoint's state is not readable ({error}).") from None


def described(value: Any) -> Any:
    """What tells ``value`` from another: itself if it is short, else its length and a hash; ``None`` if it is neither
    plain nor an array.

    >>> described({"units": 3, "scale": np.ones((2, 1), "float32"), "fn": print})
    {'units': 3, 'scale': 'float32[2,1] 75ca910a4217e0df', 'fn': None}
    """
    if isinstance(value, Mapping):
        return {str(key): described(item) for key, item in value.items()}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, PurePath):
        value = str(value)
    if isinstance(value, float) and not math.isfinite(value):
        value = repr(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value if len(value) <= _SHOWN else f"{len(value)} characters {_hash(value.encode())}"
    if isinstance(value, list | tuple):
        items = [described(item) for item in value]
        return items if len(items) <= _SHOWN else f"{len(items)} items {_hash(repr(items).encode())}"
    if isinstance(value, np.ndarray | jax.Array) or hasattr(value, "__jax_array__"):
        array = np.asarray(value)
        return f"{array.dtype.name}[{','.join(map(str, array.shape))}] {_hash(*_sampled(array))}"
    return None


def differences(before: Any, now: Any, name: str = "") -> list[str]:
    """Where two descriptions differ, one line each.

    >>> differences({"epochs": 3, "x": [1, 2]}, {"epochs": 4, "x": [1, 2]})
    ['epochs: 3 then, 4 now']
    """
    if before == now:
        return []
    if isinstance(before, dict) and isinstance(now, dict):
        names = [*before, *(key for key in now if key not in before)]
        pairs = [(key, before.get(key), now.get(key)) for key in names]
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = [(str(i), *pair) for i, pair in enumerate(zip(before, now, strict=True))]
    else:
        return [f"{name}: {_short(before)} then, {_short(now)} now"]
    return [line for key, a, b in pairs for line in differences(a, b, f"{name}, {key}" if name else key)]


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 2 * _SHOWN else f"{text[: 2 * _SHOWN]}..."


def _sampled(array: np.ndarray) -> list[bytes | memoryview]:
    """All bytes of an array; of a large one, pieces at equal distances."""
    if array.dtype.kind in "OSUMm":
        return [repr(array.tolist()).encode()]
    if array.nbytes <= SAMPLE:
        return [bytes_of(array)]
    flat = array.reshape(-1)
    length = SAMPLE // _PIECES // array.itemsize
    starts = np.linspace(0, flat.size - length, _PIECES).astype(int)
    return [bytes_of(flat[start : start + length]) for start in starts]


def _hash(*parts: bytes | memoryview) -> str:
    found = hashlib.blake2b(digest_size=8)
    for part in parts:
        found.update(part)
    return found.hexdigest()
