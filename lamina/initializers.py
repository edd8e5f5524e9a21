r"""Initializers: how weights start.

Each is called as ``initializer(shape, dtype, key)``. A layer passes the key, which depends on the seed of the process
and the path of the weight; an initializer made with ``seed=`` draws the same values for every weight of a shape.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core import random
from lamina.core.config import config
from lamina.core.draws import standard
from lamina.core.errors import ConfigError, ShapeError
from lamina.core.keys import key_of
from lamina.core.registry import Configurable, getter, register
from lamina.core.state import Array, on_device

#: the standard deviation of a standard normal distribution that is cut off at -2 and 2
_TRUNCATED_STDDEV = 0.87962566103423978


def _truncated_normal(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    return jax.random.truncated_normal(key, -2.0, 2.0, shape, dtype)


class Initializer(Configurable):
    """The base of all initializers. One of your own defines ``__call__(self, shape, dtype=None, key=None)``."""

    def __call__(self, shape: Sequence[int], dtype: Any = None, key: Array | None = None) -> Array:
        """The first value of a weight.

        Args:
            shape: the shape of the weight.
            dtype: its dtype; that of the process's variables if none is given.
            key: where random numbers come from; a new key if none is given.
        """
        raise NotImplementedError(f"{type(self).__name__} has no __call__(self, shape, dtype=None, key=None)")


def _dtype(dtype: Any) -> Any:
    return jnp.dtype(dtype or config.dtype_policy.variable_dtype)


@register("initializers", "zero")
class Zeros(Initializer):
    """All zeros.

    >>> Zeros()((2,)).tolist()
    [0.0, 0.0]
    """

    def __call__(self, shape: Sequence[int], dtype: Any = None, key: Array | None = None) -> Array:
        return on_device(np.zeros(tuple(shape), _dtype(dtype)))


@register("initializers", "one")
class Ones(Initializer):
    """All ones.

    >>> Ones()((2,)).tolist()
    [1.0, 1.0]
    """

    def __call__(self, shape: Sequence[int], dtype: Any = None, key: Array | None = None) -> Array:
        return on_device(np.ones(tuple(shape), _dtype(dtype)))


@register("initializers")
class Constant(Initializer):
    """The same value everywhere.

    Args:
        value: a number, or an array that broadcasts to the shape.

    >>> Constant(3.0)((2,)).tolist()
    [3.0, 3.0]
    """

    def __init__(self, value: Any = 0.0) -> None:
        self.value = value

    def __call__(self, shape: Sequence[int], dtype: Any = None, key: Array | None = None) -> Array:
        shape, value = tuple(shape), np.asarray(self.value, _dtype(dtype))
        try:
            return on_device(np.broadcast_to(value, shape))
        except ValueError as error:
            raise ShapeError(
                f"Constant has a value of shape {value.shape}; it cannot start a weight of {shape}"
            ) from error


@register("initializers", "IdentityInitializer")
class Identity(Initializer):
    """The identity matrix.

    Args:
        gain: what the ones are multiplied by.

    Raises:
        ShapeError: when called for a shape that is not that of a matrix.

    >>> Identity(2.0)((2, 2)).tolist()
    [[2.0, 0.0], [0.0, 2.0]]
    """

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain

    def __call__(self, shape: Sequence[int], dtype: Any = None, key: Array | None = None) -> Array:
        if len(shape) != 2:
            raise ShapeError(f"Identity makes matrices; it cannot start a weight of shape {tuple(shape)}")
        return on_device((self.gain * np.eye(shape[0], shape[1])).astype(_dtype(dtype)))


class RandomInitializer(Initializer):
    """The base of initializers that draw.

    Args:
        seed: draw the same values at every call, whatever the key; ``None`` to follow the key.
    """

    def __init__(self, seed: int | None = None) -> None:
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int | np.integer)):
            raise ConfigError(f"{type(self).__name__} expects seed as a whole number or None; received {seed!r}")
        self.seed = seed

    def draw(self, shape: tuple[int, ...], dtype: Any, key: Array) -> Any:
        """The values, an array of JAX's or NumPy's, drawn in ``dtype``, which has at least single precision."""
        raise NotImplementedError(f"{type(self).__name__} has no draw(self, shape, dtype, key)")

    def __call__(self, shape: Sequence[int], dtype: Any = None, key: Array | None = None) -> Array:
        if self.seed is not None:
            key = key_of(self.seed)
        wanted = _dtype(dtype)
        exact = jnp.promote_types(wanted, jnp.float32)
        key = random.next_key() if key is None else random.checked(key)
        drawn = self.draw(tuple(shape), exact, key).astype(wanted)
        return drawn if isinstance(drawn, jax.Array) else on_device(np.asarray(drawn))


@register("initializers", "normal")
class RandomNormal(RandomInitializer):
    """Normal draws.

    Args:
        mean: their mean.
        stddev: their standard deviation.
        seed: see :class:`RandomInitializer`.

    >>> RandomNormal(seed=1)((2, 3)).shape
    (2, 3)
    """

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.mean, self.stddev = mean, stddev

    def draw(self, shape: tuple[int, ...], dtype: Any, key: Array) -> Any:
        return self.mean + self.stddev * standard(jax.random.normal, shape, dtype, key)


@register("initializers")
class TruncatedNormal(RandomInitializer):
    """Normal draws, those beyond two standard deviations drawn again.

    Args:
        mean: their mean.
        stddev: the standard deviation before the cut.
        seed: see :class:`RandomInitializer`.
    """

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.mean, self.stddev = mean, stddev

    def draw(self, shape: tuple[int, ...], dtype: Any, key: Array) -> Any:
        return self.mean + self.stddev * standard(_truncated_normal, shape, dtype, key)


@register("initializers", "uniform")
class RandomUniform(RandomInitializer):
    """Draws from ``[minval, maxval)``, each value equally likely.

    Args:
        minval: the least value.
        maxval: the end of the range.
        seed: see :class:`RandomInitializer`.
    """

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.minval, self.maxval = minval, maxval

    def draw(self, shape: tuple[int, ...], dtype: Any, key: Array) -> Any:
        return self.minval + (self.maxval - self.minval) * standard(jax.random.uniform, shape, dtype, key)


def compute_fans(
    shape: Sequence[int],
    input_axes: Sequence[int] | None = None,
    output_axes: Sequence[int] | None = None,
) -> tuple[int, int]:
    """How many inputs reach one output of a weight, and how many outputs one input reaches.

    The last axis is that of outputs and the one before it that of inputs; further axes are a convolution's window, and
    count for both.

    Args:
        shape: the shape of the weight.
        input_axes: the axes of inputs, where they are others; the window then counts only if it is named.
        output_axes: the axes of outputs, likewise.

    >>> compute_fans((784, 10)), compute_fans((3, 3, 16, 32))
    ((784, 10), (144, 288))
    """
    shape = tuple(shape)
    if input_axes is not None and output_axes is not None:
        return math.prod(shape[axis] for axis in input_axes), math.prod(shape[axis] for axis in output_axes)
    if len(shape) < 2:
        return (shape[0], shape[0]) if shape else (1, 1)
    window = math.prod(shape[:-2])
    return shape[-2] * window, shape[-1] * window


@register("initializers")
class VarianceScaling(RandomInitializer):
    r"""Draws of mean 0 and variance :math:`s / n`, for :math:`n` inputs or outputs of the weight.

    Args:
        scale: the factor :math:`s`.
        mode: what :math:`n` is: ``"fan_in"``, ``"fan_out"`` or ``"fan_avg"``, their mean.
        distribution: ``"truncated_normal"``, ``"untruncated_normal"`` or ``"uniform"``.
        seed: see :class:`RandomInitializer`.
        input_axes: see :func:`compute_fans`.
        output_axes: see :func:`compute_fans`.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
    ) -> None:
        super().__init__(seed)
        if scale <= 0:
            raise ConfigError(f"{type(self).__name__} expects a scale above 0; received {scale!r}")
        distribution = "truncated_normal" if distribution == "normal" else distribution
        for given, choices in (
            (mode, ("fan_in", "fan_out", "fan_avg")),
            (distribution, ("truncated_normal", "untruncated_normal", "uniform")),
        ):
            if given not in choices:
                raise ConfigError(f"{type(self).__name__} expects one of {', '.join(choices)}; received {given!r}")
        self.scale, self.mode, self.distribution = scale, mode, distribution
        if (input_axes is None) != (output_axes is None):
            raise ConfigError(f"{type(self).__name__} expects input_axes and output_axes together; received only one")
        self.input_axes, self.output_axes = input_axes, output_axes

    def draw(self, shape: tuple[int, ...], dtype: Any, key: Array) -> Any:
        inputs, outputs = compute_fans(shape, self.input_axes, self.output_axes)
        fan = {"fan_in": inputs, "fan_out": outputs, "fan_avg": (inputs + outputs) / 2}[self.mode]
        stddev = math.sqrt(self.scale / max(1.0, fan))
        if self.distribution == "uniform":
            limit = math.sqrt(3.0) * stddev
            return limit * (2 * standard(jax.random.uniform, shape, dtype, key) - 1)
        if self.distribution == "truncated_normal":
            return stddev / _TRUNCATED_STDDEV * standard(_truncated_normal, shape, dtype, key)
        return stddev * standard(jax.random.normal, shape, dtype, key)


