"""Shapes with unknown axes, and what a function would return, without running it."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lamina.core.state import child

Shape = tuple[int | None, ...]


class TensorSpec(NamedTuple):
    """The shape and dtype of an array; ``None`` is an axis whose length is not known before the data are."""

    shape: Shape
    dtype: Any


def is_shape(value: Any) -> bool:
    """Whether ``value`` is one shape rather than a list or dictionary of shapes."""
    return isinstance(value, Sequence) and all(n is None or isinstance(n, int) for n in value)


def map_shapes(fn: Callable[[Shape], Any], shapes: Any) -> Any:
    """``fn`` of every shape in a list, tuple or dictionary of shapes, kept in that structure."""
    if isinstance(shapes, Mapping):
        return {name: map_shapes(fn, shape) for name, shape in shapes.items()}
    if is_shape(shapes):
        return fn(tuple(shapes))
    return type(shapes)(map_shapes(fn, shape) for shape in shapes)


def infer(fn: Callable[..., Any], *specs: Any) -> Any:
    """The specs of what ``fn`` returns for arrays of these specs.

    Unknown axes are tried in two lengths: an axis of the result that follows them is unknown too.

    >>> infer(lambda x: x.reshape(x.shape[0], -1), TensorSpec((None, 2, 3), "float32"))
    TensorSpec(shape=(None, 6), dtype=dtype('float32'))
    """
    leaves, tree = jax.tree.flatten(specs, is_leaf=lambda x: isinstance(x, TensorSpec))

    def results(unknown: int) -> Any:
        def filled(leaf: Any) -> Any:
            if not isinstance(leaf, TensorSpec):
                return leaf
            return jax.ShapeDtypeStruct(tuple(unknown if n is None else n for n in leaf.shape), leaf.dtype)

        arrays = [filled(leaf) for leaf in leaves]
        dynamic = {i: leaf for i, leaf in enumerate(arrays) if isinstance(leaf, jax.ShapeDtypeStruct)}

        def call(dynamic: dict[int, Any]) -> Any:
            with child(abstract=True, key=jax.random.key(0)):
                out = fn(*jax.tree.unflatten(tree, [dynamic.get(i, leaf) for i, leaf in enumerate(arrays)]))
                return jax.tree.map(jnp.asarray, out)

        return jax.eval_shape(call, dynamic)

    first = results(720)  # lengths that many numbers divide, and that no usual window is longer than
    second = results(1440) if any(isinstance(x, TensorSpec) and None in x.shape for x in leaves) else first

    def spec(a: Any, b: Any) -> TensorSpec:
        return TensorSpec(tuple(m if m == n else None for m, n in zip(a.shape, b.shape, strict=True)), a.dtype)

    return jax.tree.map(spec, first, second)


def largest(fn: Callable[..., Any], specs: Any, length: int) -> tuple[int, str]:
    """The largest array that ``fn`` makes on its way, without running it: how many numbers it has, and what makes it.

    Args:
        fn: a function of arrays.
        specs: the specs of its argument; an unknown first axis is taken to have length 1.
        length: the length that other unknown axes are taken to have.

    >>> largest(lambda x: jnp.repeat(x, 1000, 1).sum(), TensorSpec((None, 3), "float32"), 128)[0]
    3000
    """

    def filled(spec: Any) -> Any:
        shape = tuple((length if axis else 1) if n is None else n for axis, n in enumerate(spec.shape))
        return jax.ShapeDtypeStruct(shape, spec.dtype)

    def call(x: Any) -> Any:
        with child(abstract=True, key=jax.random.key(0)):
            return jax.tree.map(jnp.asarray, fn(x))

    arrays = jax.tree.map(filled, specs, is_leaf=lambda x: isinstance(x, TensorSpec))
    return _largest(jax.make_jaxpr(call)(arrays).jaxpr)


def _largest(jaxpr: Any) -> tuple[int, str]:
    found = (0, "")
    for equation in jaxpr.eqns:
        size = max((math.prod(out.aval.shape) for out in equation.outvars), default=0)
        inner = (_largest(getattr(value, "jaxpr", value)) for value in programs_in(equation))
        found = max(found, (size, equation.primitive.name), *inner)
    return found


def programs_in(equation: Any) -> list[Any]:
    """The programs inside one equation of a program, as the body of a loop."""
    leaves = jax.tree.leaves(list(equation.params.values()), is_leaf=_is_program)
    return [leaf for leaf in leaves if _is_program(leaf)]


def _is_program(value: Any) -> bool:
    return hasattr(value, "eqns") or hasattr(getattr(value, "jaxpr", None), "eqns")
