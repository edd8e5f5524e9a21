"""A fully connected layer over any axes, given by an einsum equation."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp

from lamina.core import registry
from lamina.core.errors import ConfigError, ShapeError
from lamina.core.shapes import Shape
from lamina.core.state import Array
from lamina.initializers import VarianceScaling
from lamina.layers.base import InputSpec, Layer, layer

__all__ = ["EinsumDense"]

_EQUATION = re.compile(r"(\.\.\.)?([a-zA-Z]+)(\.\.\.)?,([a-zA-Z]+)->(\.\.\.)?([a-zA-Z]+)(\.\.\.)?")


@layer
class EinsumDense(Layer):
    """A fully connected layer whose sums are those of an einsum equation, :math:`y = f(einsum(x, W) + b)`.

    Args:
        equation: as ``"abc,cd->abd"``; ``...`` at the start or end of input and output stands for any other axes.
        output_shape: the shape of the output without the batch axis and those of ``...``; ``None`` in it stands for an
            axis that the input has too.
        activation: a name or function :math:`f`; the identity if none is given.
        bias_axes: the letters of the output's axes that the bias has; ``None`` for no bias.
        kernel_initializer: how the kernel is drawn; inputs and outputs are told apart by the equation.
        bias_initializer: how the bias starts.
        kernel_regularizer: a penalty on the kernel.
        bias_regularizer: a penalty on the bias.
        kernel_constraint: applied to the kernel after each update.
        bias_constraint: applied to the bias after each update.

    Raises:
        ConfigError: for an equation that is not of this form.
        ShapeError: if the input does not fit it.

    >>> EinsumDense("abc,cd->abd", output_shape=(None, 6), bias_axes="d")(jnp.ones((2, 3, 4))).shape
    (2, 3, 6)
    """

    def __init__(
        self,
        equation: str,
        output_shape: int | Sequence[int | None],
        activation: str | Callable[[Array], Array] | None = None,
        bias_axes: str | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.equation = equation
        self.output_shape = (output_shape,) if isinstance(output_shape, int) else tuple(output_shape)
        self.activation = registry.get("activations", activation)
        self.bias_axes = bias_axes
        self.kernel_initializer = registry.get("initializers", kernel_initializer)
        self.bias_initializer = registry.get("initializers", bias_initializer)
        self.kernel_regularizer = registry.get("regularizers", kernel_regularizer)
        self.bias_regularizer = registry.get("regularizers", bias_regularizer)
        self.kernel_constraint = registry.get("constraints", kernel_constraint)
        self.bias_constraint = registry.get("constraints", bias_constraint)
        self._parse()

    def _parse(self) -> None:
        found = _EQUATION.fullmatch(str(self.equation).replace(" ", ""))
        if found is None or found[1] != found[5] or found[3] != found[7] or (found[1] and found[3]):
            raise ConfigError(
                f"EinsumDense expects an equation such as 'ab,bc->ac', '...a,ab->...b' or 'ab...,bc->ac...'; "
                f"received {self.equation!r}"
            )
        self._before, self._inputs, self._after, self._kernel_letters, self._outputs = (
            bool(found[1]),
            found[2],
            bool(found[3]),
            found[4],
            found[6],
        )
        unknown = set(self._outputs) - set(self._inputs + self._kernel_letters)
        unused = set(self._kernel_letters) - set(self._inputs + self._outputs)
        missing = set(self.bias_axes or "") - set(self._outputs)
        if unknown or unused or missing:
            letters = "".join(sorted(unknown or unused or missing))
            where = "output but not the input or kernel" if unknown else "kernel but not the input or output"
            raise ConfigError(
                f"EinsumDense: {letters!r} stands in the {where if unknown or unused else 'bias but not the output'} "
                f"of {self.equation!r}"
            )

    def build(self, input_shape: Shape) -> None:
        hidden = len(input_shape) - len(self._inputs)
        if hidden < 0 or (hidden and not (self._before or self._after)):
            raise ShapeError(
                f"layer {self.name!r} (EinsumDense) expected an input of {len(self._inputs)} axes for "
                f"{self.equation!r}; received shape {input_shape}"
            )
        own = input_shape[hidden:] if self._before else input_shape[: len(self._inputs)]
        # the batch is the first letter's axis unless '...' hides it
        wanted = self.output_shape if self._before and hidden else (input_shape[0], *self.output_shape)
        if len(wanted) != len(self._outputs):
            raise ShapeError(
                f"layer {self.name!r} (EinsumDense) expected output_shape with one length for each axis of the output "
                f"of {self.equation!r} but the batch; received {self.output_shape}"
            )
        lengths = dict(zip(self._inputs, own, strict=True))
        for letter, length in zip(self._outputs, wanted, strict=True):
            if length is not None and lengths.get(letter) not in (None, length):
                raise ShapeError(
                    f"layer {self.name!r} (EinsumDense): axis {letter!r} of {self.equation!r} has length "
                    f"{lengths[letter]} in the input and {length} in output_shape"
                )
            lengths[letter] = lengths.get(letter) if length is None else length
        needed = [letter for letter in self._kernel_letters + (self.bias_axes or "") if lengths.get(letter) is None]
        if needed:
            raise ShapeError(
                f"layer {self.name!r} (EinsumDense) needs to know the length of axis {needed[0]!r} of {self.equation!r}"
                f" to make its weights; received shape {input_shape}"
            )
        self.kernel = self.add_weight(
            [lengths[letter] for letter in self._kernel_letters],
            self._drawn_by_axes(),
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
            name="kernel",
        )
        self.bias = None
        if self.bias_axes:
            trailing = self._outputs[min(self._outputs.index(letter) for letter in self.bias_axes) :]
            shape = [lengths[letter] if letter in self.bias_axes else 1 for letter in trailing]
            self.bias = self.add_weight(
                shape + [1] * (hidden if self._after else 0),
                self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
                name="bias",
            )
        self.input_spec = InputSpec(ndim=len(input_shape))

    def _drawn_by_axes(self) -> Any:
        """The kernel's initializer, told which of the kernel's axes are inputs and which are outputs."""
        drawn = self.kernel_initializer
        if not isinstance(drawn, VarianceScaling) or drawn.input_axes is not None:
            return drawn
        letters = enumerate(self._kernel_letters)
        axes: dict[bool, list[int]] = {True: [], False: []}
        for index, letter in letters:
            axes[letter in self._outputs].append(index)
        config = drawn.get_config() | {"input_axes": axes[False], "output_axes": axes[True]}
        return type(drawn).from_config(config)

    def call(self, inputs: Array) -> Array:
        x = jnp.einsum(self.equation, inputs, self.kernel.value)
        if self.bias is not None:
            x = x + self.bias.value
        return x if self.activation is None else self.activation(x)
