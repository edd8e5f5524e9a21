"""Convolutions whose results are normalized over the batch, natively while the results are in the cache.

Mean and variance of the results are found as they are made. On the way back, the gradients of some pictures' results are
worked out, and those of the input and of the kernel from them at once, so that they are never written.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core.notes import Notes
from lamina.core.typing import Array
from lamina.kernels.batch_normalization_operations import BATCH_MOMENTS, BATCH_NORM, BATCH_NORM_GRADIENT
from lamina.kernels.convolution_operations import CONVOLUTION, KERNEL, OUTER, Pads, pads_before, steps_of_one
from lamina.kernels.normalization import sized
from lamina.kernels.operation import Operation, call
from lamina.kernels.slopes import undo

#: with fewer channels the native form, which moves as many at once, does not pay; with fewer pictures threads lie idle
CHANNELS, PICTURES = 16, 8


class Convolved(NamedTuple):
    """What was convolved: picture, kernel and bias; and how."""

    arrays: tuple[Array, Array, Array]
    settings: dict[str, Any]


#: what arrays are convolutions of, as long as a program is traced
_convolved = Notes()


def note(y: Array, arrays: tuple[Array, Array, Array], slope: float, geometry: dict[str, Any]) -> Array:
    """``y``, the convolution of ``arrays``; where it can be one with a normalization, :func:`convolved` will tell."""
    x = arrays[0]
    plain = x.ndim == 4 and {*geometry["strides"], *geometry["dilation"], geometry["groups"]} == {1} and slope == 1
    settings = {name: geometry[name] for name in ("pads", "looped")}
    if isinstance(y, jax.core.Tracer) and plain and len(x) >= PICTURES and _supports(*arrays, **settings):
        _convolved.write(y, Convolved(arrays, settings))
    return y


def convolved(y: Array) -> Convolved | None:
    """What ``y`` was noted to be the convolution of."""
    found: Convolved | None = _convolved.read(y)
    return found


def _supports(x: Any, kernel: Any, *others: Any, pads: Pads, **settings: Any) -> bool:
    lengths = [n + sum(pair) - 2 for n, pair in zip(x.shape[1:3], pads, strict=True)]
    single = all(array.dtype == "float32" for array in (x, kernel, *others))
    large = kernel.shape[:2] == (3, 3) and min(*kernel.shape[2:], CHANNELS) == CHANNELS and min(lengths) > 2
    return single and large and x.size > 0 and min(map(min, pads)) >= 0


def _plain(x: Array, kernel: Array, bias: Array, *, pads: Pads, looped: bool) -> Array:
    y: Array = CONVOLUTION(x, kernel, bias, slope=1.0, **steps_of_one(pads, looped))
    return y


def _gradients_of_plain(
    arrays: Sequence[Array], y: Array, gradient: Array, wanted: Sequence[bool], *, pads: Pads, looped: bool
) -> list[Array | None]:
    assert CONVOLUTION.backward is not None
    return list(CONVOLUTION.backward(arrays, [y], [gradient], wanted, slope=1.0, **steps_of_one(pads, looped)))


def _moments_portable(*arrays: Array, **settings: Any) -> tuple[Array, Array, Array]:
    y = _plain(*arrays, **settings)
    return y, *BATCH_MOMENTS(y)


def _moments_native(x: Array, kernel: Array, bias: Array, *, pads: Pads, looped: bool) -> Any:
    filters, lengths = kernel.shape[-1], [n + sum(pair) - 2 for n, pair in zip(x.shape[1:3], pads, strict=True)]
    shapes = [jax.ShapeDtypeStruct(shape, x.dtype) for shape in ((len(x), *lengths, filters), (filters,), (filters,))]
    return call("convolution_moments", shapes, x, kernel, bias, pads=pads_before(pads))


def _moments_backward(
    primals: Any, results: Any, gradients: Any, wanted: Any, **settings: Any
) -> Sequence[Array | None]:
    y, given = results[0], gradients[0]
    if gradients[1] is not None or gradients[2] is not None:
        of_moments = [jnp.zeros_like(r) if g is None else g for r, g in zip(results[1:], gradients[1:], strict=True)]
        assert BATCH_MOMENTS.backward is not None
        (through,) = BATCH_MOMENTS.backward((y,), results[1:], of_moments, (True,))
        given = through if given is None else given + through
    return _gradients_of_plain(primals, y, given, wanted, **settings)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _known(settings: tuple[tuple[str, Any], ...], y: Array, x: Array, kernel: Array, bias: Array) -> Array:
    """``y``, which is the convolution of the others, and has the derivatives of that."""
    return y


@_known.defjvp
def _known_jvp(settings: Any, primals: Any, tangents: Any) -> tuple[Array, Array]:
    moved = jax.jvp(functools.partial(_plain, **dict(settings)), primals[1:], tangents[1:])[1]
    return primals[0], moved


def _portable(
    x: Array, kernel: Array, bias: Array, y: Array, *others: Array, epsilon: float, slope: float, **settings: Any
) -> Array:
    y = _known(tuple(settings.items()), y, x, kernel, bias)
    result: Array = BATCH_NORM.portable(y, *others, epsilon=epsilon, slope=slope)
    return result


def _native(
    x: Array, kernel: Array, bias: Array, y: Array, *others: Array, epsilon: float, slope: float, **settings: Any
) -> Any:
    assert BATCH_NORM.native is not None
    return BATCH_NORM.native(y, *others, epsilon=epsilon, slope=slope)


def _backward(
    primals: Any, results: Any, gradients: Any, wanted: Any, *, epsilon: float, slope: float, **settings: Any
) -> list[Array | None]:
    (x, kernel, bias, y, gamma, beta, mean, variance, more), (z,), (given,) = primals, results, gradients
    if more.size:  # whose gradient is that in front of the activation
        given, slope = undo(given, z, slope), 1.0
    normal = {"epsilon": epsilon, "slope": slope}
    found: list[Array | None] = [None] * 3
    others = y, gamma, beta, mean, variance, given
    if wanted[0] and wanted[1]:
        *found, of_gamma, of_beta = NORMALIZED_CONVOLUTION_GRADIENT(x, kernel, *others, **normal, **settings)
        found[2] = found[2] if bias.size else bias
    else:
        of_y, of_gamma, of_beta = BATCH_NORM_GRADIENT(*others, **normal)
        if any(wanted[:3]):
            found = _gradients_of_plain(primals[:3], y, of_y, wanted[:3], **settings)
    of_columns = sized((gamma, beta), (of_gamma, of_beta))
    return [*found, None, *of_columns, None, None, given if more.size else more]


def _gradient_portable(
    x: Array, kernel: Array, y: Array, *others: Array, epsilon: float, slope: float, pads: Pads, looped: bool
) -> tuple[Array, ...]:
    of_y, *of_columns = BATCH_NORM_GRADIENT(y, *others, epsilon=epsilon, slope=slope)
    nothing, geometry = jnp.zeros(0, x.dtype), steps_of_one(pads, looped)
    of_x = OUTER(of_y, nothing, kernel, nothing, lengths=x.shape[1:3], undone=1.0, slope=1.0, **geometry)
    return of_x, *KERNEL(x, of_y, nothing, size=(3, 3), undone=1.0, **geometry), *of_columns


def _gradient_native(
    x: Array, kernel: Array, *others: Array, epsilon: float, slope: float, pads: Pads, looped: bool
) -> Any:
    columns = kernel.shape[-1:]
    shapes = [jax.ShapeDtypeStruct(shape, x.dtype) for shape in (x.shape, kernel.shape, columns, columns, columns)]
    settings: dict[str, Any] = {"epsilon": np.float32(epsilon), "slope": np.float32(slope)}
    return call("normalized_convolution_gradient", shapes, x, kernel, *others, pads=pads_before(pads), **settings)


CONVOLUTION_MOMENTS = Operation(
    "convolution_moments",
    _moments_portable,
    multiple=True,
    native=_moments_native,
    targets=["convolution_moments"],
    supports=_supports,
    backward=_moments_backward,
    sparse=True,
)
NORMALIZED_CONVOLUTION = Operation(
    "normalized_convolution",
    _portable,
    native=_native,
    targets=["batch_norm"],
    supports=_supports,
    backward=_backward,
)
NORMALIZED_CONVOLUTION_GRADIENT = Operation(
    "normalized_convolution_gradient",
    _gradient_portable,
    multiple=True,
    native=_gradient_native,
    targets=["normalized_convolution_gradient"],
    supports=_supports,
)
