"""Convolutions and transposed convolutions in one, two and three dimensions."""

from collections.abc import Callable, Sequence
from typing import Any

from lamina.activations import slope_of
from lamina.core import registry
from lamina.core.errors import ConfigError, ShapeError
from lamina.core.shapes import Shape
from lamina.core.state import Array, Variable
from lamina.kernels import convolution as kernels
from lamina.layers.base import InputSpec
from lamina.layers.spatial import Spatial, is_whole

__all__ = [
    "Conv1D",
    "Conv1DTranspose",
    "Conv2D",
    "Conv2DTranspose",
    "Conv3D",
    "Conv3DTranspose",
    "Convolution1D",
    "Convolution1DTranspose",
    "Convolution2D",
    "Convolution2DTranspose",
    "Convolution3D",
    "Convolution3DTranspose",
]

Sizes = int | Sequence[int]
Activation = str | Callable[[Array], Array] | None


class BaseConv(Spatial):
    """What all convolutions share.

    Args:
        kernel_size: the size of the window along each axis.
        strides: its steps.
        padding: ``"valid"``, ``"same"``, and ``"causal"`` where there is an order in time.
        data_format: ``"channels_last"`` or ``"channels_first"``.
        dilation_rate: the distance between what neighbouring entries of the window see.
        activation: a name or function, applied last.
        use_bias: whether to add a number per filter.
    """

    paddings: tuple[str, ...] = ()
    kernel: Variable
    bias: Variable

    def __init__(
        self,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Sizes = 1,
        activation: Activation = None,
        use_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        self.kernel_size = self.per_axis("kernel_size", kernel_size)
        self.strides = self.per_axis("strides", strides)
        self.padding = self.choose_padding(padding, *self.paddings)
        self.dilation_rate = self.per_axis("dilation_rate", dilation_rate)
        self.activation = registry.get("activations", activation)
        self.use_bias = use_bias

    def check_counts(self, **counts: int) -> None:
        """Raise a ConfigError if one of these arguments is not a whole number of at least 1."""
        for name, value in counts.items():
            if not is_whole(value, 1):
                raise ConfigError(
                    f"{type(self).__name__} expects {name} as a whole number of at least 1; received {value!r}"
                )

    def keep(self, **named: Any) -> None:
        """Keep initializers, regularizers and constraints, each under its own name."""
        for name, value in named.items():
            setattr(self, name, registry.get(f"{name.rpartition('_')[2]}s", value))

    def weight(self, name: str, shape: Sequence[int]) -> Variable:
        """A new weight with the initializer, regularizer and constraint that are kept for ``name``."""
        prefix = name.removesuffix("_kernel") if name != "kernel" else name
        return self.add_weight(
            shape,
            getattr(self, f"{prefix}_initializer"),
            regularizer=getattr(self, f"{prefix}_regularizer"),
            constraint=getattr(self, f"{prefix}_constraint"),
            name=name,
        )

    def channels(self, input_shape: Shape) -> int:
        """The number of channels of the input, which is expected from now on."""
        channels = self.axis_length(input_shape, self.channel_axis)
        self.input_spec = InputSpec(ndim=self.rank + 2, axes={self.channel_axis: channels})
        return channels

    def check_reach(self, shape: Shape) -> None:
        """Raise a ShapeError if the dilated window does not fit into an input that is not padded."""
        if self.padding == "valid":
            sizes = zip(self.kernel_size, self.dilation_rate, strict=True)
            self.check_window(shape, [(k - 1) * d + 1 for k, d in sizes])

    def convolved(self, kernel: Callable[..., Array], inputs: Array, *settings: Any) -> Array:
        """What the kernel makes of the inputs, with bias and activation, in the layer's own order of axes."""
        slope = slope_of(self.activation)
        bias = self.bias.value if self.use_bias else None
        passing = {"bias": bias, "slope": 1.0 if slope is None else slope}
        x = self.own_format(kernel(self.channels_last(inputs), self.kernel.value, *settings, **passing))
        return x if slope is not None else self.activation(x)

    def finish(self, x: Array) -> Array:
        """Bias, the layer's own order of axes, activation."""
        x = self.own_format(x + self.bias.value if self.use_bias else x)
        return x if self.activation is None else self.activation(x)


class Conv(BaseConv):
    """A convolution: each filter looks at all channels of its group through a window that moves over the input.

    Args:
        filters: the number of filters.
        kernel_size: the size of the window along each axis.
        strides: its steps.
        padding: ``"valid"`` keeps to the input; ``"same"`` pads with zeros so that, with strides of 1, lengths stay;
            ``"causal"`` (one dimension only) pads in front, so that a step sees nothing that comes later.
        data_format: ``"channels_last"`` or ``"channels_first"``.
        dilation_rate: the distance between what neighbouring entries of the window see.
        groups: channels and filters are cut into this many groups, each convolved on its own.
        activation: a name or function, applied last.
        use_bias: whether to add a number per filter.
        kernel_initializer: how the kernel, of shape ``(*kernel_size, channels / groups, filters)``, is drawn.
        bias_initializer: how the bias, of shape ``(filters,)``, starts.
        kernel_regularizer: a penalty on the kernel.
        bias_regularizer: a penalty on the bias.
        activity_regularizer: a penalty on the output.
        kernel_constraint: applied to the kernel after each update.
        bias_constraint: applied to the bias after each update.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Sizes = 1,
        groups: int = 1,
        activation: Activation = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            kernel_size,
            strides,
            padding,
            data_format,
            dilation_rate,
            activation,
            use_bias,
            activity_regularizer=activity_regularizer,
            **kwargs,
        )
        self.check_counts(filters=filters, groups=groups)
        if filters % groups:
            raise ConfigError(
                f"{type(self).__name__} expects filters to be a multiple of groups; received {filters=}, {groups=}"
            )
        self.filters, self.groups = filters, groups
        self.keep(kernel_initializer=kernel_initializer, bias_initializer=bias_initializer)
        self.keep(kernel_regularizer=kernel_regularizer, bias_regularizer=bias_regularizer)
        self.keep(kernel_constraint=kernel_constraint, bias_constraint=bias_constraint)

    def build(self, input_shape: Shape) -> None:
        channels = self.channels(input_shape)
        if channels % self.groups:
            raise ShapeError(
                f"layer {self.name!r} ({type(self).__name__}) expected a number of channels that its groups="
                f"{self.groups} divides; received {channels} channels in shape {tuple(input_shape)}"
            )
        self.check_reach(input_shape)
        self.kernel = self.weight("kernel", (*self.kernel_size, channels // self.groups, self.filters))
        if self.use_bias:
            self.bias = self.weight("bias", (self.filters,))

    def call(self, inputs: Array) -> Array:
        self.check_reach(inputs.shape)
        return self.convolved(kernels.conv, inputs, self.strides, self.padding, self.dilation_rate, self.groups)


class ConvTranspose(BaseConv):
    """The transpose of a convolution, often used to enlarge: each entry of the input adds a kernel to the output.

    Args:
        filters: the number of filters.
        kernel_size: the size of the kernel along each axis.
        strides: the distance between what neighbouring entries of the input add to; the factor of enlargement.
        padding: ``"valid"`` keeps all that is added to; ``"same"`` gives ``length * stride`` places.
        output_padding: how much longer than its least length each axis of the output is; ``None`` for the rule above.
        data_format: ``"channels_last"`` or ``"channels_first"``.
        dilation_rate: the distance between what neighbouring entries of the kernel add to.
        activation: a name or function, applied last.
        use_bias: whether to add a number per filter.
        kernel_initializer: how the kernel, of shape ``(*kernel_size, filters, channels)``, is drawn.
        bias_initializer: how the bias, of shape ``(filters,)``, starts.
        kernel_regularizer: a penalty on the kernel.
        bias_regularizer: a penalty on the bias.
        activity_regularizer: a penalty on the output.
        kernel_constraint: applied to the kernel after each update.
        bias_constraint: applied to the bias after each update.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        output_padding: Sizes | None = None,
        data_format: str | None = None,
        dilation_rate: Sizes = 1,
        activation: Activation = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            kernel_size,
            strides,
            padding,
            data_format,
            dilation_rate,
            activation,
            use_bias,
            activity_regularizer=activity_regularizer,
            **kwargs,
        )
        self.check_counts(filters=filters)
        self.filters = filters
        self.output_padding = None if output_padding is None else self.per_axis("output_padding", output_padding, 0)
        if self.output_padding and any(p >= s for p, s in zip(self.output_padding, self.strides, strict=True)):
            raise ConfigError(
                f"{type(self).__name__} expects output_padding below strides; received output_padding="
                f"{self.output_padding} and strides={self.strides}"
            )
        self.keep(kernel_initializer=kernel_initializer, bias_initializer=bias_initializer)
        self.keep(kernel_regularizer=kernel_regularizer, bias_regularizer=bias_regularizer)
        self.keep(kernel_constraint=kernel_constraint, bias_constraint=bias_constraint)

    def build(self, input_shape: Shape) -> None:
        self.kernel = self.weight("kernel", (*self.kernel_size, self.filters, self.channels(input_shape)))
        if self.use_bias:
            self.bias = self.weight("bias", (self.filters,))

    def call(self, inputs: Array) -> Array:
        settings = (self.strides, self.padding, self.output_padding, self.dilation_rate)
        return self.convolved(kernels.conv_transpose, inputs, *settings)


