"""The functions of ``keras.ops.math``: segments, rankings, special functions, Fourier transforms."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import special

from lamina.core.errors import ConfigError, ShapeError
from lamina.core.state import Array
from lamina.ops.dispatch import like, op, public

erf = like(special.erf, "erf(x)")
erfc = like(special.erfc, "erfc(x)")
erfinv = like(special.erfinv, "erfinv(x)")
logsumexp = like(jax.nn.logsumexp, "logsumexp(x, axis=None, keepdims=False)")


@op
def rsqrt(x: Any) -> Array:
    r""":math:`1 / \sqrt{x}`."""
    return jax.lax.rsqrt(x * 1.0 if jnp.issubdtype(jnp.result_type(x), jnp.integer) else jnp.asarray(x))


@op
def logdet(x: Any) -> Array:
    """The logarithm of the absolute value of the determinant."""
    return jnp.linalg.slogdet(x)[1]


@op
def segment_sum(data: Any, segment_ids: Any, num_segments: int | None = None, sorted: bool = False) -> Array:
    """The sum of the rows of each segment.

    Args:
        data: shape ``(n, ...)``.
        segment_ids: the segment of each row, whole numbers from 0 on, shape ``(n,)``.
        num_segments: the number of segments; needed in a compiled function and in a network.
        sorted: whether ``segment_ids`` never decreases, which is faster.

    >>> segment_sum([1.0, 2.0, 3.0], [0, 0, 1]).tolist()
    [3.0, 3.0]
    """
    return _segments(jax.ops.segment_sum, data, segment_ids, num_segments, sorted)


@op
def segment_max(data: Any, segment_ids: Any, num_segments: int | None = None, sorted: bool = False) -> Array:
    """The greatest of the rows of each segment; the arguments are those of :func:`segment_sum`."""
    return _segments(jax.ops.segment_max, data, segment_ids, num_segments, sorted)


@op
def segment_min(data: Any, segment_ids: Any, num_segments: int | None = None, sorted: bool = False) -> Array:
    """The least of the rows of each segment; the arguments are those of :func:`segment_sum`."""
    return _segments(jax.ops.segment_min, data, segment_ids, num_segments, sorted)


@op
def segment_prod(data: Any, segment_ids: Any, num_segments: int | None = None, sorted: bool = False) -> Array:
    """The product of the rows of each segment; the arguments are those of :func:`segment_sum`."""
    return _segments(jax.ops.segment_prod, data, segment_ids, num_segments, sorted)


def _segments(reduce: Any, data: Any, ids: Any, number: int | None, ordered: bool) -> Array:
    ids = jnp.asarray(ids)
    if number is None:
        if isinstance(ids, jax.core.Tracer):
            raise ShapeError(
                "the number of segments follows from the data, which a compiled function does not have.\n"
                "Write:  num_segments=number"
            )
        number = int(np.max(ids, initial=-1)) + 1
    return reduce(jnp.asarray(data), ids, number, indices_are_sorted=ordered)


@op
def top_k(x: Any, k: int, sorted: bool = True) -> tuple[Array, Array]:
    """The ``k`` greatest entries along the last axis, greatest first, and their indices.

    >>> [a.tolist() for a in top_k([1, 5, 3], 2)]
    [[5, 3], [1, 2]]
    """
    values, indices = jax.lax.top_k(jnp.asarray(x), k)
    return values, indices


@op
def in_top_k(targets: Any, predictions: Any, k: int) -> Array:
    """Whether the true class is among the ``k`` of the greatest predictions; ties count as among them.

    Args:
        targets: whole numbers, shape ``(batch,)``.
        predictions: shape ``(batch, classes)``.
        k: how many.
    """
    targets, predictions = jnp.asarray(targets), jnp.asarray(predictions)
    own = jnp.take_along_axis(predictions, targets[..., None], axis=-1)
    greater = jnp.sum(predictions > jnp.where(jnp.isnan(own), -jnp.inf, own), axis=-1)
    return greater < k


@op
def cdist(x: Any, y: Any) -> Array:
    """The Euclidean distance of each row of ``x`` to each row of ``y``.

    Args:
        x: shape ``(..., m, d)``.
        y: shape ``(..., n, d)``.

    Returns:
        Shape ``(..., m, n)``.
    """
    x, y = jnp.asarray(x), jnp.asarray(y)
    if x.ndim < 2 or y.ndim < 2 or x.shape[-1] != y.shape[-1]:
        raise ShapeError(f"cdist expects shapes (..., m, d) and (..., n, d); received {x.shape} and {y.shape}")
    square = jnp.sum(jnp.square(x[..., :, None, :] - y[..., None, :, :]), axis=-1)
    # the root of a constant where points coincide: its gradient there is zero, not NaN
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


@op
def view_as_complex(x: Any) -> Array:
    """Complex numbers from pairs of a real and an imaginary part, shape ``(..., 2)`` to ``(...)``."""
    x = jnp.asarray(x)
    if not x.ndim or x.shape[-1] != 2:
        raise ShapeError(f"view_as_complex expects a last axis of length 2; received shape {x.shape}")
    return jax.lax.complex(x[..., 0], x[..., 1])


@op
def view_as_real(x: Any) -> Array:
    """Pairs of the real and the imaginary part, shape ``(...)`` to ``(..., 2)``."""
    x = jnp.asarray(x)
    return jnp.stack([jnp.real(x), jnp.imag(x)], -1)


@op
def fft(x: Any) -> tuple[Array, Array]:
    """The Fourier transform along the last axis, of a pair (real part, imaginary part) to such a pair."""
    return _parts(jnp.fft.fft(_complex(x)))


@op
def fft2(x: Any) -> tuple[Array, Array]:
    """The Fourier transform along the last two axes, of a pair (real part, imaginary part) to such a pair."""
    return _parts(jnp.fft.fft2(_complex(x)))


@op
def ifft2(x: Any) -> tuple[Array, Array]:
    """The opposite of :func:`fft2`."""
    return _parts(jnp.fft.ifft2(_complex(x)))


@op
def rfft(x: Any, fft_length: int | None = None) -> tuple[Array, Array]:
    """The Fourier transform of real numbers along the last axis, as a pair (real part, imaginary part).

    Args:
        x: shape ``(..., n)``.
        fft_length: cut or fill with zeros to this length first.

    Returns:
        Two arrays of shape ``(..., fft_length // 2 + 1)``.
    """
    return _parts(jnp.fft.rfft(jnp.asarray(x), fft_length))


@op
def irfft(x: Any, fft_length: int | None = None) -> Array:
    """The opposite of :func:`rfft`; ``fft_length`` is the length of the result, even by default."""
    return jnp.fft.irfft(_complex(x), fft_length)


def _complex(x: Any) -> Array:
    if len(x) != 2 or x[0].shape != x[1].shape or not jnp.issubdtype(x[0].dtype, jnp.floating):
        raise ShapeError("a Fourier transform expects a pair (real part, imaginary part) of floats of the same shape")
    return jax.lax.complex(x[0], x[1])


def _parts(x: Array) -> tuple[Array, Array]:
    return jnp.real(x), jnp.imag(x)


@op
def extract_sequences(x: Any, sequence_length: int, sequence_stride: int) -> Array:
    """All windows of a length along the last axis, each ``sequence_stride`` after the one before.

    Args:
        x: shape ``(..., n)``.
        sequence_length: the length of a window.
        sequence_stride: the step.

    Returns:
        Shape ``(..., windows, sequence_length)``.

    >>> extract_sequences([1, 2, 3, 4, 5], 3, 2).tolist()
    [[1, 2, 3], [3, 4, 5]]
    """
    x = jnp.asarray(x)
    starts = np.arange(0, x.shape[-1] - sequence_length + 1, sequence_stride)
    return x[..., starts[:, None] + np.arange(sequence_length)]


@op
def stft(
    x: Any, sequence_length: int, sequence_stride: int, fft_length: int, window: Any = "hann", center: bool = True
) -> tuple[Array, Array]:
    """The short-time Fourier transform: that of each window of a signal.

    Args:
        x: real numbers, shape ``(..., n)``.
        sequence_length: the length of a window.
        sequence_stride: the step from one to the next.
        fft_length: windows are filled with zeros on both sides to this length.
        window: ``"hann"``, ``"hamming"``, ``sequence_length`` numbers, or ``None``; what windows are multiplied by.
        center: mirror the signal at its ends, so that the first window is centred at the first sample.

    Returns:
        Real and imaginary parts, each of shape ``(..., windows, fft_length // 2 + 1)``.
    """
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ConfigError(f"stft expects floats; received {x.dtype.name}")
    weights = _window(window, sequence_length, fft_length, x.dtype)
    if center:
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(fft_length // 2, fft_length // 2)], "reflect")
    return _parts(jnp.fft.rfft(extract_sequences(x, fft_length, sequence_stride) * weights))


@op
def istft(
    x: Any,
    sequence_length: int,
    sequence_stride: int,
    fft_length: int,
    length: int | None = None,
    window: Any = "hann",
    center: bool = True,
) -> Array:
    """The opposite of :func:`stft`, with the same arguments.

    The windows overlap and are averaged with their squared weights, which gives back the signal where these are not
    all zero.

    Args:
        x: a pair (real part, imaginary part), each of shape ``(..., windows, fft_length // 2 + 1)``.
        sequence_length: the length of a window.
        sequence_stride: the step from one to the next.
        fft_length: the length to which windows were filled.
        length: the length of the signal, if the ends are to be cut there.
        window: as in :func:`stft`.
        center: as in :func:`stft`.
    """
    weights = _window(window, sequence_length, fft_length, x[0].dtype)
    frames = jnp.fft.irfft(_complex(x), fft_length) * weights
    count = frames.shape[-2]
    total = fft_length + sequence_stride * (count - 1)
    places = (np.arange(count) * sequence_stride)[:, None] + np.arange(fft_length)
    signal = jnp.zeros((*frames.shape[:-2], total), frames.dtype).at[..., places].add(frames)
    norm = jnp.zeros(total, frames.dtype).at[places].add(jnp.broadcast_to(weights**2, places.shape))
    signal = jnp.where(norm > 1e-10, signal / jnp.where(norm > 1e-10, norm, 1), signal)
    start = fft_length // 2 if center else 0
    end = start + length if length is not None else total - start
    return signal[..., start:end]


def _window(window: Any, length: int, fft_length: int, dtype: Any) -> Array:
    """The weights of a window, with zeros on both sides up to ``fft_length``."""
    if fft_length < length:
        raise ConfigError(f"fft_length={fft_length} must be at least sequence_length={length}")
    if window is None:
        return jnp.ones(fft_length, dtype)
    if isinstance(window, str):
        shares = {"hann": 0.5, "hamming": 0.54}
        if window not in shares:
            raise ConfigError(f"window is 'hann', 'hamming', an array or None; received {window!r}")
        turns = np.cos(2 * np.pi * np.arange(length) / length)
        window = shares[window] - (1 - shares[window]) * turns
    weights = jnp.asarray(window, dtype)
    if weights.shape != (length,):
        raise ShapeError(f"window must have shape ({length},), the sequence_length; received {weights.shape}")
    left = (fft_length - length) // 2
    return jnp.pad(weights, (left, fft_length - length - left))


__all__ = public(__name__)
