"""Layers that make one array of several, and the same as functions."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp

from lamina.core.errors import ConfigError, ShapeError
from lamina.core.shapes import Shape
from lamina.core.state import Array
from lamina.kernels import joined_convolution
from lamina.kernels.addition import plus
from lamina.kernels.normalization import unit_norm
from lamina.layers.base import Layer, layer

__all__ = [
    "Add",
    "Average",
    "Concatenate",
    "Dot",
    "Maximum",
    "Minimum",
    "Multiply",
    "Subtract",
    "add",
    "average",
    "concatenate",
    "dot",
    "maximum",
    "minimum",
    "multiply",
    "subtract",
]

Masks = Sequence[Array | None] | None


class _Merge(Layer):
    """A layer that is called on a list."""

    supports_masking = True
    #: how many arrays it takes; None for one or more
    count: int | None = None

    def build(self, input_shape: Any) -> None:
        many = isinstance(input_shape, list | tuple) and all(isinstance(s, list | tuple) for s in input_shape)
        if not many or not input_shape or self.count not in (None, len(input_shape)):
            raise ShapeError(
                f"layer {self.name!r} ({type(self).__name__}) expected a list of {self.count or 'one or more'} inputs; "
                f"received {'a list of ' + str(len(input_shape)) if many else 'one of shape ' + str(input_shape)}.\n"
                f"Write:  {type(self).__name__}(...)([x, y])"
            )
        self.check_shapes([tuple(shape) for shape in input_shape])

    def check_shapes(self, shapes: list[Shape]) -> None:
        """Raise a ShapeError if arrays of these shapes do not fit together."""
        lengths = {shape[0] for shape in shapes if shape} - {None}
        if len(lengths) > 1:
            raise self.misfit(shapes, "the same number of examples in each")
        wide = [_widened(shape, max(map(len, shapes))) for shape in shapes]
        for lengths_along_axis in zip(*wide, strict=True):
            if len(set(lengths_along_axis) - {None, 1}) > 1:
                raise self.misfit(shapes, "inputs whose shapes are equal, or 1, along each axis")

    def misfit(self, shapes: list[Shape], wanted: str) -> ShapeError:
        """The error that says which shapes do not fit."""
        return ShapeError(
            f"layer {self.name!r} ({type(self).__name__}) expected {wanted}; received shapes "
            f"{', '.join(map(str, shapes))}.\nMake them fit with Dense, Reshape or Conv before this layer."
        )

    def call(self, inputs: Sequence[Array], mask: Masks = None) -> Array:
        ndim = max(x.ndim for x in inputs)
        arrays = [x.reshape(_widened(x.shape, ndim)) for x in inputs]
        return self.merge(arrays, mask or [None] * len(arrays))

    def merge(self, inputs: list[Array], masks: Sequence[Array | None]) -> Array:
        """The result for inputs with the same number of axes."""
        raise NotImplementedError

    def compute_mask(self, inputs: Any, previous_mask: Masks = None) -> Array | None:
        """A step counts if it does in any input; all do if one input has no mask."""
        masks = previous_mask if isinstance(previous_mask, list | tuple) else [previous_mask]
        if any(mask is None for mask in masks):
            return None
        return functools.reduce(jnp.logical_or, masks)


def _widened(shape: Sequence[Any], ndim: int) -> tuple[Any, ...]:
    """``shape`` with axes of length 1 after the batch axis."""
    return (*shape[:1], *(1,) * (ndim - len(shape)), *shape[1:])


@layer
class Add(_Merge):
    """The sum of two or more inputs.

    >>> Add()([jnp.ones((1, 2)), jnp.ones((1, 2))]).tolist()
    [[2.0, 2.0]]
    """

    def merge(self, inputs: list[Array], masks: Sequence[Array | None]) -> Array:
        return functools.reduce(plus, inputs)


@layer
class Subtract(_Merge):
    """The first of two inputs less the second.

    >>> Subtract()([jnp.ones((1, 2)), jnp.ones((1, 2))]).tolist()
    [[0.0, 0.0]]
    """

    count = 2

    def merge(self, inputs: list[Array], masks: Sequence[Array | None]) -> Array:
        return inputs[0] - inputs[1]


@layer
class Multiply(_Merge):
    """The product of two or more inputs, entry by entry. A masked step of an input counts as one.

    >>> Multiply()([jnp.full((1, 2), 2.0), jnp.full((1, 2), 3.0)]).tolist()
    [[6.0, 6.0]]
    """

    def merge(self, inputs: list[Array], masks: Sequence[Array | None]) -> Array:
        wide = [_aligned(mask, x) for mask, x in zip(masks, inputs, strict=True)]
        factors = [x if mask is None else jnp.where(mask, x, 1) for mask, x in zip(wide, inputs, strict=True)]
        product = functools.reduce(jnp.multiply, factors)
        known = [mask for mask in wide if mask is not None]
        return jnp.where(functools.reduce(jnp.logical_or, known), product, 0) if len(known) == len(wide) else product


@layer
class Average(_Merge):
    """The mean of two or more inputs.

    >>> Average()([jnp.zeros((1, 2)), jnp.ones((1, 2))]).tolist()
    [[0.5, 0.5]]
    """

    def merge(self, inputs: list[Array], masks: Sequence[Array | None]) -> Array:
        return functools.reduce(jnp.add, inputs) / len(inputs)


@layer
class Maximum(_Merge):
    """The largest of two or more inputs, entry by entry. Where an input is masked, the others decide.

    >>> Maximum()([jnp.zeros((1, 2)), jnp.ones((1, 2))]).tolist()
    [[1.0, 1.0]]
    """

    def merge(self, inputs: list[Array], masks: Sequence[Array | None]) -> Array:
        return _decide(jnp.maximum, inputs, masks)


@layer
class Minimum(_Merge):
    """The smallest of two or more inputs, entry by entry. Where an input is masked, the others decide.

    >>> Minimum()([jnp.zeros((1, 2)), jnp.ones((1, 2))]).tolist()
    [[0.0, 0.0]]
    """

    def merge(self, inputs: list[Array], masks: Sequence[Array | None]) -> Array:
        return _decide(jnp.minimum, inputs, masks)


def _aligned(mask: Array | None, x: Array) -> Array | None:
    """A mask of the steps of ``x`` with axes of length 1 for the others."""
    return None if mask is None else mask.astype(bool).reshape(mask.shape + (1,) * (x.ndim - mask.ndim))


def _decide(choose: Callable[[Array, Array], Array], inputs: list[Array], masks: Sequence[Array | None]) -> Array:
    result, counts = inputs[0], _aligned(masks[0], inputs[0])
    for x, mask in zip(inputs[1:], masks[1:], strict=True):
        here = _aligned(mask, x)
        x = x if here is None else jnp.where(here, x, result)
        result = result if counts is None else jnp.where(counts, result, x)
        counts = None if here is None or counts is None else jnp.logical_or(counts, here)
        result = choose(result, x)
    return result


@layer
class Concatenate(_Merge):
    """Inputs one after the other along an axis.

    Args:
        axis: the axis along which their lengths may differ.

    >>> Concatenate()([jnp.ones((2, 3)), jnp.ones((2, 4))]).shape
    (2, 7)
    """

    def __init__(self, axis: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if isinstance(axis, bool) or not isinstance(axis, int):
            raise ConfigError(f"Concatenate expects axis as a whole number; received {axis!r}")
        self.axis = axis

    def check_shapes(self, shapes: list[Shape]) -> None:
        ndim = len(shapes[0])
        if any(len(shape) != ndim for shape in shapes) or not -ndim <= self.axis < ndim:
            raise self.misfit(shapes, f"inputs with the same number of axes, one of them axis {self.axis}")
        for axis, lengths in enumerate(zip(*shapes, strict=True)):
            if axis != self.axis % ndim and len(set(lengths) - {None}) > 1:
                raise self.misfit(shapes, f"inputs that differ in length along axis {self.axis} only")

    def merge(self, inputs: list[Array], masks: Sequence[Array | None]) -> Array:
        return joined_convolution.concatenate(inputs, self.axis)

    def compute_mask(self, inputs: Sequence[Array], previous_mask: Masks = None) -> Array | None:
        """Masks one after the other too; along an axis of features, a step counts if it does in any input."""
        masks = previous_mask if isinstance(previous_mask, list | tuple) else [None]
        if all(mask is None for mask in masks):
            return None
        known = [(x, mask) for x, mask in zip(inputs, masks, strict=True) if mask is not None]
        ndim, axis = known[0][1].ndim, self.axis % inputs[0].ndim
        if axis >= ndim:
            return functools.reduce(jnp.logical_or, [m for _, m in known]) if len(known) == len(masks) else None
        full = [jnp.ones(x.shape[:ndim], bool) if m is None else m for x, m in zip(inputs, masks, strict=True)]
        return jnp.concatenate(full, axis)


@layer
class Dot(_Merge):
    """Products of two inputs, summed along one axis of each, example by example.

    Args:
        axes: the axis to sum along, in both inputs or as a pair; not that of the batch.
        normalize: whether to divide each vector along that axis by its length, so that the result is a cosine.

    Inputs ``(batch, ..., n, ...)``; output ``(batch, the first's other axes, the second's other axes)``, or
    ``(batch, 1)`` where there are none.

    >>> Dot(axes=(2, 1))([jnp.ones((4, 2, 3)), jnp.ones((4, 3, 5))]).shape
    (4, 2, 5)
    """

    count = 2

    def __init__(self, axes: int | Sequence[int], normalize: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        pair = [axes, axes] if isinstance(axes, int) else list(axes) if isinstance(axes, Sequence) else []
        if len(pair) != 2 or not all(isinstance(a, int) and not isinstance(a, bool) and a != 0 for a in pair):
            raise ConfigError(
                f"Dot expects axes as one or two whole numbers other than 0, the batch's axis; received {axes!r}.\n"
                "Write:  Dot(axes=-1)  or  Dot(axes=(2, 1))"
            )
        self.axes, self.normalize = axes, normalize

    def _pair(self, ndims: Sequence[int]) -> list[int]:
        pair = [self.axes] * 2 if isinstance(self.axes, int) else self.axes
        return [axis % ndim for axis, ndim in zip(pair, ndims, strict=True)]

    def check_shapes(self, shapes: list[Shape]) -> None:
        if min(map(len, shapes)) < 2 or len({shape[0] for shape in shapes} - {None}) > 1:
            raise self.misfit(shapes, "two inputs of at least two axes, with the same number of examples")
        first, second = self._pair([len(shape) for shape in shapes])
        if 0 in (first, second):
            raise self.misfit(shapes, f"axes {self.axes} to be others than that of the batch")
        if len({shapes[0][first], shapes[1][second]} - {None}) > 1:
            raise self.misfit(shapes, f"the same length along axis {first} of the first and {second} of the second")

    def call(self, inputs: Sequence[Array], mask: Masks = None) -> Array:
        first, second = inputs
        a, b = self._pair([first.ndim, second.ndim])
        if self.normalize:
            dtype = jnp.promote_types(jnp.result_type(first, second), self.compute_dtype)
            first, second = unit_norm(first.astype(dtype), a), unit_norm(second.astype(dtype), b)
        letters = iter("cdefghijklmnopqrstuvw")
        left = ["b", *(next(letters) for _ in range(first.ndim - 1))]
        right = ["b", *(next(letters) for _ in range(second.ndim - 1))]
        left[a] = right[b] = "x"
        kept = "".join(letter for letter in left + right[1:] if letter != "x")
        result = jnp.einsum(f"{''.join(left)},{''.join(right)}->{kept}", first, second)
        return result[:, None] if result.ndim == 1 else result

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        """No mask: the axes are other ones."""


def add(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """The sum of two or more arrays; see :class:`Add`."""
    return Add(**kwargs)(inputs)


def subtract(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """The first of two arrays less the second; see :class:`Subtract`."""
    return Subtract(**kwargs)(inputs)


def multiply(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """The product of two or more arrays, entry by entry; see :class:`Multiply`."""
    return Multiply(**kwargs)(inputs)


def average(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """The mean of two or more arrays; see :class:`Average`."""
    return Average(**kwargs)(inputs)


def maximum(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """The largest of two or more arrays, entry by entry; see :class:`Maximum`."""
    return Maximum(**kwargs)(inputs)


def minimum(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """The smallest of two or more arrays, entry by entry; see :class:`Minimum`."""
    return Minimum(**kwargs)(inputs)


def concatenate(inputs: Sequence[Any], axis: int = -1, **kwargs: Any) -> Any:
    """Arrays one after the other along ``axis``; see :class:`Concatenate`."""
    return Concatenate(axis=axis, **kwargs)(inputs)


def dot(inputs: Sequence[Any], axes: int | Sequence[int] = -1, **kwargs: Any) -> Any:
    """Products of two arrays, summed along ``axes``; see :class:`Dot`."""
    return Dot(axes=axes, **kwargs)(inputs)
