"""Layers around a layer: Bidirectional, TimeDistributed, SpectralNormalization."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp

from lamina.core import registry
from lamina.core.errors import ConfigError, ShapeError
from lamina.core.shapes import Shape, map_shapes
from lamina.core.state import Array, Variable
from lamina.layers.base import InputSpec, Layer, layer

__all__ = ["Bidirectional", "SpectralNormalization", "TimeDistributed", "Wrapper"]


@layer
class Wrapper(Layer):
    """The base of layers that change what one other layer does.

    Args:
        layer: the layer inside.
    """

    def __init__(self, layer: Layer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.layer = _checked(layer, type(self).__name__)

    @property
    def mixes_rows(self) -> bool:
        """Whether rows of a batch influence each other in the layer inside."""
        return self.layer.mixes_rows

    def build(self, input_shape: Any) -> None:
        if not self.layer.built:
            self.layer.build_from({"inputs": input_shape})

    def call(self, inputs: Any) -> Any:
        return self.layer(inputs)


def _checked(inner: Any, wrapper: str) -> Layer:
    if not isinstance(inner, Layer):
        raise ConfigError(f"{wrapper} wraps a layer; received {inner!r}.\nWrite:  {wrapper}(LSTM(8)), for example.")
    return inner


@layer
class Bidirectional(Layer):
    """A recurrent layer run forwards and another backwards over the same sequences.

    Args:
        layer: the recurrent layer; a fresh one with its configuration runs forwards.
        merge_mode: how the two outputs become one: ``"concat"``, ``"sum"``, ``"mul"``, ``"ave"``, or ``None`` for a
            pair of them.
        weights: weights to start from: those of the forward layer, then those of the backward layer.
        backward_layer: the layer that runs backwards; one with the configuration of ``layer`` by default.

    Called as ``layer`` is; ``initial_state`` holds the states of the forward layer, then those of the backward layer.
    Outputs of masked steps are zero. With ``return_state``, the states of both follow the output.

    Schuster and Paliwal 1997, *Bidirectional recurrent neural networks*.

    >>> from lamina.layers.recurrent import LSTM
    >>> Bidirectional(LSTM(4, return_sequences=True))(jnp.ones((2, 5, 3))).shape
    (2, 5, 8)
    """

    supports_masking = True

    def __init__(
        self,
        layer: Layer,
        merge_mode: str | None = "concat",
        weights: Any = None,
        backward_layer: Layer | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _checked(layer, "Bidirectional")
        if merge_mode not in ("concat", "sum", "mul", "ave", None):
            raise ConfigError(
                f'Bidirectional expects merge_mode as "concat", "sum", "mul", "ave" or None; received {merge_mode!r}'
            )
        self.merge_mode = merge_mode
        self.forward_layer: Any = _like(layer, "forward")
        if backward_layer is None:
            backward_layer = _like(layer, "backward", go_backwards=not getattr(layer, "go_backwards", False))
        self.backward_layer: Any = _checked(backward_layer, "Bidirectional")
        self._check_pair()
        each: Any
        for each in (self.forward_layer, self.backward_layer):
            if hasattr(each, "zero_output_for_mask"):
                each.zero_output_for_mask = each.return_sequences
        self.input_spec = layer.input_spec
        self._weights = None if weights is None else list(weights)

    @classmethod
    def config_names(cls) -> list[str]:
        # Weights are saved as such.
        return [name for name in super().config_names() if name != "weights"]

    def _check_pair(self) -> None:
        for name in ("go_backwards", "return_sequences", "return_state", "stateful"):
            forward, backward = (getattr(x, name, None) for x in (self.forward_layer, self.backward_layer))
            if forward is None or backward is None:
                raise ConfigError(f"Bidirectional wraps a recurrent layer; {self.layer!r} has no {name!r}")
            if (forward == backward) == (name == "go_backwards"):
                raise ConfigError(
                    f"Bidirectional expects {'opposite' if name == 'go_backwards' else 'equal'} values of {name!r} in "
                    f"both layers; received {forward!r} and {backward!r}.\nLeave backward_layer out to have it made."
                )

    @property
    def layer(self) -> Any:
        """The layer that runs forwards."""
        return self.forward_layer

    @property
    def return_sequences(self) -> bool:
        """Whether the outputs of all steps are given."""
        return self.forward_layer.return_sequences

    @property
    def return_state(self) -> bool:
        """Whether the last states are given."""
        return self.forward_layer.return_state

    @property
    def stateful(self) -> bool:
        """Whether states are kept from batch to batch."""
        return self.forward_layer.stateful

    @property
    def states(self) -> list[Variable] | None:
        """The states kept from batch to batch: of the forward layer, then of the backward layer."""
        forward, backward = self.forward_layer.states, self.backward_layer.states
        return None if forward is None or backward is None else [*forward, *backward]

    def reset_state(self) -> None:
        """Let stateful layers start afresh."""
        self.forward_layer.reset_state()
        self.backward_layer.reset_state()

    reset_states = reset_state

    def build(self, input_shape: Shape) -> None:
        for each in (self.forward_layer, self.backward_layer):
            if not each.built:
                each.build_from({"inputs": input_shape})
        if self._weights is not None:
            self._start_from(self._weights)

    def _start_from(self, weights: list[Any]) -> None:
        own = [variable.shape for variable in self.weights]
        if own != [jnp.shape(value) for value in weights]:
            raise ShapeError(
                f"layer {self.name!r} (Bidirectional) has weights of shapes {own}; received "
                f"{[jnp.shape(value) for value in weights]}"
            )
        for variable, value in zip(self.weights, weights, strict=True):
            variable.stored = jnp.asarray(value, variable.dtype)

    def call(self, sequences: Array, initial_state: Any = None, mask: Any = None) -> Any:
        options: dict[str, Any] = {} if mask is None else {"mask": mask}
        forward, backward = dict(options), dict(options)
        if initial_state is not None:
            half = len(initial_state) // 2
            forward["initial_state"], backward["initial_state"] = initial_state[:half], initial_state[half:]
        ahead, back = self.forward_layer(sequences, **forward), self.backward_layer(sequences, **backward)
        states: tuple[Any, ...] = ()
        if self.return_state:
            states = (*ahead[1:], *back[1:])
            ahead, back = ahead[0], back[0]
        if self.return_sequences:
            back = jnp.flip(back, 1)
        output = self._merge(ahead, back)
        if self.merge_mode is None:
            return (*output, *states)
        return (output, *states) if states else output

    def _merge(self, ahead: Array, back: Array) -> Any:
        if self.merge_mode == "concat":
            return jnp.concatenate([ahead, back], axis=-1)
        if self.merge_mode == "sum":
            return ahead + back
        if self.merge_mode == "ave":
            return (ahead + back) / 2
        return ahead * back if self.merge_mode == "mul" else (ahead, back)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        mask = previous_mask[0] if isinstance(previous_mask, list | tuple) else previous_mask
        mask = mask if self.return_sequences else None
        masks = [mask] if self.merge_mode else [mask, mask]
        if self.return_state:
            masks += [None] * 2 * len(self.forward_layer.state_size)
        return masks[0] if len(masks) == 1 else masks


def _like(inner: Layer, prefix: str, **changes: Any) -> Layer:
    """A fresh layer with the configuration of ``inner`` and a name of its own."""
    name = f"{prefix}_{inner.name.removeprefix(f'{prefix}_')}"
    # Cells of the user's own need not be registered: they are at hand.
    with registry.custom_objects({type(x).__name__: type(x) for x in inner.modules().values()}):
        return type(inner).from_config({**inner.get_config(), "name": name, **changes})


@layer
class TimeDistributed(Wrapper):
    """A layer applied to every step of sequences, with the same weights.

    Args:
        layer: the layer inside; steps and batch become one axis for it.

    Input ``(batch, steps, ...)``, or a list of such; output ``(batch, steps, ...)``. A mask ``(batch, steps)`` travels
    on; one with more axes, ``(batch, steps, ...)``, is handed to the layer inside.

    >>> from lamina.layers.core import Dense
    >>> TimeDistributed(Dense(4))(jnp.ones((2, 5, 3))).shape
    (2, 5, 4)
    """

    supports_masking = True

    def build(self, input_shape: Any) -> None:
        def step(shape: Shape) -> Shape:
            if len(shape) < 3:
                raise ShapeError(
                    f"layer {self.name!r} (TimeDistributed) expected an input (batch, steps, ...); received shape "
                    f"{shape}.\nGive it sequences, or use the layer inside by itself."
                )
            return (shape[0], *shape[2:])

        super().build(map_shapes(step, input_shape))

    def call(self, inputs: Any, mask: Any = None) -> Any:
        batch, steps = jax.tree.leaves(inputs)[0].shape[:2]
        options = {}
        if mask is not None:
            if isinstance(mask, list | tuple):
                mask = mask[0]
            if mask.shape[:2] != (batch, steps):
                raise ShapeError(
                    f"layer {self.name!r} (TimeDistributed) expected a mask whose shape begins with (batch, steps) = "
                    f"{(batch, steps)}; received {mask.shape}"
                )
            if mask.ndim > 2 and "mask" in inspect.signature(self.layer.call).parameters:
                options["mask"] = mask.reshape(-1, *mask.shape[2:])
        outputs = self.layer(jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), inputs), **options)
        return jax.tree.map(lambda x: x.reshape(batch, steps, *x.shape[1:]), outputs)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        mask = previous_mask[0] if isinstance(previous_mask, list | tuple) else previous_mask
        if mask is None or mask.ndim == 2:
            return mask
        inner = self.layer.compute_mask(inputs, mask.reshape(-1, *mask.shape[2:]))
        # A step counts if anything in it does.
        return (
            mask.any(tuple(range(2, mask.ndim))) if inner is None else inner.reshape(*mask.shape[:2], *inner.shape[1:])
        )


@layer
class SpectralNormalization(Wrapper):
    r"""A layer whose kernel is divided by its largest singular value at every training call.

    The value :math:`\sigma = v W u^T` is found by power iteration, :math:`v = u W^T / |u W^T|` and
    :math:`u = v W / |v W|`, which goes on from call to call.

    Args:
        layer: a layer with a ``kernel`` or ``embeddings``.
        power_iterations: rounds of the iteration at each call.

    Raises:
        ConfigError: if the layer has neither.

    Miyato et al. 2018, *Spectral normalization for generative adversarial networks*.

    >>> from lamina.layers.core import Dense
    >>> SpectralNormalization(Dense(4))(jnp.ones((2, 3))).shape
    (2, 4)
    """

    supports_masking = True

    def __init__(self, layer: Layer, power_iterations: int = 1, **kwargs: Any) -> None:
        super().__init__(layer, **kwargs)
        if isinstance(power_iterations, bool) or not isinstance(power_iterations, int) or power_iterations < 1:
            raise ConfigError(
                "SpectralNormalization expects power_iterations as a whole number of at least 1; received "
                f"{power_iterations!r}"
            )
        self.power_iterations = power_iterations
        self.input_dtype = layer.input_dtype

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        kernel = getattr(self.layer, "kernel", getattr(self.layer, "embeddings", None))
        if not isinstance(kernel, Variable):
            raise ConfigError(
                f"SpectralNormalization wraps a layer with a kernel or embeddings, as Dense or Conv2D; "
                f"{type(self.layer).__name__} has neither"
            )
        # Named here too, as in Keras, where it comes first among the weights.
        self.kernel = kernel
        self.vector_u = self.add_weight(
            (1, kernel.shape[-1]),
            registry.get("initializers", "truncated_normal", stddev=0.02),
            trainable=False,
            autocast=False,
            name="vector_u",
        )
        self.input_spec = InputSpec(min_ndim=1)

    def call(self, inputs: Array, training: bool = False) -> Array:
        if training:
            self._normalize()
        return self.layer(inputs)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return self.layer.compute_mask(inputs, previous_mask) if self.layer.supports_masking else None

    def _normalize(self) -> None:
        kernel, u = self.kernel.raw, self.vector_u.raw
        matrix = kernel.reshape(-1, kernel.shape[-1])
        fixed = jax.lax.stop_gradient(matrix)
        for _ in range(self.power_iterations):
            v = _unit(jnp.matmul(u, fixed.T))
            u = _unit(jnp.matmul(v, fixed))
        sigma = jnp.squeeze(v @ matrix @ u.T)
        # A kernel of zeros has no direction; it stays as it is.
        usable = jnp.any(fixed != 0)
        self.vector_u.assign(jnp.where(usable, u, self.vector_u.raw))
        self.kernel.assign(kernel / jnp.where(usable, sigma, 1))


def _unit(x: Array) -> Array:
    """``x`` divided by its length."""
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x), 1e-12))
