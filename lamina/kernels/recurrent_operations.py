"""What recurrent networks over whole sequences are made of: the loop over all steps, and the one back for gradients.

The input of many steps is projected by one product; only the product with the state is left to the loop.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from lamina.core.typing import Array
from lamina.kernels.embedding import EMBEDDING_GRADIENT
from lamina.kernels.operation import Operation, call, of_dtype
from lamina.kernels.recurrent_gates import States, gru_gates, gru_reset_before_step, lstm_gates, simple_rnn_gates

Arrays = tuple[Array, ...]

#: with more weights for each step of each example, native kernels are not faster
WEIGHTS_A_STEP = 2**14
#: the numbers in the widest vector of any processor
WIDEST_VECTOR = 16
#: from so many units, and so many products of two numbers, on, tiles of bfloat16 are faster than the same numbers in float32
MANY_UNITS, LARGE = 16, 1 << 20


class _Cell(NamedTuple):
    step: Callable[[Array, Array, States], States]
    #: what the gradients need, from the projected input, the product of the state and the next states: the activated
    #: gates, and one array more
    keep: Callable[[Array, Array, States], Arrays]
    #: the gradients of the projected input, of the product of the state, and of the states before but for that product,
    #: from what was kept, the states before, and the gradients of the next states
    gradients: Callable[[Array, Array, States, States], tuple[Array, Array, States]]


def _simple_rnn_keep(x: Array, inner: Array, states: States) -> Arrays:
    return jnp.tanh(x + inner), x[:, :0]


def _simple_rnn_gradients(gates: Array, kept: Array, before: States, gradients: States) -> tuple[Array, Array, States]:
    x = gradients[0] * (1 - gates * gates)
    return x, x, (jnp.zeros_like(x),)


def _lstm_keep(x: Array, inner: Array, states: States) -> Arrays:
    i, f, g, o = jnp.split(x + inner, 4, axis=-1)
    return jnp.concatenate([jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)], -1), states[1]


def _lstm_gradients(gates: Array, kept: Array, before: States, gradients: States) -> tuple[Array, Array, States]:
    (i, f, g, o), shown, h = jnp.split(gates, 4, axis=-1), jnp.tanh(kept), gradients[0]
    c = gradients[1] + h * o * (1 - shown * shown)
    parts = [c * g * i * (1 - i), c * before[1] * f * (1 - f), c * i * (1 - g * g), h * shown * o * (1 - o)]
    x = jnp.concatenate(parts, -1)
    return x, x, (jnp.zeros_like(h), c * f)


def _gru_keep(x: Array, inner: Array, states: States) -> Arrays:
    (x_z, x_r, x_h), (h_z, h_r, h_h) = jnp.split(x, 3, axis=-1), jnp.split(inner, 3, axis=-1)
    z, r = jax.nn.sigmoid(x_z + h_z), jax.nn.sigmoid(x_r + h_r)
    return jnp.concatenate([z, r, jnp.tanh(x_h + r * h_h)], -1), h_h


def _gru_gradients(gates: Array, kept: Array, before: States, gradients: States) -> tuple[Array, Array, States]:
    (z, r, candidate), (h,) = jnp.split(gates, 3, axis=-1), gradients
    of_candidate = h * (1 - z) * (1 - candidate * candidate)
    both = [h * (before[0] - candidate) * z * (1 - z), of_candidate * kept * r * (1 - r)]
    return jnp.concatenate([*both, of_candidate], -1), jnp.concatenate([*both, of_candidate * r], -1), (h * z,)


_CELLS = {
    "simple_rnn": _Cell(simple_rnn_gates, _simple_rnn_keep, _simple_rnn_gradients),
    "lstm": _Cell(lstm_gates, _lstm_keep, _lstm_gradients),
    "gru": _Cell(gru_gates, _gru_keep, _gru_gradients),
}


def _steps_first(sequences: Array, go_backwards: bool = False) -> Array:
    """``(batch, steps, ...)`` as ``(steps, batch, ...)``, in the order in which the steps are run."""
    sequences = jnp.swapaxes(sequences, 0, 1)
    return sequences[::-1] if go_backwards else sequences


def _batch_first(sequences: Array, go_backwards: bool = False) -> Array:
    return jnp.swapaxes(sequences[::-1] if go_backwards else sequences, 0, 1)


def _inputs(x: Array, numbers: Array) -> Array:
    """The sequences: ``x`` itself, or the rows of it that ``numbers`` pick."""
    return jnp.take(x, numbers, axis=0, mode="fill") if x.ndim == 2 else x


def loop(
    x: Array,
    numbers: Array,
    kernel: Array,
    bias: Array,
    recurrent_kernel: Array,
    mask: Array,
    *states: Array,
    cell: str,
    go_backwards: bool,
    return_sequences: bool = True,
    keeps: bool = False,
    unroll: bool = False,
) -> Arrays:
    """All steps, in portable form.

    Args:
        x: sequences, ``(batch, steps, features)``; or a table, ``(rows, features)``.
        numbers: which rows of a table the sequences are made of, ``(batch, steps)``; else empty.
        kernel: ``(features, gates * units)``.
        bias: empty if there is none; ``(2, gates * units)`` for input and state of a GRU.
        recurrent_kernel: ``(units, gates * units)``.
        mask: ``(batch, steps)``, or empty if there is none.
        states: one or two, ``(batch, units)``.
        cell: ``"simple_rnn"``, ``"lstm"``, ``"gru"`` or ``"gru_reset_before"``.
        go_backwards: whether to start at the last step; the outputs come in that order.
        return_sequences: whether the outputs of all steps are wanted.
        keeps: whether what the gradients need is wanted.
        unroll: whether to write the loop out, step after step.

    Returns:
        The outputs, ``(batch, steps, units)``, where they are wanted; the last states; and where it is wanted what
        the gradients need, ``(steps, batch, gates * units)`` and ``(steps, batch, units)``.
    """

    def step(old: States, inputs: tuple[Array, Array | None]) -> tuple[States, Arrays]:
        x, keep = inputs
        new: States
        if cell == "gru_reset_before":
            inner, new = x, (gru_reset_before_step(x, old[0], recurrent_kernel),)
        else:
            inner = jnp.matmul(old[0], recurrent_kernel)
            inner = inner + bias[1] if bias.ndim == 2 else inner
            new = _CELLS[cell].step(x, inner, old)
        if keep is not None:
            new = tuple(jnp.where(keep[:, None], n, o) for n, o in zip(new, old, strict=True))
        return new, new[: int(return_sequences)] + (_CELLS[cell].keep(x, inner, new) if keeps else ())

    projected = jnp.matmul(_steps_first(_inputs(x, numbers), go_backwards), kernel)
    if bias.size:
        projected = projected + (bias[0] if bias.ndim == 2 else bias)
    keep = _steps_first(mask, go_backwards) if mask.size else None
    states, shown = lax.scan(step, states, (projected, keep), unroll=unroll)
    outputs, kept = shown[: int(return_sequences)], shown[int(return_sequences) :]
    return (*map(_batch_first, outputs), *states, *kept)


def _gradients(
    x: Array,
    numbers: Array,
    kernel: Array,
    bias: Array,
    recurrent_kernel: Array,
    mask: Array,
    outputs: Array,
    gates: Array,
    kept: Array,
    outputs_gradient: Array,
    *states: Array,
    cell: str,
    go_backwards: bool,
    wants_input: bool,
) -> Arrays:
    """The gradients of input, kernel, bias, recurrent kernel and first states, in portable form.

    It is called with the arguments of :func:`loop`, what that gave, and the gradients of it. ``outputs_gradient`` is
    empty if no outputs were wanted; ``states`` are the first states and the gradients of the last ones. Without
    ``wants_input`` the gradient of the input is empty.
    """
    first, last = states[: len(states) // 2], states[len(states) // 2 :]
    after = (_steps_first(outputs), kept)[: len(first)]
    before = tuple(jnp.concatenate([one[None], rest[:-1]]) for one, rest in zip(first, after, strict=True))

    def step(gradients: States, inputs: Any) -> tuple[States, Arrays]:
        gates, kept, before, keep, shown = inputs
        if shown is not None:
            gradients = (gradients[0] + shown, *gradients[1:])
        x, inner, found = _CELLS[cell].gradients(gates, kept, before, gradients)
        if keep is not None:
            keep = keep[:, None]
            x, inner = jnp.where(keep, x, 0), jnp.where(keep, inner, 0)
            found = tuple(jnp.where(keep, f, g) for f, g in zip(found, gradients, strict=True))
        return (found[0] + jnp.matmul(inner, recurrent_kernel.T), *found[1:]), (x, inner)

    keep = _steps_first(mask, go_backwards) if mask.size else None
    shown = _steps_first(outputs_gradient) if outputs_gradient.size else None
    given = (gates, kept, before, keep, shown)
    gradients, (projected, inner) = lax.scan(step, last, given, reverse=True)

    inputs, of_table = jax.vjp(functools.partial(_inputs, numbers=numbers), x)
    of_input = jnp.zeros(0, x.dtype)
    if wants_input:
        (of_input,) = of_table(_batch_first(jnp.matmul(projected, kernel.T), go_backwards))
    of_kernel = jnp.einsum("tbf,tbg->fg", _steps_first(inputs, go_backwards), projected)
    of_recurrent_kernel = jnp.einsum("tbu,tbg->ug", before[0], inner)
    if bias.size:
        of_bias = jnp.sum(projected, (0, 1))
        bias = jnp.stack([of_bias, jnp.sum(inner, (0, 1))]) if bias.ndim == 2 else of_bias
    return (of_input, of_kernel, bias, of_recurrent_kernel, *gradients)


def _native_supports(
    x: Any, numbers: Any, kernel: Any, bias: Any, recurrent_kernel: Any, *arrays: Any, **settings: Any
) -> bool:
    # the kernels are laid out anew first, which does not pay for few steps
    (batch, steps), weights = _places(x, numbers), kernel.size + recurrent_kernel.size
    pays = steps > 1 and 0 < weights <= WEIGHTS_A_STEP * batch * steps
    return (
        pays
        and x.size > 0
        and numbers.dtype == "int32"
        and all(a.dtype in ("float32", "bool") for a in (x, kernel, bias, recurrent_kernel, *arrays))
    )


def _places(x: Any, numbers: Any) -> tuple[int, int]:
    """How many sequences there are, and how many steps they have."""
    batch, steps = (numbers if x.ndim == 2 else x).shape[:2]
    return batch, steps


def _native_loop(
    *arrays: Array, cell: str, go_backwards: bool, return_sequences: bool = True, keeps: bool = False
) -> Arrays:
    x, numbers, kernel, states = arrays[0], arrays[1], arrays[2], arrays[6:]
    (batch, steps), units = _places(x, numbers), states[0].shape[-1]
    shapes = [
        (batch, steps, units) if return_sequences else (0,),
        *(state.shape for state in _two(states)),
        (steps, batch, kernel.shape[-1]) if keeps else (0,),
        (steps, batch, 0 if cell == "simple_rnn" else units) if keeps else (0,),
    ]
    given = (*arrays[:6], *_two(states))
    if x.dtype == jnp.bfloat16:
        given = (_inputs(x, numbers), *given[2:])
    else:
        widest = -(-units // WIDEST_VECTOR) * WIDEST_VECTOR
        # to work in: projections of rows that are picked more than once
        shapes.append((batch * steps // 2, kernel.shape[-1] // units * widest) if x.ndim == 2 else (0,))
    target = of_dtype(f"{cell}_forward", x)
    outputs, h, c, *kept = call(target, _like(x, shapes), *given, go_backwards=go_backwards)
    return ((outputs,) if return_sequences else ()) + (h, c)[: len(states)] + (tuple(kept[:2]) if keeps else ())


def _native_gradients(
    x: Array,
    numbers: Array,
    kernel: Array,
    bias: Array,
    recurrent_kernel: Array,
    mask: Array,
    outputs: Array,
    gates: Array,
    kept: Array,
    outputs_gradient: Array,
    *states: Array,
    cell: str,
    go_backwards: bool,
    wants_input: bool,
) -> Arrays:
    count, target = len(states) // 2, of_dtype(f"{cell}_backward", x)
    first, last = _two(states[:count]), _two(states[count:])
    given = (kernel, recurrent_kernel, mask, *first, outputs, gates, kept, outputs_gradient, *last)
    shapes = [kernel.shape, bias.shape, recurrent_kernel.shape, *(state.shape for state in first)]
    if x.dtype == jnp.bfloat16:
        rows = _inputs(x, numbers)
        results = _like(x, [rows.shape if wants_input else (0,), *shapes])
        of_input, *found = call(target, results, rows, *given, go_backwards=go_backwards)
        if wants_input and x.ndim == 2:
            of_input = EMBEDDING_GRADIENT(numbers, of_input, rows=len(x))
        return (of_input, *found[: 3 + count])
    results = _like(x, [gates.shape, kept.shape, x.shape if wants_input else (0,), *shapes])
    # gradients take the place of the gates and of what else was kept
    in_place = {8: 0, 9: 1}
    found = call(target, results, x, numbers, *given, in_place=in_place, go_backwards=go_backwards)
    return tuple(found[2 : 6 + count])


def _half_supports(
    x: Any, numbers: Any, kernel: Any, bias: Any, recurrent_kernel: Any, *arrays: Any, **settings: Any
) -> bool:
    (batch, steps), weights, units = _places(x, numbers), kernel.size + recurrent_kernel.size, recurrent_kernel.shape[0]
    return units >= MANY_UNITS and batch * steps * weights >= LARGE


def _like(x: Array, shapes: Sequence[Any]) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct(shape, x.dtype) for shape in shapes]


def _two(states: Sequence[Array]) -> Arrays:
    """The states as the kernels take them: always two, the second one empty where there is none."""
    return (*states, jnp.zeros(0, states[0].dtype))[:2]


def _forward(*arrays: Any, return_sequences: bool, **settings: Any) -> tuple[Arrays, Arrays]:
    outputs, *states, gates, kept = FORWARD(*arrays, **settings)
    return (outputs, *states) if return_sequences else tuple(states), (outputs, gates, kept)


def _backward(
    primals: Sequence[Any],
    kept: Arrays,
    gradients: Sequence[Any],
    wanted: tuple[bool, ...],
    *,
    return_sequences: bool,
    **settings: Any,
) -> list[Array | None]:
    of_outputs, *of_states = gradients if return_sequences else (jnp.zeros(0, gradients[0].dtype), *gradients)
    arrays, states = primals[:6], primals[6:]
    found = BACKWARD(*arrays, *kept, of_outputs, *states, *of_states, wants_input=wanted[0], **settings)
    of_input, *rest = found
    return [of_input, None, *rest[:3], None, *rest[3:]]


_NATIVE: dict[str, Any] = {
    "multiple": True,
    "targets": [f"{cell}_{way}" for cell in _CELLS for way in ("forward", "backward")],
    "supports": _native_supports,
    "half_targets": [f"half_{cell}_{way}" for cell in _CELLS for way in ("forward", "backward")],
    "half_supports": _half_supports,
}
FORWARD = Operation(
    "recurrence_forward",
    functools.partial(loop, keeps=True),
    native=functools.partial(_native_loop, keeps=True),
    half=functools.partial(_native_loop, keeps=True),
    **_NATIVE,
)
BACKWARD = Operation("recurrence_backward", _gradients, native=_native_gradients, half=_native_gradients, **_NATIVE)
RECURRENCE = Operation(
    "recurrence", loop, native=_native_loop, half=_native_loop, forward=_forward, backward=_backward, **_NATIVE
)