@registry.register("layers", "Convolution1D")
class Conv1D(Conv):
    """A convolution over ``(batch, steps, channels)``; arguments as in :class:`Conv`.

    >>> Conv1D(4, 3, padding="causal").compute_output_shape((2, 10, 8))
    (2, 10, 4)
    """

    rank = 1
    paddings = ("causal",)


@registry.register("layers", "Convolution2D")
class Conv2D(Conv):
    """A convolution over ``(batch, height, width, channels)``; arguments as in :class:`Conv`.

    >>> Conv2D(4, 3, activation="relu").compute_output_shape((2, 28, 28, 1))
    (2, 26, 26, 4)
    """

    rank = 2


@registry.register("layers", "Convolution3D")
class Conv3D(Conv):
    """A convolution over ``(batch, depth, height, width, channels)``; arguments as in :class:`Conv`.

    >>> Conv3D(4, 3, padding="same").compute_output_shape((2, 3, 5, 5, 1))
    (2, 3, 5, 5, 4)
    """

    rank = 3


@registry.register("layers", "Convolution1DTranspose")
class Conv1DTranspose(ConvTranspose):
    """A transposed convolution over ``(batch, steps, channels)``; arguments as in :class:`ConvTranspose`.

    >>> Conv1DTranspose(4, 3, strides=2, padding="same").compute_output_shape((2, 5, 8))
    (2, 10, 4)
    """

    rank = 1


@registry.register("layers", "Convolution2DTranspose")
class Conv2DTranspose(ConvTranspose):
    """A transposed convolution over ``(batch, height, width, channels)``; arguments as in :class:`ConvTranspose`.

    >>> Conv2DTranspose(4, 3, strides=2, padding="same").compute_output_shape((2, 7, 7, 8))
    (2, 14, 14, 4)
    """

    rank = 2


@registry.register("layers", "Convolution3DTranspose")
class Conv3DTranspose(ConvTranspose):
    """A transposed convolution over ``(batch, depth, height, width, channels)``; see :class:`ConvTranspose`.

    >>> Conv3DTranspose(4, 2, strides=2).compute_output_shape((2, 2, 3, 3, 1))
    (2, 4, 6, 6, 4)
    """

    rank = 3


Convolution1D, Convolution2D, Convolution3D = Conv1D, Conv2D, Conv3D
Convolution1DTranspose, Convolution2DTranspose, Convolution3DTranspose = (
    Conv1DTranspose,
    Conv2DTranspose,
    Conv3DTranspose,
)
