"""Numbers and pictures made ready: scaling, resizing, cropping, binning, one-hot vectors.

What ``adapt`` learns from data is saved with the model.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core import registry
from lamina.core.errors import ConfigError, DataError, ShapeError
from lamina.core.shapes import Shape
from lamina.core.state import Array
from lamina.data.adapting import batches
from lamina.kernels import image
from lamina.kernels.encoding import encode
from lamina.layers.base import Layer, layer
from lamina.layers.checks import check_choice, refuse_sparse

__all__ = ["CategoryEncoding", "CenterCrop", "Discretization", "Normalization", "Rescaling", "Resizing"]

#: what a standard deviation is at least, so that a constant column becomes zeros
EPSILON = 1e-7


class Preprocessing(Layer):
    """The base of layers that take raw data, which they read in at least single precision.

    A year such as 2013 has no place in bfloat16: data are cast to the layer's dtype when they have been prepared, not
    before.
    """

    supports_masking = True

    def _arrays(self, tree: Any) -> Any:
        wide = jnp.promote_types(self.compute_dtype, "float32")

        def convert(x: Any) -> Any:
            if not isinstance(x, np.ndarray | jax.Array):
                return x
            x = jnp.asarray(x)
            return x.astype(wide) if jnp.issubdtype(x.dtype, jnp.floating) else x

        return jax.tree.map(convert, tree)

    def floating(self, x: Array) -> Array:
        """``x`` as floating-point numbers of at least single precision."""
        return x.astype(jnp.promote_types(self.compute_dtype, "float32"))


@layer
class Rescaling(Preprocessing):
    r"""Multiply and add, :math:`y = \text{scale} \cdot x + \text{offset}`.

    Args:
        scale: a number, or one per channel.
        offset: a number, or one per channel.

    Input and output of any shape; whole numbers become floating-point ones.

    >>> Rescaling(1 / 255)(np.array([[0, 255]], "uint8")).tolist()
    [[0.0, 1.0]]
    """

    def __init__(self, scale: Any, offset: Any = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = scale
        self.offset = offset

    def call(self, inputs: Array) -> Array:
        x = self.floating(inputs)
        return (x * jnp.asarray(self.scale, x.dtype) + jnp.asarray(self.offset, x.dtype)).astype(self.compute_dtype)


@layer
class Normalization(Preprocessing):
    r"""Shift and scale to mean 0 and variance 1, :math:`y = (x - \mu) / \max(\sqrt{v}, \epsilon)`.

    The means :math:`\mu` and variances :math:`v` are given, or learnt by :meth:`adapt` and kept as weights.

    Args:
        axis: the axes that have a mean and a variance for each index; ``None`` for one of each over everything.
        mean: :math:`\mu`, broadcast to those axes; goes together with ``variance``.
        variance: :math:`v`.
        invert: whether to go back from normalized values to the original ones.

    Input and output of any shape.

    >>> norm = Normalization()
    >>> norm.adapt(np.array([[0.0, 7.0], [2.0, 9.0]]))
    >>> norm(np.array([[0.0, 9.0]])).tolist()
    [[-1.0, 1.0]]
    """

    def __init__(
        self, axis: Any = -1, mean: Any = None, variance: Any = None, invert: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.axis = () if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
        self.invert = invert
        if (mean is None) != (variance is None):
            raise ConfigError(f"Normalization expects mean and variance together; received {mean=}, {variance=}")
        if np.shape(mean) != np.shape(variance) or np.ndim(mean) > len(self.axis):
            raise ConfigError(
                f"Normalization expects mean and variance of one shape, with at most {len(self.axis)} axes as "
                f"axis={self.axis}; received shapes {np.shape(mean)} and {np.shape(variance)}"
            )
        if variance is not None and np.any(np.asarray(variance) < 0):
            raise ConfigError(f"Normalization expects a variance of at least 0; received {variance!r}")
        self.input_mean, self.input_variance = mean, variance

    @property
    def mean(self) -> Array | None:
        """The means, broadcast against the input; ``None`` before the layer is built."""
        return self._statistic(self.input_mean, "adapt_mean")

    @property
    def variance(self) -> Array | None:
        """The variances, broadcast against the input; ``None`` before the layer is built."""
        return self._statistic(self.input_variance, "adapt_variance")

    def _statistic(self, given: Any, learnt: str) -> Array | None:
        if not self.built:
            return None
        dtype = jnp.promote_types(self.compute_dtype, "float32")
        if given is None:
            return getattr(self, learnt).raw.astype(dtype).reshape(self._broadcast_shape)
        value = jnp.asarray(given, dtype)
        shape = [1] * len(self._broadcast_shape)
        for length, axis in zip(reversed(value.shape), reversed(self._kept), strict=False):
            shape[axis] = length
        return jnp.broadcast_to(value.reshape(shape), self._broadcast_shape)

    def get_config(self) -> dict[str, Any]:
        # as in Keras, the attributes mean and variance are those in use, and the arguments are what was given
        given = {"mean": self.input_mean, "variance": self.input_variance}
        return super().get_config() | {name: registry.serialize(value) for name, value in given.items()}

    def build(self, input_shape: Shape) -> None:
        ndim = len(input_shape)
        if any(not -ndim <= axis < ndim for axis in self.axis):
            raise ShapeError(f"layer {self.name!r} (Normalization) has axis={self.axis}; received shape {input_shape}")
        self._kept = tuple(sorted(axis % ndim for axis in self.axis))
        if any(input_shape[axis] is None for axis in self._kept):
            raise ShapeError(
                f"layer {self.name!r} (Normalization) needs to know the length of axes {self._kept}; received shape "
                f"{tuple(input_shape)}.\nGive them in Input, or write:  axis=None"
            )
        self._broadcast_shape = tuple((input_shape[axis] or 1) if axis in self._kept else 1 for axis in range(ndim))
        shape = tuple(self._broadcast_shape[axis] for axis in self._kept)
        if self.input_mean is None:
            frozen: dict[str, Any] = {"trainable": False, "autocast": False}
            self.adapt_mean = self.add_weight(shape, jnp.zeros, name="mean", **frozen)
            self.adapt_variance = self.add_weight(shape, jnp.ones, name="variance", **frozen)
            self.count = self.add_weight((), jnp.zeros, dtype="int32", name="count", **frozen)
            return
        for given in (self.input_mean, self.input_variance):
            try:
                np.broadcast_shapes(np.shape(given), shape)
            except ValueError:
                raise ShapeError(
                    f"layer {self.name!r} (Normalization) has a mean of shape {np.shape(given)} and received an input "
                    f"of shape {tuple(input_shape)}, of which axes {self._kept} have means"
                ) from None

    def adapt(self, data: Any, steps: int | None = None) -> None:
        """Learn the means and variances; what was learnt before is forgotten.

        Args:
            data: an array, a column or table of pandas or polars, or an iterable of batches.
            steps: how many batches to take; all by default.

        Raises:
            ConfigError: if mean and variance were given.
            DataError: if the data are not numbers, or their shape is not that of the layer's input.
        """
        if self.input_mean is not None:
            raise ConfigError("this Normalization was given mean and variance. Leave them out to adapt it.")
        total: Any = None
        for batch in batches(data, steps):
            if batch.dtype.kind not in "iufb":
                raise DataError(f"Normalization expects numbers; received an array of dtype {batch.dtype}")
            if not self.built:
                self.build_from({"inputs": batch.shape})
            if batch.ndim != len(self._broadcast_shape) or any(
                batch.shape[axis] != self._broadcast_shape[axis] for axis in self._kept
            ):
                raise DataError(
                    f"layer {self.name!r} (Normalization) expected data of shape {self._broadcast_shape}, where 1 is "
                    f"any length; received {batch.shape}"
                )
            over = tuple(axis for axis in range(batch.ndim) if axis not in self._kept)
            size = np.prod([batch.shape[axis] for axis in over], dtype=np.float64)
            part = size, batch.mean(over, dtype=np.float64), batch.var(over, dtype=np.float64)
            total = part if total is None else _merge(total, part)
        _, mean, variance = total
        self.adapt_mean.assign(mean)
        self.adapt_variance.assign(variance)

    def call(self, inputs: Array) -> Array:
        x, mean, variance = self.floating(inputs), self.mean, self.variance
        assert mean is not None
        assert variance is not None
        scale = jnp.maximum(jnp.sqrt(variance), EPSILON)
        return (x * scale + mean if self.invert else (x - mean) / scale).astype(self.compute_dtype)


def _merge(a: tuple[Any, Any, Any], b: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
    """Size, mean and variance of two sets of numbers together (Chan, Golub and LeVeque, 1983)."""
    size = a[0] + b[0]
    share, step = b[0] / size, b[1] - a[1]
    return size, a[1] + share * step, (1 - share) * a[2] + share * b[2] + share * (1 - share) * step**2


@layer
class Discretization(Preprocessing):
    """Numbers as the indices of the bins they fall into.

    Args:
        bin_boundaries: the inner boundaries, rising; ``[0.0, 1.0]`` makes three bins, each with its lower boundary.
        num_bins: how many bins of about equal counts :meth:`adapt` shall make.
        epsilon: the share of the data by which a learnt boundary may be off.
        output_mode: ``"int"``, ``"one_hot"``, ``"multi_hot"`` or ``"count"``.
        sparse: must be ``False``.

    Input of any shape; output of that shape for ``"int"``, else as of :class:`CategoryEncoding`.

    >>> Discretization([0.0, 1.0])(np.array([-0.5, 0.0, 3.0])).tolist()
    [0, 1, 2]
    """

    def __init__(
        self,
        bin_boundaries: Any = None,
        num_bins: int | None = None,
        epsilon: float = 0.01,
        output_mode: str = "int",
        sparse: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        refuse_sparse(self, sparse)
        check_choice(self, "output_mode", output_mode, ("int", "one_hot", "multi_hot", "count"))
        boundaries = None if bin_boundaries is None else np.asarray(bin_boundaries, "float64").tolist()
        if boundaries is None and num_bins is None:
            raise ConfigError("Discretization expects bin_boundaries or num_bins.\nWrite:  Discretization(num_bins=10)")
        if num_bins is not None and (num_bins < 1 or len(boundaries or ()) >= num_bins):
            raise ConfigError(
                f"Discretization expects num_bins of at least 1, and fewer boundaries than bins; received {num_bins=}, "
                f"{bin_boundaries=}"
            )
        if boundaries != sorted(boundaries or []) and boundaries is not None:
            raise ConfigError(f"Discretization expects bin_boundaries that rise; received {bin_boundaries!r}")
        self.bin_boundaries: list[float] | None = boundaries
        self.num_bins = num_bins
        self.epsilon = epsilon
        self.output_mode = output_mode
        self.sparse = sparse

    def adapt(self, data: Any, steps: int | None = None) -> None:
        """Learn boundaries between which lie about equally many of the numbers.

        Args:
            data: an array, a column of pandas or polars, or an iterable of batches.
            steps: how many batches to take; all by default.

        Raises:
            ConfigError: if the layer was given boundaries instead of ``num_bins``.
            DataError: if the data are not numbers.
        """
        if self.num_bins is None:
            raise ConfigError("this Discretization was given bin_boundaries.\nWrite:  Discretization(num_bins=...)")
        values, weights = np.zeros(0), np.zeros(0)
        for batch in batches(data, steps):
            if batch.dtype.kind not in "iufb":
                raise DataError(f"Discretization expects numbers; received an array of dtype {batch.dtype}")
            step = max(batch.size * self.epsilon, 1.0)
            sample = np.sort(batch.astype("float64"), axis=None)[int(step - 1) :: int(step)]
            values, weights = np.append(values, sample), np.append(weights, np.full(len(sample), step))
            order = np.argsort(values, kind="stable")
            values, weights = _thin(values[order], weights[order], self.epsilon)
        self.bin_boundaries = _thin(values, weights, 1.0 / self.num_bins)[0][:-1].tolist()

    def call(self, inputs: Array) -> Array:
        if self.bin_boundaries is None:
            raise ConfigError(f"layer {self.name!r} (Discretization) knows no bins yet.\nWrite:  layer.adapt(data)")
        x = self.floating(inputs)
        indices = jnp.searchsorted(jnp.asarray(self.bin_boundaries, x.dtype), x, side="right").astype("int32")
        if self.output_mode == "int":
            return indices
        return encode(indices, self.output_mode, len(self.bin_boundaries) + 1, self.compute_dtype)


def _thin(values: np.ndarray, weights: np.ndarray, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """Sorted values with weights as about ``1 / epsilon`` of them, by interpolating the distribution function."""
    if len(values) * epsilon < 1:
        return values, weights
    levels = epsilon + np.arange(0.0, 1.0, epsilon)
    total = np.cumsum(weights)
    share = total / total[-1]
    return np.interp(levels, share, values), np.diff(np.interp(levels, share, total), prepend=0.0)


@layer
class CategoryEncoding(Preprocessing):
    """Whole numbers as vectors.

    Args:
        num_tokens: how many different numbers there are: ``0 <= x < num_tokens``.
        output_mode: ``"one_hot"`` (a vector per number), ``"multi_hot"`` (a vector per example, 1 for each number
            that occurs) or ``"count"`` (how often it occurs).
        sparse: must be ``False``.

    Input ``(batch, n)``; output ``(batch, num_tokens)``, for ``"one_hot"`` of several numbers
    ``(batch, n, num_tokens)``. ``"count"`` takes ``count_weights`` in the shape of the input.

    >>> CategoryEncoding(3)(np.array([[0, 2]])).tolist()
    [[1.0, 0.0, 1.0]]
    """

    input_dtype = "int32"
    supports_masking = False

    def __init__(
        self,
        num_tokens: int | None = None,
        output_mode: str = "multi_hot",
        sparse: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        refuse_sparse(self, sparse)
        check_choice(self, "output_mode", output_mode, ("multi_hot", "one_hot", "count"))
        if not isinstance(num_tokens, int) or num_tokens < 1:
            raise ConfigError(
                f"CategoryEncoding expects num_tokens of at least 1; received {num_tokens!r}. Where it is not known, "
                "write:  IntegerLookup(output_mode='multi_hot')  and adapt it"
            )
        self.num_tokens = num_tokens
        self.output_mode = output_mode
        self.sparse = sparse

    def call(self, inputs: Array, count_weights: Array | None = None) -> Array:
        if count_weights is not None and self.output_mode != "count":
            raise ConfigError(f"CategoryEncoding takes count_weights in output_mode='count', not {self.output_mode!r}")
        indices = jnp.asarray(inputs)
        if count_weights is not None and jnp.shape(count_weights) != indices.shape:
            raise ShapeError(
                f"layer {self.name!r} (CategoryEncoding) expected count_weights of the shape of its input, {indices.shape}; "
                f"received {jnp.shape(count_weights)}"
            )
        if not isinstance(indices, jax.core.Tracer) and indices.size:
            known = np.asarray(indices)  # on the host: inside jit, jnp would not give numbers
            least, most = int(known.min()), int(known.max())
            if least < 0 or most >= self.num_tokens:
                raise DataError(
                    f"layer {self.name!r} (CategoryEncoding) expected numbers from 0 to {self.num_tokens - 1}; "
                    f"received numbers from {least} to {most}.\nWrite:  CategoryEncoding(num_tokens={most + 1})"
                )
        return encode(indices.astype("int32"), self.output_mode, self.num_tokens, self.compute_dtype, count_weights)


DataFormat = Literal["channels_last", "channels_first"]


class PictureLayer(Preprocessing):
    """The base of layers that take pictures, one or a batch, and give them in another size.

    Args:
        height: the height of the result.
        width: the width of the result.
        data_format: ``"channels_last"`` or ``"channels_first"``.
    """

    supports_masking = False

    def __init__(self, height: int, width: int, data_format: DataFormat | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name, value in (("height", height), ("width", width)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{type(self).__name__} expects {name} of at least 1 pixel; received {value!r}")
        self.height = height
        self.width = width
        self.data_format = data_format or "channels_last"
        check_choice(self, "data_format", self.data_format, ("channels_last", "channels_first"))

    def transform(self, images: Array) -> Array:
        """``images``, shape ``(..., height, width, channels)``, in the new size."""
        raise NotImplementedError

    def call(self, inputs: Array) -> Array:
        if inputs.ndim not in (3, 4):
            raise ShapeError(
                f"layer {self.name!r} ({type(self).__name__}) expected pictures of shape (height, width, channels) or "
                f"(batch, height, width, channels); received {inputs.shape}"
            )
        if self.data_format == "channels_last":
            return self.transform(inputs)
        return jnp.moveaxis(self.transform(jnp.moveaxis(inputs, -3, -1)), -1, -3)


@layer
class Resizing(PictureLayer):
    """Pictures in another size.

    Args:
        height: the height of the result.
        width: the width of the result.
        interpolation: ``"bilinear"``, ``"nearest"``, ``"bicubic"``, ``"lanczos3"`` or ``"lanczos5"``.
        crop_to_aspect_ratio: whether to keep the proportions, by cutting off what is too long.
        pad_to_aspect_ratio: whether to keep the proportions, by adding borders.
        fill_mode: must be ``"constant"``: borders have one colour.
        fill_value: that colour.
        antialias: whether to smooth before making a picture smaller.
        data_format: ``"channels_last"`` or ``"channels_first"``.

    Input ``(batch, h, w, channels)`` or ``(h, w, channels)``; whole-number pixels stay whole numbers.

    >>> Resizing(8, 8)(jnp.ones((2, 4, 6, 3))).shape
    (2, 8, 8, 3)
    """

    def __init__(
        self,
        height: int,
        width: int,
        interpolation: str = "bilinear",
        crop_to_aspect_ratio: bool = False,
        pad_to_aspect_ratio: bool = False,
        fill_mode: str = "constant",
        fill_value: float = 0.0,
        antialias: bool = False,
        data_format: DataFormat | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(height=height, width=width, data_format=data_format, **kwargs)
        check_choice(self, "interpolation", interpolation, tuple(image.INTERPOLATIONS))
        check_choice(self, "fill_mode", fill_mode, ("constant",))
        if crop_to_aspect_ratio and pad_to_aspect_ratio:
            raise ConfigError("Resizing either crops or pads.\nWrite one of crop_to_aspect_ratio, pad_to_aspect_ratio.")
        self.interpolation = interpolation
        self.crop_to_aspect_ratio = crop_to_aspect_ratio
        self.pad_to_aspect_ratio = pad_to_aspect_ratio
        self.fill_mode = fill_mode
        self.fill_value = fill_value
        self.antialias = antialias

    def transform(self, images: Array) -> Array:
        size = self.height, self.width
        if self.crop_to_aspect_ratio:
            images = image.crop_to_aspect(images, size)
        if self.pad_to_aspect_ratio:
            images = image.pad_to_aspect(images, size, self.fill_value)
        resized = image.resize(images, size, self.interpolation, self.antialias)
        return resized.astype(self.compute_dtype) if jnp.issubdtype(resized.dtype, jnp.floating) else resized


@layer
class CenterCrop(PictureLayer):
    """The middle of pictures; those that are too small are enlarged first.

    Args:
        height: the height of the result.
        width: the width of the result.
        data_format: ``"channels_last"`` or ``"channels_first"``.

    Input ``(batch, h, w, channels)`` or ``(h, w, channels)``.

    >>> CenterCrop(1, 1)(jnp.arange(9.0).reshape(3, 3, 1)).tolist()
    [[[4.0]]]
    """

    def transform(self, images: Array) -> Array:
        x, size = self.floating(images), (self.height, self.width)
        if x.shape[-3] < self.height or x.shape[-2] < self.width:
            x = image.resize(image.crop_to_aspect(x, size), size)
        return image.center_crop(x, size).astype(self.compute_dtype)