class _Named(VarianceScaling):
    """A variance scaling with settings that have a name."""

    settings: tuple[float, str, str]

    def __init__(
        self,
        seed: int | None = None,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
    ) -> None:
        super().__init__(*self.settings, seed=seed, input_axes=input_axes, output_axes=output_axes)


@register("initializers")
class GlorotUniform(_Named):
    r"""Uniform draws within :math:`\pm\sqrt{6 / (n_{in} + n_{out})}`; what most layers start from.

    Glorot and Bengio (2010), https://proceedings.mlr.press/v9/glorot10a.html

    >>> bool(abs(GlorotUniform(seed=0)((2, 4))).max() <= 1)
    True
    """

    settings = (1.0, "fan_avg", "uniform")


@register("initializers")
class GlorotNormal(_Named):
    r"""Truncated normal draws of variance :math:`2 / (n_{in} + n_{out})`.

    Glorot and Bengio (2010), https://proceedings.mlr.press/v9/glorot10a.html
    """

    settings = (1.0, "fan_avg", "truncated_normal")


@register("initializers")
class HeUniform(_Named):
    r"""Uniform draws within :math:`\pm\sqrt{6 / n_{in}}`; for layers with ReLU.

    He et al. (2015), https://arxiv.org/abs/1502.01852
    """

    settings = (2.0, "fan_in", "uniform")


