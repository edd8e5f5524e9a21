"""The functions of ``keras.ops.core``: conversion, indexing, and control flow.

Functions that are given to control flow may read variables. Inside ``scan``, ``map`` and ``vectorized_map`` they may
assign them and draw random numbers too.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core import allowance, registry, transforms
from lamina.core.errors import ConfigError
from lamina.core.loops import looping
from lamina.core.shapes import Shape
from lamina.core.state import Array, Variable
from lamina.core.symbolic import SymbolicTensor, is_symbolic
from lamina.ops.dispatch import like, needs_values, op, public

stop_gradient = like(jax.lax.stop_gradient, "stop_gradient(variable)")


@registry.register("ops")
def shape(x: Any) -> Shape:
    """The shape, as a tuple; ``None`` for the unknown axes of a symbolic value.

    >>> shape(jnp.zeros((2, 3)))
    (2, 3)
    """
    return tuple(x.shape) if hasattr(x, "shape") else np.shape(x)


@registry.register("ops")
def ndim(x: Any) -> int:
    """The number of axes."""
    return len(shape(x))


@registry.register("ops")
def dtype(x: Any) -> str:
    """The name of the dtype.

    >>> dtype(jnp.zeros(2))
    'float32'
    """
    return jnp.dtype(x.dtype if hasattr(x, "dtype") else jnp.asarray(x).dtype).name


@registry.register("ops")
def is_tensor(x: Any) -> bool:
    """Whether ``x`` is a JAX array or a symbolic value."""
    return isinstance(x, jax.Array | SymbolicTensor)


@op
def cast(x: Any, dtype: Any) -> Array:
    """``x`` in another dtype.

    >>> cast([0.5, 2.5], "int32").tolist()
    [0, 2]
    """
    return jnp.asarray(x).astype(dtype)


@op
def saturate_cast(x: Any, dtype: Any) -> Array:
    """``x`` in another dtype, cut off at the least and greatest values that it holds.

    >>> saturate_cast([-5.0, 300.0], "uint8").tolist()
    [0, 255]
    """
    x, dtype = jnp.asarray(x), jnp.dtype(dtype)
    if dtype.kind == "b":
        return x != 0
    info: Any = jnp.iinfo if jnp.issubdtype(dtype, jnp.integer) else jnp.finfo
    low, high = info(dtype).min, info(dtype).max
    if jnp.issubdtype(x.dtype, jnp.integer):
        low, high = max(int(low), int(jnp.iinfo(x.dtype).min)), min(int(high), int(jnp.iinfo(x.dtype).max))
        return jnp.clip(x, low, high).astype(dtype)
    if jnp.issubdtype(dtype, jnp.integer):  # the nearest float may lie outside, so the ends are set after the cast
        return jnp.where(x >= high, high, jnp.where(x <= low, low, x.astype(dtype))).astype(dtype)
    return jnp.clip(
        x, max(float(low), float(jnp.finfo(x.dtype).min)), min(float(high), float(jnp.finfo(x.dtype).max))
    ).astype(dtype)


@registry.register("ops")
def convert_to_tensor(x: Any, dtype: Any = None, sparse: bool | None = None, ragged: bool | None = None) -> Any:
    """``x`` as a JAX array; a symbolic value stays one.

    Args:
        x: an array, a NumPy array, a ``Variable``, a number or a list of them.
        dtype: the dtype wanted; by default that of ``x``.
        sparse: must not be True.
        ragged: must not be True.
    """
    if sparse or ragged:
        raise ConfigError("Lamina's arrays are dense.\nWrite:  convert_to_tensor(x)")
    if is_symbolic(x):
        return x if dtype is None else cast(x, dtype)
    return jnp.asarray(x.value if isinstance(x, Variable) else x, dtype)


@needs_values
def convert_to_numpy(x: Any) -> np.ndarray:
    """A copy of ``x`` as a NumPy array."""
    return np.array(x)


@op
def scatter(indices: Any, values: Any, shape: Sequence[int]) -> Array:
    """Zeros with ``values`` added at ``indices``.

    Args:
        indices: shape ``(n, k)``, or ``(..., k)``: the first ``k`` coordinates of each value.
        values: shape ``(n, *shape[k:])``.
        shape: the shape of the result.

    >>> scatter([[0], [2], [2]], [1.0, 2.0, 3.0], (4,)).tolist()
    [1.0, 0.0, 5.0, 0.0]
    """
    values = jnp.asarray(values)
    return _at(jnp.zeros(shape, values.dtype), indices).add(values)


@op
def scatter_update(inputs: Any, indices: Any, updates: Any, reduction: str | None = None) -> Array:
    """``inputs`` with new values at ``indices``.

    Args:
        inputs: any shape.
        indices: shape ``(..., k)``: the first ``k`` coordinates of each update.
        updates: shape ``(..., *inputs.shape[k:])``.
        reduction: ``None`` puts the updates in; ``"add"``, ``"mul"``, ``"min"`` and ``"max"`` combine them with
            what is there.

    >>> scatter_update([1, 2, 3], [[1]], [9]).tolist()
    [1, 9, 3]
    """
    place = _at(jnp.asarray(inputs), indices)
    ways = {None: place.set, "add": place.add, "mul": place.multiply, "min": place.min, "max": place.max}
    if reduction not in ways:
        raise ConfigError(f"reduction is None, 'add', 'mul', 'min' or 'max'; received {reduction!r}")
    return ways[reduction](jnp.asarray(updates))


def _at(x: Array, indices: Any) -> Any:
    return x.at[tuple(jnp.moveaxis(jnp.asarray(indices), -1, 0))]


@op
def slice(inputs: Any, start_indices: Any, shape: Sequence[int]) -> Array:
    """The block of that shape that begins at ``start_indices``; the start may be computed.

    >>> slice(jnp.arange(9).reshape(3, 3), (1, 0), (2, 2)).tolist()
    [[3, 4], [6, 7]]
    """
    return jax.lax.dynamic_slice(jnp.asarray(inputs), tuple(start_indices), shape)


@op
def slice_update(inputs: Any, start_indices: Any, updates: Any) -> Array:
    """``inputs`` with the block that begins at ``start_indices`` replaced by ``updates``.

    >>> slice_update(jnp.zeros(4), (1,), jnp.ones(2)).tolist()
    [0.0, 1.0, 1.0, 0.0]
    """
    inputs = jnp.asarray(inputs)
    return jax.lax.dynamic_update_slice(inputs, jnp.asarray(updates, inputs.dtype), tuple(start_indices))


@op
def unstack(x: Any, num: int | None = None, axis: int = 0) -> list[Array]:
    """The slices along an axis, as a list; ``num``, if given, is how many there must be."""
    x = jnp.asarray(x)
    if num is not None and num != x.shape[axis]:
        raise ConfigError(f"unstack cannot give num={num} slices of shape {x.shape} along axis {axis}")
    allowance.spend("lm.ops.unstack", steps=x.shape[axis])
    return [jnp.take(x, index, axis) for index in range(x.shape[axis])]


@needs_values
def cond(pred: Any, true_fn: Callable[[], Any], false_fn: Callable[[], Any]) -> Any:
    """What ``true_fn()`` returns if ``pred`` is true, else what ``false_fn()`` returns; both in the same structure.

    >>> int(cond(jnp.array(3) > 2, lambda: 1, lambda: 0))
    1
    """
    return jax.lax.cond(jnp.asarray(pred).astype(bool), true_fn, false_fn)


@needs_values
def switch(index: Any, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """What branch number ``index`` returns for the operands; an index outside takes the first or last branch.

    >>> float(switch(1, [lambda x: x, lambda x: -x], 3.0))
    -3.0
    """
    return jax.lax.switch(jnp.asarray(index), branches, *operands)


@needs_values
def while_loop(
    cond: Callable[..., Any], body: Callable[..., Any], loop_vars: Any, maximum_iterations: int | None = None
) -> Any:
    """Run ``body`` while ``cond`` holds.

    Args:
        cond: ``(*loop_vars) -> bool``.
        body: ``(*loop_vars) -> loop_vars``, of the same shapes and dtypes.
        loop_vars: a tuple or list of the values to begin with, or one value.
        maximum_iterations: stop after so many, whatever ``cond`` says.

    >>> int(while_loop(lambda i: i < 10, lambda i: (i + 3,), (0,))[0])
    12
    """
    many = isinstance(loop_vars, list | tuple)
    start = tuple(loop_vars) if many else (loop_vars,)

    def test(carry: Any) -> Any:
        count, values = carry
        holds = jnp.asarray(cond(*values)).astype(bool)
        return holds if maximum_iterations is None else holds & (count < maximum_iterations)

    def step(carry: Any) -> Any:
        count, values = carry
        new = body(*values)
        return count + 1, tuple(new) if isinstance(new, list | tuple) else (new,)

    with looping():
        _, values = jax.lax.while_loop(test, step, (jnp.zeros((), jnp.int32), jax.tree.map(jnp.asarray, start)))
    return type(loop_vars)(values) if many else values[0]


@needs_values
def fori_loop(lower: Any, upper: Any, body_fun: Callable[[Any, Any], Any], init_val: Any) -> Any:
    """``init_val`` after ``value = body_fun(i, value)`` for each ``i`` from ``lower`` up to and without ``upper``.

    >>> int(fori_loop(0, 5, lambda i, total: total + i, 0))
    10
    """
    with looping():
        return jax.lax.fori_loop(lower, upper, body_fun, jax.tree.map(jnp.asarray, init_val))


@needs_values
def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int = 1,
) -> tuple[Any, Any]:
    """``carry, y = f(carry, x)`` for each slice ``x`` along the first axis of ``xs``.

    Args:
        f: ``(carry, x) -> (carry, y)``.
        init: the first carry.
        xs: an array, or a list, tuple or dictionary of arrays with first axes of the same length.
        length: the number of steps, where there is no ``xs``.
        reverse: begin at the end.
        unroll: how many steps are compiled into one.

    Returns:
        The last carry and the stacked ``y``.

    >>> total, sums = scan(lambda s, x: (s + x, s + x), 0, [1, 2, 3])
    >>> int(total), sums.tolist()
    (6, [1, 3, 6])
    """
    if xs is None and length is None:
        raise ConfigError("scan needs xs or length.\nWrite:  scan(f, init, length=steps)")
    xs = jnp.asarray(xs) if isinstance(xs, list) and not hasattr(xs[0], "shape") else xs
    return transforms.scan(f, init, xs, length, reverse=reverse, unroll=unroll)


@needs_values
def map(f: Callable[[Any], Any], xs: Any) -> Any:
    """``f`` of each slice along the first axis, one after the other; see :func:`vectorized_map` for all at once.

    >>> map(lambda x: x**2, jnp.arange(3)).tolist()
    [0, 1, 4]
    """
    return transforms.scan(lambda carry, x: (carry, f(x)), (), xs)[1]


@needs_values
def vectorized_map(function: Callable[[Any], Any], elements: Any) -> Any:
    """``function`` of each slice along the first axis, all at once.

    >>> vectorized_map(lambda x: x.sum(), jnp.ones((2, 3))).tolist()
    [3.0, 3.0]
    """
    return transforms.vmap(function)(elements)


@needs_values
def associative_scan(f: Callable[[Any, Any], Any], elems: Any, reverse: bool = False, axis: int = 0) -> Any:
    """Running results of an associative function, as a cumulative sum is of addition; in logarithmic depth.

    >>> associative_scan(lambda a, b: a * b, jnp.array([1, 2, 3, 4])).tolist()
    [1, 2, 6, 24]
    """
    return jax.lax.associative_scan(f, jax.tree.map(jnp.asarray, elems), reverse=reverse, axis=axis)


def custom_gradient(f: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator for ``f(*args) -> value, gradient`` where ``gradient(upstream)`` gives one gradient per argument.

    >>> @custom_gradient
    ... def clipped(x):
    ...     return x, lambda upstream: jnp.clip(upstream, -1, 1)
    >>> float(jax.grad(lambda x: 5 * clipped(x))(2.0))
    1.0
    """
    return jax.custom_gradient(f)


registry.register("ops")(custom_gradient)

__all__ = public(__name__)
