"""Convolutions with fewer weights: depthwise and separable, in one and two dimensions."""

from typing import Any

from lamina.core import registry
from lamina.core.shapes import Shape
from lamina.core.state import Array
from lamina.kernels import convolution as kernels
from lamina.layers.convolution import Activation, BaseConv, Sizes

__all__ = [
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "SeparableConv1D",
    "SeparableConv2D",
    "SeparableConvolution1D",
    "SeparableConvolution2D",
]


class DepthwiseConv(BaseConv):
    """A convolution that keeps channels apart: each is convolved with kernels of its own.

    Args:
        kernel_size: the size of the window along each axis.
        strides: its steps.
        padding: ``"valid"`` or ``"same"``.
        depth_multiplier: the number of kernels per channel; the output has ``channels * depth_multiplier`` channels.
        data_format: ``"channels_last"`` or ``"channels_first"``.
        dilation_rate: the distance between what neighbouring entries of the window see.
        activation: a name or function, applied last.
        use_bias: whether to add a number per channel of the output.
        depthwise_initializer: how the kernel, of shape ``(*kernel_size, channels, depth_multiplier)``, is drawn.
        bias_initializer: how the bias, of shape ``(channels * depth_multiplier,)``, starts.
        depthwise_regularizer: a penalty on the kernel.
        bias_regularizer: a penalty on the bias.
        activity_regularizer: a penalty on the output.
        depthwise_constraint: applied to the kernel after each update.
        bias_constraint: applied to the bias after each update.
    """

    def __init__(
        self,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        dilation_rate: Sizes = 1,
        activation: Activation = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
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
        self.check_counts(depth_multiplier=depth_multiplier)
        self.depth_multiplier = depth_multiplier
        self.keep(depthwise_initializer=depthwise_initializer, bias_initializer=bias_initializer)
        self.keep(depthwise_regularizer=depthwise_regularizer, bias_regularizer=bias_regularizer)
        self.keep(depthwise_constraint=depthwise_constraint, bias_constraint=bias_constraint)

    def build(self, input_shape: Shape) -> None:
        channels = self.channels(input_shape)
        self.check_reach(input_shape)
        self.kernel = self.weight("depthwise_kernel", (*self.kernel_size, channels, self.depth_multiplier))
        if self.use_bias:
            self.bias = self.weight("bias", (channels * self.depth_multiplier,))

    def call(self, inputs: Array) -> Array:
        self.check_reach(inputs.shape)
        x = self.channels_last(inputs)
        return self.finish(kernels.depthwise_conv(x, self.kernel.value, self.strides, self.padding, self.dilation_rate))


class SeparableConv(BaseConv):
    """A depthwise convolution, which looks at places, then a mixing of channels: fewer weights than a full one.

    Args:
        filters: the number of filters.
        kernel_size: the size of the window along each axis.
        strides: its steps.
        padding: ``"valid"`` or ``"same"``; ``"causal"`` too in one dimension.
        data_format: ``"channels_last"`` or ``"channels_first"``.
        dilation_rate: the distance between what neighbouring entries of the window see.
        depth_multiplier: the number of depthwise kernels per channel.
        activation: a name or function, applied last.
        use_bias: whether to add a number per filter.
        depthwise_initializer: how the first kernel, of shape ``(*kernel_size, channels, depth_multiplier)``, is drawn.
        pointwise_initializer: how the second, of shape ``(1, ..., channels * depth_multiplier, filters)``, is drawn.
        bias_initializer: how the bias, of shape ``(filters,)``, starts.
        depthwise_regularizer: a penalty on the first kernel.
        pointwise_regularizer: a penalty on the second kernel.
        bias_regularizer: a penalty on the bias.
        activity_regularizer: a penalty on the output.
        depthwise_constraint: applied to the first kernel after each update.
        pointwise_constraint: applied to the second kernel after each update.
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
        depth_multiplier: int = 1,
        activation: Activation = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        pointwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        pointwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        pointwise_constraint: Any = None,
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
        self.check_counts(filters=filters, depth_multiplier=depth_multiplier)
        self.filters, self.depth_multiplier = filters, depth_multiplier
        self.keep(depthwise_initializer=depthwise_initializer, depthwise_regularizer=depthwise_regularizer)
        self.keep(pointwise_initializer=pointwise_initializer, pointwise_regularizer=pointwise_regularizer)
        self.keep(depthwise_constraint=depthwise_constraint, pointwise_constraint=pointwise_constraint)
        self.keep(bias_initializer=bias_initializer, bias_regularizer=bias_regularizer, bias_constraint=bias_constraint)

    def build(self, input_shape: Shape) -> None:
        channels = self.channels(input_shape)
        self.check_reach(input_shape)
        inner = channels * self.depth_multiplier
        self.depthwise_kernel = self.weight("depthwise_kernel", (*self.kernel_size, channels, self.depth_multiplier))
        self.pointwise_kernel = self.weight("pointwise_kernel", (*(1,) * self.rank, inner, self.filters))
        if self.use_bias:
            self.bias = self.weight("bias", (self.filters,))

    def call(self, inputs: Array) -> Array:
        self.check_reach(inputs.shape)
        return self.finish(
            kernels.separable_conv(
                self.channels_last(inputs),
                self.depthwise_kernel.value,
                self.pointwise_kernel.value,
                self.strides,
                self.padding,
                self.dilation_rate,
            )
        )


@registry.register("layers")
class DepthwiseConv1D(DepthwiseConv):
    """A depthwise convolution over ``(batch, steps, channels)``; arguments as in :class:`DepthwiseConv`.

    >>> DepthwiseConv1D(3, depth_multiplier=2).compute_output_shape((2, 10, 8))
    (2, 8, 16)
    """

    rank = 1
    paddings = ("causal",)


@registry.register("layers")
class DepthwiseConv2D(DepthwiseConv):
    """A depthwise convolution over ``(batch, height, width, channels)``; arguments as in :class:`DepthwiseConv`.

    >>> DepthwiseConv2D(3).compute_output_shape((2, 5, 5, 8))
    (2, 3, 3, 8)
    """

    rank = 2


@registry.register("layers", "SeparableConvolution1D")
class SeparableConv1D(SeparableConv):
    """A separable convolution over ``(batch, steps, channels)``; arguments as in :class:`SeparableConv`.

    >>> SeparableConv1D(4, 3, padding="same").compute_output_shape((2, 10, 8))
    (2, 10, 4)
    """

    rank = 1
    paddings = ("causal",)


@registry.register("layers", "SeparableConvolution2D")
class SeparableConv2D(SeparableConv):
    """A separable convolution over ``(batch, height, width, channels)``; arguments as in :class:`SeparableConv`.

    >>> SeparableConv2D(4, 3).compute_output_shape((2, 5, 5, 8))
    (2, 3, 3, 4)
    """

    rank = 2


SeparableConvolution1D, SeparableConvolution2D = SeparableConv1D, SeparableConv2D