@register("initializers")
class HeNormal(_Named):
    r"""Truncated normal draws of variance :math:`2 / n_{in}`; for layers with ReLU.

    He et al. (2015), https://arxiv.org/abs/1502.01852
    """

    settings = (2.0, "fan_in", "truncated_normal")


@register("initializers")
class LecunUniform(_Named):
    r"""Uniform draws within :math:`\pm\sqrt{3 / n_{in}}`.

    LeCun et al. (1998), "Efficient BackProp"
    """

    settings = (1.0, "fan_in", "uniform")


@register("initializers")
class LecunNormal(_Named):
    r"""Truncated normal draws of variance :math:`1 / n_{in}`; for layers with SELU.

    LeCun et al. (1998), "Efficient BackProp"
    """

    settings = (1.0, "fan_in", "truncated_normal")


@register("initializers", "OrthogonalInitializer")
class Orthogonal(RandomInitializer):
    """A random matrix with orthonormal columns, or rows where there are fewer of those.

    All axes but the last are the matrix's rows.

    Saxe et al. (2013), https://arxiv.org/abs/1312.6120

    Args:
        gain: what the matrix is multiplied by.
        seed: see :class:`RandomInitializer`.

    Raises:
        ShapeError: when called for a shape of fewer than two axes.

    >>> w = Orthogonal(seed=0)((3, 3))
    >>> bool(jnp.allclose(w @ w.T, jnp.eye(3), atol=1e-5))
    True
    """

    def __init__(self, gain: float = 1.0, seed: int | None = None) -> None:
        super().__init__(seed)
        self.gain = gain

    def draw(self, shape: tuple[int, ...], dtype: Any, key: Array) -> Any:
        if len(shape) < 2:
            raise ShapeError(f"Orthogonal makes matrices; it cannot start a weight of shape {shape}")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        drawn = standard(jax.random.normal, (max(rows, columns), min(rows, columns)), dtype, key)
        of: Any = np if isinstance(drawn, np.ndarray) else jnp
        q, r = of.linalg.qr(drawn)
        q = q * of.where(of.diagonal(r) < 0, -1, 1).astype(dtype)  # or not every rotation is equally likely
        return self.gain * of.reshape(q.T if rows < columns else q, shape)


