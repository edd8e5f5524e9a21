"""The Layer: weights made in ``build``, maths in ``call``, and everything around them done once, here."""

import contextvars
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core import allowance, registry, symbolic
from lamina.core.config import DtypePolicy
from lamina.core.errors import ConfigError, ShapeError, StateError, concise, nearest
from lamina.core.masks import masks_of, set_masks
from lamina.core.module import Module, set_values
from lamina.core.random import drawing_for
from lamina.core.shapes import TensorSpec, infer, map_shapes
from lamina.core.state import Array, Variable, compute_in, current_scope

#: whether the code that is running behaves as in training; None where nobody said
_training: contextvars.ContextVar[bool | None] = contextvars.ContextVar("training", default=None)
#: called with the path and the outputs of every layer that is called, while somebody looks for one
watching: contextvars.ContextVar[Callable[[str, Any], None] | None] = contextvars.ContextVar("watching", default=None)


class InputSpec:
    """What a layer expects of an input; checked at every call.

    Args:
        ndim: the number of axes.
        min_ndim: the least number of axes.
        axes: the length of some axes, as ``{axis: length}``.
    """

    def __init__(
        self, ndim: int | None = None, min_ndim: int | None = None, axes: dict[int, int | None] | None = None
    ) -> None:
        self.ndim, self.min_ndim, self.axes = ndim, min_ndim, dict(axes or {})

    def check(self, shape: Sequence[int | None], layer: "Layer") -> None:
        """Raise a ShapeError if ``shape`` is not as expected."""
        wanted = None
        if self.ndim is not None and len(shape) != self.ndim:
            wanted = f"{self.ndim} axes"
        elif self.min_ndim is not None and len(shape) < self.min_ndim:
            wanted = f"at least {self.min_ndim} axes"
        else:
            for axis, length in self.axes.items():
                if length is not None and shape[axis] is not None and shape[axis] != length:
                    wanted = f"length {length} along axis {axis}"
        if wanted:
            raise ShapeError(
                f"layer {layer.name!r} ({type(layer).__name__}) expected an input of {wanted}; received shape "
                f"{tuple(shape)}.\n{layer.shape_hint(tuple(shape))}"
            )


