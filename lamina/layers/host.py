"""Layers that run in Python before the compiled part of a model, because JAX has no strings."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core import symbolic
from lamina.core.errors import ConfigError, DataError, StateError
from lamina.core.shapes import Shape, TensorSpec
from lamina.layers.base import Layer


class Prepared(list[Any]):
    """Values at the border of a graph's host part: what its layers on strings gave, ready for the compiled part."""


jax.tree_util.register_pytree_node(Prepared, lambda p: (list(p), None), lambda _, leaves: Prepared(leaves))


class HostLayer(Layer):
    """The base of layers that take strings: called on NumPy arrays or lists, they give JAX arrays.

    A subclass writes ``call`` and :meth:`output_spec`. A model runs its host layers on each batch before its compiled
    step; they stand between the inputs and everything else.
    """

    #: whether the layer has to be called outside jit
    on_host = True

    def output_spec(self, spec: Any) -> TensorSpec:
        """Shape and dtype of the output for an input (or a list of inputs) of this spec."""
        raise NotImplementedError

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return self.output_spec(TensorSpec(tuple(input_shape), "string")).shape

    def __call__(self, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        if symbolic.any_symbolic((args, kwargs)):
            call = symbolic.Call(self, args, kwargs)
            spec = self.output_spec(symbolic.specs_of(args[0]))
            call.outputs = symbolic.SymbolicTensor(spec.shape, spec.dtype, call)
            return call.outputs
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((args, kwargs))):
            raise StateError(
                f"layer {self.name!r} ({type(self).__name__}) works on strings and cannot run inside jit.\n"
                "Call it on the data before the compiled function, or let it stand first in the model."
            )
        if not self.built:
            self.build_from({"inputs": None})
        return self.call(*args, **kwargs)


def strings(x: Any, owner: Layer) -> np.ndarray:
    """``x`` as an array of Python strings; bytes are decoded.

    Raises:
        DataError: if anything in it is not a string.
    """
    array = np.asarray(x)
    if array.dtype.kind == "S":
        array = np.char.decode(array, getattr(owner, "encoding", "utf-8"))
    if array.dtype.kind not in "OUT" and array.size:
        raise DataError(
            f"layer {owner.name!r} ({type(owner).__name__}) expected strings; received an array of dtype "
            f"{array.dtype}.\nFor whole numbers, write:  IntegerLookup()"
        )
    if array.dtype.kind != "O":
        return array.astype(object)
    flat = array.ravel().tolist()
    if all(type(item) is str for item in flat):
        return array
    out = np.empty(len(flat), object)
    for index, item in enumerate(flat):
        if isinstance(item, bytes):
            item = item.decode(getattr(owner, "encoding", "utf-8"))
        if not isinstance(item, str):
            raise DataError(
                f"layer {owner.name!r} ({type(owner).__name__}) expected strings; received {item!r}.\n"
                "Fill in what is missing, as in:  column.fill_null('')  or  column.fillna('')"
            )
        out[index] = str(item)
    return out.reshape(array.shape)


def check_salt(owner: Layer, salt: Any) -> list[int] | None:
    """A salt of one or two whole numbers as two.

    Raises:
        ConfigError: if it is neither.
    """
    if salt is None:
        return None
    pair = [salt, salt] if isinstance(salt, int) else list(salt)
    if len(pair) != 2 or not all(isinstance(part, int) and 0 <= part < 2**64 for part in pair):
        raise ConfigError(f"{type(owner).__name__} expects a salt of one or two whole numbers; received {salt!r}")
    return pair


def hash_to_bins(texts: Iterable[str], bins: int, salt: Sequence[int] | None = None) -> list[int]:
    """A bin from 0 to ``bins - 1`` for each text; the same ones on every machine.

    >>> hash_to_bins(["a", "b", "a"], 4) == hash_to_bins(["a", "b", "a"], 4)
    True
    """
    key = b"".join(part.to_bytes(8, "little") for part in salt or ())
    found: dict[str, int] = {}
    out = []
    for text in texts:
        if text not in found:
            digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, key=key).digest()
            found[text] = int.from_bytes(digest, "little") % bins
        out.append(found[text])
    return out


def encoded_spec(shape: Shape, mode: str, depth: int, dtype: Any) -> TensorSpec:
    """Shape and dtype of indices of shape ``shape`` in the output mode ``mode``."""
    if mode == "int":
        return TensorSpec(shape, jnp.asarray(0).dtype)
    each = mode == "one_hot" and not (len(shape) > 1 and shape[-1] == 1)
    return TensorSpec((*(shape if each else shape[:-1]), depth), jnp.dtype(dtype))
