"""What ``fit`` takes: arrays of every common kind, and anything that gives batches; as one of two forms.

Arrays become an :class:`ArrayData`, which knows its length and is gathered from by index; everything else becomes a
:class:`StreamData`, which is iterated. Both give batches ``x``, ``(x, y)`` or ``(x, y, sample_weight)``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from lamina.core.errors import DataError
from lamina.data.streams import StreamData, stream

#: what to do with columns that are no numbers
_AS_TABLE = "A table of mixed columns is for lamina.families.FCNNClassifier, or for lamina.data.TableEncoder first."


def to_array(value: Any, what: str = "x") -> np.ndarray | jax.Array:
    """``value`` as an array: NumPy, JAX, pandas, polars, PyTorch, or nested lists of numbers.

    Args:
        value: the data.
        what: how an error calls them.

    Raises:
        DataError: if the rows have different lengths, or it is none of these.
    """
    if isinstance(value, jax.Array):
        return value
    if isinstance(value, np.ndarray):
        return _plain(value, what) if value.dtype.kind in "OMm" else value
    if hasattr(value, "detach"):  # a PyTorch tensor
        value = value.detach().cpu()
        return value.float().numpy() if str(value.dtype) == "torch.bfloat16" else value.numpy()
    if hasattr(value, "to_numpy"):  # pandas and polars
        return _plain(np.asarray(value.to_numpy()), what)
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DataError(
            f"{what} is a list whose rows have different lengths ({error}).\n"
            "Pad them to one length first, or pass one row a batch from a generator."
        ) from None
    return _plain(array, what)


def _plain(array: np.ndarray, what: str) -> np.ndarray:
    """``array`` of numbers or of texts; one of objects that are all numbers becomes one of numbers, missing ones NaN."""
    if array.dtype.kind not in "OMm":
        return array
    if array.dtype.kind in "Mm":
        raise DataError(f"{what} holds dates or times; expected numbers or texts.\n{_AS_TABLE}")
    kinds = {type(item) for item in array.flat}
    if all(issubclass(kind, str) for kind in kinds):
        return array
    missing = {kind for kind in kinds if kind.__name__ in ("NoneType", "NAType")}
    if kinds > missing and all(issubclass(kind, int | float | np.number | np.bool_) for kind in kinds - missing):
        values = [np.nan if type(item) in missing else item for item in array.flat]
        return np.asarray(values).reshape(array.shape)
    names = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise DataError(f"{what} holds {names}; expected numbers, or texts alone.\n{_AS_TABLE}")


def to_arrays(tree: Any, what: str = "x") -> Any:
    """Each array-like in ``tree`` as an array; a list of arrays stays a list, a list of numbers becomes one array."""
    if isinstance(tree, dict):
        return {name: to_arrays(item, f"{what}[{name!r}]") for name, item in tree.items()}
    if isinstance(tree, list | tuple) and any(hasattr(item, "shape") and np.ndim(item) for item in tree):
        return [to_arrays(item, f"{what}[{index}]") for index, item in enumerate(tree)]
    return to_array(tree, what)


def length(tree: Any, what: str = "x") -> int:
    """The common length of the first axis of all arrays in ``tree``.

    Raises:
        DataError: if an array has no axis, or the lengths differ.
    """
    lengths = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if np.ndim(leaf) == 0:
            raise DataError(f"{what} holds a single number where an array of examples is expected: {leaf!r}")
        lengths[jax.tree_util.keystr(path)] = leaf.shape[0]
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{what}{name}: {n}" for name, n in lengths.items())
        raise DataError(f"the arrays have different numbers of examples ({listed}).")
    return next(iter(lengths.values()), 0)


def pack(x: Any, y: Any = None, sample_weight: Any = None) -> Any:
    """A batch: ``x``, ``(x, y)`` or ``(x, y, sample_weight)``."""
    if sample_weight is not None:
        return (x, y, sample_weight)
    return x if y is None else (x, y)


def unpack(batch: Any) -> tuple[Any, Any, Any]:
    """``x, y, sample_weight`` of a batch, ``None`` for what it does not have."""
    if isinstance(batch, tuple):
        return (*batch, None, None)[:3]
    return batch, None, None


@dataclass
class ArrayData:
    """Examples in arrays, in batches given by index.

    Attributes:
        tree: the packed arrays, each with the examples along its first axis.
        size: the number of examples.
        batch_size: examples in a batch.
        shuffle: whether each epoch has an order of its own.
    """

    tree: Any
    size: int
    batch_size: int
    shuffle: bool = False

    @property
    def steps(self) -> int:
        """Batches in an epoch, the last one perhaps smaller."""
        return -(-self.size // self.batch_size)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """The indices of the examples in the order of that epoch; a function of the seed and the epoch alone."""
        if not self.shuffle:
            return np.arange(self.size, dtype=np.int32)
        rng = np.random.Generator(np.random.Philox(key=(np.uint64(seed) << np.uint64(32)) + np.uint64(epoch)))
        return rng.permutation(self.size).astype(np.int32)

    def take(self, index: Any) -> Any:
        """The examples at ``index`` as a batch."""
        return jax.tree.map(lambda a: a[index], self.tree)


def make_data(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    batch_size: int | None = None,
    shuffle: bool = False,
    steps: int | None = None,
) -> ArrayData | StreamData:
    """The data of ``fit``, ``evaluate`` or ``predict`` in one of the two forms.

    Args:
        x: arrays, lists or dictionaries of arrays, data frames, tensors; or a generator, a re-iterable of batches, a
            PyTorch ``DataLoader``, or an object with ``__len__`` and ``__getitem__`` that gives batches.
        y: the targets, where ``x`` holds arrays.
        sample_weight: a weight for each example.
        batch_size: examples in a batch; 32 by default.
        shuffle: whether arrays are shuffled anew each epoch.
        steps: batches in an epoch of a stream.

    Raises:
        DataError: for empty data, different lengths of x and y, or targets beside a stream.
    """
    if is_stream(x):
        if y is not None or sample_weight is not None:
            raise DataError(
                f"x is a {type(x).__name__}, which gives whole batches, so y and sample_weight cannot be passed beside "
                "it.\nLet it give (x, y) or (x, y, sample_weight)."
            )
        return stream(x, steps, _batch)
    batch_size = 32 if batch_size is None else batch_size
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise DataError(f"batch_size is a whole number of at least 1; received {batch_size!r}")
    x = to_arrays(x)
    size = length(x)
    y = None if y is None else to_arrays(y, "y")
    sample_weight = None if sample_weight is None else to_arrays(sample_weight, "sample_weight")
    for what, tree in ("y", y), ("sample_weight", sample_weight):
        if tree is not None and length(tree, what) != size:
            raise DataError(
                f"x has {size} examples and {what} has {length(tree, what)}; each example needs one.\n"
                f"Look at x.shape and {what}.shape."
            )
    if size == 0:
        raise DataError("x has no examples: its first axis has length 0.")
    return ArrayData(pack(x, y, sample_weight), size, batch_size, shuffle)


def is_stream(x: Any) -> bool:
    """Whether ``x`` gives batches rather than being arrays."""
    if isinstance(x, list) and x and all(isinstance(item, tuple) and _holds_arrays(item) for item in x):
        return True  # a list of batches (x, y)
    if hasattr(x, "shape") or hasattr(x, "to_numpy") or isinstance(x, dict | list | tuple | str | bytes):
        return False
    return hasattr(x, "__iter__") or (hasattr(x, "__len__") and hasattr(x, "__getitem__"))


def _batch(batch: Any) -> Any:
    """A batch from a stream, its lists read as ``(x, y, ...)`` where PyTorch collates tuples into lists."""
    if isinstance(batch, list) and len(batch) in (2, 3) and _holds_arrays(batch):
        batch = tuple(batch)
    if isinstance(batch, tuple):
        if len(batch) == 1:
            return to_arrays(batch[0])
        return tuple(None if part is None else to_arrays(part, "xyw"[i]) for i, part in enumerate(batch))
    return to_arrays(batch)


def _holds_arrays(parts: Sequence[Any]) -> bool:
    """Whether each part is an array, or a list or dictionary of arrays, rather than plain numbers."""
    return all(
        hasattr(leaf, "shape") or hasattr(leaf, "to_numpy")
        for leaf in jax.tree.leaves(parts, is_leaf=lambda x: x is None)
        if leaf is not None
    )