class Layer(Module):
    """The base of every layer.

    A layer of your own keeps its arguments as attributes of the same names, makes weights in ``build`` and computes in
    ``call``; its configuration, shapes, dtypes, masks and gradients follow.

    Args:
        name: its name, unique in a model; made from the class's name if none is given.
        dtype: the dtype policy, as ``"float32"`` or ``"mixed_bfloat16"``; the process's own if none is given.
        trainable: whether training changes its weights.
        activity_regularizer: a function of the output that is added to the loss.

    >>> class Scale(Layer):
    ...     def build(self, input_shape):
    ...         self.factor = self.add_weight((input_shape[-1],), initializer="ones")
    ...     def call(self, x):
    ...         return x * self.factor
    >>> Scale()(jnp.ones((2, 3))).shape
    (2, 3)
    """

    #: whether the layer takes sequences with masks, and hands the mask on
    supports_masking = False
    #: whether rows of a batch influence each other in training, so that a batch may not be padded
    mixes_rows = False
    #: whether whole numbers are read as real ones: the layer's results are fractions
    divides = False
    #: the dtype that inputs have where there is nothing to tell, for :meth:`compute_output_shape`
    input_dtype: str | None = None
    input_spec: Any = None
    built = False
    _called: symbolic.Call | None = None

    def __init__(
        self,
        *,
        name: str | None = None,
        dtype: Any = None,
        trainable: bool = True,
        activity_regularizer: Any = None,
        **unknown: Any,
    ) -> None:
        if unknown:
            wrong = next(iter(unknown))
            hint = (
                "The shape is given once, at the start:  lm.Input(shape)"
                if wrong in ("input_shape", "input_dim", "batch_input_shape", "input_length")
                else nearest(wrong, self.config_names())
            )
            raise ConfigError(f"{type(self).__name__} has no argument {wrong!r}. {hint}")
        allowance.spend(type(self).__name__, steps=1)
        self._given_name = name
        self._name: str | None = name
        self.dtype_policy = DtypePolicy.get(dtype)
        self._trainable = trainable
        self.activity_regularizer = registry.get("regularizers", activity_regularizer)

    # -- what a layer of one's own overrides -----------------------------------------------------------------------

    def build(self, input_shape: Any) -> None:
        """Make the weights. Called once, before the first ``call``.

        Args:
            input_shape: the shape of the first argument of ``call`` (a list or dictionary of shapes if it is one of
                arrays), with ``None`` for unknown axes. For several arguments, name them: ``build(self, query_shape,
                value_shape)`` for ``call(self, query, value)``.
        """

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """The maths. May take ``training`` and ``mask``, which are then filled in."""
        raise NotImplementedError(f"{type(self).__name__} has no call. Write:  def call(self, x): ...")

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """The mask of the output: that of the input, unless overridden."""
        return previous_mask

    def axis_length(self, shape: Sequence[int | None], axis: int) -> int:
        """The length of an axis that has to be known before weights can be made.

        Raises:
            ShapeError: if the axis is missing or of unknown length.
        """
        shape = tuple(shape or ())
        length = shape[axis] if len(shape) >= 2 else None
        if length is None:
            raise ShapeError(
                f"layer {self.name!r} ({type(self).__name__}) needs to know the length of axis {axis} of its input to "
                f"make its weights; received shape {shape}.\nGive it in Input, or reshape before this layer."
            )
        return length

    def shape_hint(self, shape: tuple[int | None, ...]) -> str:
        """The line that an error about the input's shape ends with."""
        return "Change the Input's shape or the layer before it."

    # -- what every layer has --------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The layer's name."""
        return self._name or registry.snake_case(type(self).__name__)

    @name.setter
    def name(self, new: str) -> None:
        self._name = new

    @property
    def dtype(self) -> str:
        """The name of the dtype policy."""
        return self.dtype_policy.name

    @property
    def compute_dtype(self) -> str:
        """The dtype of the layer's arithmetic and output."""
        return self.dtype_policy.compute_dtype

    @property
    def variable_dtype(self) -> str:
        """The dtype of the layer's weights."""
        return self.dtype_policy.variable_dtype

    @property
    def trainable(self) -> bool:
        """Whether training changes the weights, of the layers inside too; a change takes effect at the next step."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        for module in self.modules().values():
            if isinstance(module, Layer):
                module._trainable = bool(value)

    def add_weight(
        self,
        shape: Sequence[int] = (),
        initializer: Any = "glorot_uniform",
        *,
        dtype: Any = None,
        trainable: bool = True,
        autocast: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
        name: str | None = None,
    ) -> Variable:
        """A new weight; keep it as an attribute, whose name becomes part of its path.

        Args:
            shape: its shape.
            initializer: a name, an initializer, or a function ``(shape, dtype) -> array``.
            dtype: the dtype it is kept in; the policy's by default.
            trainable: whether gradients change it.
            autocast: whether it is read in the layer's compute dtype.
            regularizer: a name or function, added to the loss.
            constraint: a name or function, applied after each update.
            name: used in messages until the layer is part of a model.
        """
        return Variable(
            _drawing(registry.get("initializers", initializer)),
            shape=shape,
            dtype=dtype or self.variable_dtype,
            name=f"{self.name}/{name or 'weight'}",
            trainable=trainable,
            autocast=autocast,
            regularizer=registry.get("regularizers", regularizer),
            constraint=registry.get("constraints", constraint),
        )

    def add_loss(self, loss: Any) -> None:
        """Add a number to the loss of the step that is running."""
        scope = current_scope()
        if scope is not None:
            scope.losses.append(jnp.asarray(loss))

    @concise
    def __call__(self, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        allowance.spend(type(self).__name__, steps=1)
        if symbolic.any_symbolic((args, kwargs)):
            self._prepare(args, kwargs)
            if training is not None:
                kwargs = {**kwargs, "training": training}
            outputs = symbolic.record(self, *args, **kwargs)
            self._called = next(leaf.call for leaf in _leaves(outputs))
            return outputs
        masks = {name: masks_of(arg) for name, arg in _named(type(self), args, kwargs).items()}
        args, kwargs = self._arrays((args, kwargs))
        self._prepare(args, kwargs)
        parameters = _parameters(type(self).call)
        training = self._resolve_training(training)
        if "training" in parameters:
            kwargs["training"] = training
        first = next(iter(masks), "")
        for name in parameters:
            source = first if name == "mask" else name.removesuffix("_mask")
            if name.endswith("mask") and name not in kwargs and len(args) <= list(parameters).index(name):
                mask = masks.get(source)
                if any(leaf is not None for leaf in jax.tree.leaves(mask)):
                    kwargs[name] = mask
        scope = current_scope()
        path = (scope.paths.get(id(self)) if scope else None) or self.path or self.name
        token = _training.set(training)
        try:
            with drawing_for(path), compute_in(self.compute_dtype):
                outputs = self.call(*args, **kwargs)
        finally:
            _training.reset(token)
        if self.supports_masking:
            first_arg = args[0] if args else kwargs.get(first)
            set_masks(outputs, self.compute_mask(first_arg, kwargs.get("mask", masks.get(first))))
        if self.activity_regularizer is not None:
            for leaf in jax.tree.leaves(outputs):
                self.add_loss(self.activity_regularizer(leaf) / leaf.shape[0])
        if (listener := watching.get()) is not None:
            listener(path, outputs)
        return outputs

    @property
    def output(self) -> Any:
        """The symbolic results of the layer's last symbolic call, for a model that ends there.

        Raises:
            StateError: if it was never called on symbolic values.
        """
        return self._last_call().outputs

    @property
    def input(self) -> Any:
        """The symbolic input of the layer's last symbolic call, or a list of several."""
        inputs = self._last_call().inputs()
        return inputs[0] if len(inputs) == 1 else inputs

    def _last_call(self) -> symbolic.Call:
        if self._called is None:
            raise StateError(
                f"layer {self.name!r} was not called on symbolic values yet, so it has no symbolic input or output.\n"
                "Begin the model with lm.Input."
            )
        return self._called

    def _resolve_training(self, training: bool | None) -> bool:
        """Whether this call is one of training: the caller's word, the enclosing layer's, the scope's, or no."""
        if training is None:
            training = _training.get()
        scope = current_scope()
        if training is None and scope is not None:
            training = scope.training
        return bool(training)

    def _arrays(self, tree: Any) -> Any:
        """NumPy arrays as JAX ones, and floating ones in the compute dtype; whole numbers too where they are divided."""

        def convert(x: Any) -> Any:
            if isinstance(x, Variable):
                x = x.value
            if not isinstance(x, np.ndarray | jax.Array):
                return x
            x = jnp.asarray(x)
            return x.astype(self.compute_dtype) if jnp.issubdtype(x.dtype, real) else x

        real = jnp.number if self.divides else jnp.floating
        return jax.tree.map(convert, tree, is_leaf=lambda x: isinstance(x, Variable))

    def _prepare(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Check the input's shape and build the layer if this is its first call."""
        if not self.built or self.input_spec is not None:
            shapes = {name: _shape_of(arg) for name, arg in _named(type(self), args, kwargs).items()}
            if self.input_spec is not None and shapes:
                self._check(next(iter(shapes.values())))
            if not self.built:
                self.build_from(shapes)
                if self.input_spec is not None and shapes:
                    self._check(next(iter(shapes.values())))

    def _check(self, shapes: Any) -> None:
        specs = self.input_spec if isinstance(self.input_spec, list | tuple) else [self.input_spec]
        shapes = shapes if isinstance(shapes, list) else [shapes]
        for spec, shape in zip(specs, shapes, strict=False):
            if isinstance(shape, tuple):
                spec.check(shape, self)

    def build_from(self, shapes: dict[str, Any]) -> None:
        """Build with the shapes of the arguments of ``call``, by name."""
        wanted = list(inspect.signature(self.build).parameters)
        with jax.ensure_compile_time_eval():
            if len(wanted) == 1:
                self.build(next(iter(shapes.values()), None))
            else:
                self.build(**{name: shapes.get(name.removesuffix("_shape")) for name in wanted})
        self.built = True
        self.adopt(self.path or self._given_name or "")

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the output for an input of this shape, ``None`` for unknown axes."""
        dtype = self.input_dtype or self.compute_dtype
        specs = map_shapes(lambda shape: TensorSpec(shape, jnp.dtype(dtype)), input_shape)
        if not self.built:
            self.build_from({"inputs": input_shape})
        out = infer(lambda x: self(x), specs)
        return jax.tree.map(lambda spec: spec.shape, out, is_leaf=lambda x: isinstance(x, TensorSpec))

    @property
    def weights(self) -> list[Variable]:
        """All weights, in Keras's order."""
        return self.variables

    @property
    def trainable_weights(self) -> list[Variable]:
        """The weights that training changes."""
        return list(self.named_variables(trainable=True).values()) if self.trainable else []

    trainable_variables = trainable_weights

    @property
    def non_trainable_weights(self) -> list[Variable]:
        """The weights that gradients do not change."""
        return list(self.named_variables(trainable=False).values())

    non_trainable_variables = non_trainable_weights

    def get_weights(self) -> list[np.ndarray]:
        """The values of :attr:`weights`, as NumPy arrays."""
        return [variable.numpy() for variable in self.weights]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Give :attr:`weights` these values, in order.

        Raises:
            ShapeError: if their number or a shape differs.
        """
        set_values(self.weights, list(weights), f"{type(self).__name__} {self.name!r}")

    def count_params(self) -> int:
        """How many numbers the weights hold."""
        return sum(variable.size for variable in self.weights)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


def _drawing(initializer: Any) -> Any:
    """``initializer`` as a function ``(shape, dtype, key)``, whether or not it takes a key."""
    if not callable(initializer):
        return initializer
    try:
        takes_key = "key" in inspect.signature(initializer).parameters
    except (TypeError, ValueError):
        takes_key = False
    return (
        (lambda shape, dtype, key: initializer(shape, dtype=dtype, key=key))
        if takes_key
        else (lambda shape, dtype, key: initializer(shape, dtype=dtype))
    )


@functools.cache
def _parameters(call: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    parameters = dict(inspect.signature(call).parameters)
    parameters.pop("self", None)
    return parameters


def _named(cls: type[Layer], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of ``call`` that hold arrays, by name, in order."""
    names = [
        name
        for name, p in _parameters(cls.call).items()
        if p.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    ]
    names += [f"inputs_{index}" for index in range(len(names), len(args))]
    named = dict(zip(names, args, strict=False)) | kwargs
    return {name: arg for name, arg in named.items() if any(hasattr(leaf, "shape") for leaf in _leaves(arg))}


def _leaves(tree: Any) -> list[Any]:
    return jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, Variable) or symbolic.is_symbolic(x))


def _shape_of(arg: Any) -> Any:
    if isinstance(arg, dict):
        return {name: _shape_of(item) for name, item in arg.items()}
    if isinstance(arg, list | tuple):
        return [_shape_of(item) for item in arg]
    return tuple(arg.shape) if hasattr(arg, "shape") else None


def layer(cls: type[Layer]) -> type[Layer]:
    """Decorator: register a layer of Lamina's own under its name."""
    return registry.register("layers")(cls)


Initializer = Callable[..., Array]