@register("initializers", "STFTInitializer")
class STFT(Initializer):
    r"""The kernel of a convolution that is a short-time Fourier transform.

    :math:`w_t \cos(2 \pi t f / F) / s`, or with :math:`-\sin` for the imaginary side, for step :math:`t` and
    frequency :math:`f` of :math:`F = 2 (n - 1)`, where the shape is ``(steps, 1, n)``.

    Args:
        side: ``"real"`` or ``"imag"``.
        window: the name of a window of ``scipy.signal``, the window's values, or ``None`` for a flat one, not scaled.
        scaling: :math:`s`: ``"density"`` for the Euclidean norm of the window, ``"spectrum"`` for its sum, or ``None``.
        periodic: whether the named window is periodic rather than symmetric.
    """

    def __init__(
        self, side: str = "real", window: Any = "hann", scaling: str | None = "density", periodic: bool = False
    ) -> None:
        if side not in ("real", "imag"):
            raise ConfigError(f"STFT expects side as 'real' or 'imag'; received {side!r}")
        if scaling not in (None, "density", "spectrum"):
            raise ConfigError(f"STFT expects scaling as 'density', 'spectrum' or None; received {scaling!r}")
        self.side, self.window, self.scaling, self.periodic = side, window, scaling, periodic

    def __call__(self, shape: Sequence[int], dtype: Any = None, key: Array | None = None) -> Array:
        if len(shape) != 3 or shape[1] != 1:
            raise ShapeError(f"STFT starts a kernel of shape (steps, 1, frequencies); received {tuple(shape)}")
        steps, _, frequencies = shape
        time, frequency = np.arange(steps)[:, None, None], np.arange(frequencies)
        angle = 2 * np.pi * time * frequency / max(1, 2 * (frequencies - 1))
        kernel = np.cos(angle) if self.side == "real" else -np.sin(angle)
        if self.window is not None:
            window = self._window(steps)
            norm = {"density": np.sqrt(np.sum(window**2)), "spectrum": np.sum(np.abs(window)), None: 1.0}[self.scaling]
            kernel = kernel * window[:, None, None] / norm
        return jnp.asarray(kernel, _dtype(dtype))

    def _window(self, steps: int) -> np.ndarray:
        if isinstance(self.window, str):
            import scipy.signal  # takes long to import, and is rarely wanted

            return scipy.signal.get_window(self.window, steps, fftbins=self.periodic)
        window = np.asarray(self.window)
        if window.shape != (steps,):
            raise ShapeError(f"STFT has a window of shape {window.shape}; this kernel wants one of ({steps},)")
        return window


#: the names by which Keras programs call them too
zeros, ones, constant, identity, orthogonal, stft = Zeros, Ones, Constant, Identity, Orthogonal, STFT
random_normal, random_uniform, truncated_normal = RandomNormal, RandomUniform, TruncatedNormal
glorot_normal, glorot_uniform, variance_scaling = GlorotNormal, GlorotUniform, VarianceScaling
he_normal, he_uniform, lecun_normal, lecun_uniform = HeNormal, HeUniform, LecunNormal, LecunUniform
get = getter("initializers")
