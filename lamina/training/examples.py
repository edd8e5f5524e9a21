"""Arrays that batches are gathered from, where programs find them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lamina.kernels.gather import can_gather_rows, gather_rows, places_of


class Layout(NamedTuple):
    """What a program has to know about the arrays before it is compiled; it holds none of them."""

    #: the tree that they are the leaves of
    structure: Any
    #: shape and dtype of a row of each
    rows: tuple[Any, ...]
    #: whether they are read in the host's memory
    hosted: bool

    def gather(self, arguments: Any, indices: Any, step: Any) -> Any:
        """The batch of the rows at ``indices[step]``."""
        if self.hosted:
            leaves: Any = gather_rows(indices, step, arguments, self.rows)
        else:
            leaves = [array[indices[step]] for array in arguments]
        return jax.tree.unflatten(self.structure, leaves)


class Examples:
    """Arrays with an example in each row.

    On a CPU, native kernels read them where they are, in the host's memory: they are not copied if they are of a dtype that
    JAX has and their rows follow each other, and one program serves any number of them. Elsewhere they are put on the
    device.

    Args:
        tree: the arrays, of NumPy or JAX.

    Attributes:
        layout: what programs have to know before.
        arguments: what programs are given.
    """

    def __init__(self, tree: Any) -> None:
        leaves, structure = jax.tree.flatten(tree)
        hosted = can_gather_rows() and all(map(_is_near, leaves))
        self._leaves: list[Any] = [_in_order(leaf) if hosted else jnp.asarray(leaf) for leaf in leaves]
        self.arguments: Any = places_of(self._leaves) if hosted else self._leaves
        rows = tuple(jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype) for leaf in self._leaves)
        self.layout = Layout(structure, rows, hosted)

    @property
    def row_bytes(self) -> float:
        """Bytes of one example."""
        return sum(leaf.nbytes / len(leaf) for leaf in self._leaves)

    @property
    def platforms(self) -> set[str]:
        """Where they are."""
        if self.layout.hosted:
            return {"cpu"}
        return {device.platform for leaf in self._leaves for device in leaf.devices()}

    def shapes(self, batch: int) -> Any:
        """Shapes and dtypes of a batch of so many."""
        rows = [jax.ShapeDtypeStruct((batch, *row.shape), row.dtype) for row in self.layout.rows]
        return jax.tree.unflatten(self.layout.structure, rows)

    def at(self, index: np.ndarray) -> Any:
        """The batch at ``index``, now."""
        return jax.tree.unflatten(self.layout.structure, [leaf[index] for leaf in self._leaves])


def _is_near(leaf: Any) -> bool:
    return not isinstance(leaf, jax.Array) or [device.platform for device in leaf.devices()] == ["cpu"]


def _in_order(leaf: Any) -> np.ndarray:
    """The array as it is, or a copy if its dtype is none of JAX's or its rows do not follow each other."""
    array = np.asarray(leaf)
    return np.ascontiguousarray(array, jax.dtypes.canonicalize_dtype(array.dtype))
