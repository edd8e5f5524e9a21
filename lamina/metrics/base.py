"""The Metric: a few variables that batches are added to, and one number read from them at the end."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core import allowance, registry
from lamina.core.config import config
from lamina.core.module import Module
from lamina.core.state import Array, Variable

#: what keeps quotients finite, as in Keras
EPSILON = 1e-7


class Total(Module):
    """A running sum kept as two floating-point numbers, the second one what the first one could not hold.

    One number of single precision stops counting at 2**24; the pair is exact to 2**48.

    Args:
        shape: the shape of the sum.
        dtype: the dtype of both parts.

    >>> total = Total()
    >>> for x in (2.0**24, 1.0, 1.0):
    ...     total.add(x)
    >>> int(total)
    16777218
    """

    def __init__(self, shape: Sequence[int] = (), dtype: Any = "float32") -> None:
        # The attributes' names say where the two parts stand in a checkpoint.
        self.high, self.low = _zeros(shape, dtype, "high"), _zeros(shape, dtype, "low")

    def add(self, x: Any) -> None:
        """Add ``x``, by Knuth's exact sum of two numbers."""
        high = self.high.raw
        x = jnp.asarray(x, high.dtype)
        total = high + x
        part = total - high
        lost = (high - (total - part)) + (x - part)
        self.low.assign(self.low.raw + jnp.where(jnp.isfinite(lost), lost, 0))
        self.high.assign(total)

    @property
    def value(self) -> Array:
        """The sum."""
        return self.high.raw + self.low.raw

    def __jax_array__(self) -> Array:
        return self.value

    def __int__(self) -> int:
        return int(self.high.raw) + int(self.low.raw)


class Metric(Module):
    """The base of all metrics.

    One of your own makes its variables in ``__init__``, changes them in ``update_state`` and computes its value in
    ``result``. All of it is ``jnp``, so that it runs inside the compiled step.

    Args:
        name: its name in logs; made from the class's name if none is given.
        dtype: the dtype it computes in; single precision, or double under a double policy, if none is given.

    >>> class Largest(Metric):
    ...     def __init__(self, name=None, dtype=None):
    ...         super().__init__(name, dtype)
    ...         self.largest = self.add_variable((), name="largest")
    ...     def update_state(self, y_true, y_pred, sample_weight=None):
    ...         self.largest.assign(jnp.maximum(self.largest, jnp.max(jnp.abs(y_true - y_pred))))
    ...     def result(self):
    ...         return self.largest.raw
    >>> float(Largest()(jnp.array([1.0, 2.0]), jnp.array([1.5, 2.0])))
    0.5
    """

    #: the name, where it is not the class's own in snake case
    default_name: ClassVar[str | None] = None
    #: whether the variables exist; a metric that needs the shapes first makes them in :meth:`build`
    built = True

    def __init__(self, name: str | None = None, dtype: Any = None) -> None:
        self.name = name or self.default_name or registry.snake_case(type(self).__name__)
        self.dtype = jnp.dtype(dtype or jnp.promote_types(config.dtype_policy.variable_dtype, "float32")).name

    def build(self, y_true_shape: Sequence[int], y_pred_shape: Sequence[int]) -> None:
        """Make the variables that depend on the shapes of targets and predictions."""

    def add_variable(
        self, shape: Sequence[int] = (), initializer: Any = "zeros", dtype: Any = None, name: str | None = None
    ) -> Variable:
        """A new variable; keep it as an attribute, whose name becomes part of its path.

        Args:
            shape: its shape.
            initializer: how it starts; :meth:`reset_state` makes it zero.
            dtype: its dtype; the metric's own by default.
            name: used in messages until the metric is part of a model.
        """
        made = _zeros(shape, dtype or self.dtype, f"{self.name}/{name or 'variable'}")
        if initializer not in ("zeros", None):
            with jax.ensure_compile_time_eval():
                made.stored = registry.get("initializers", initializer)(made.shape, dtype=made.dtype)
        return made

    add_weight = add_variable

    def add_total(self, shape: Sequence[int] = ()) -> Total:
        """A new :class:`Total` in the metric's dtype."""
        return Total(shape, self.dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take a batch into account.

        Args:
            y_true: the targets.
            y_pred: the predictions.
            sample_weight: a factor for each example; its axes are the first ones of the predictions' shape.

        Raises:
            ShapeError: if shapes do not fit together; nothing is stretched silently.
        """
        raise NotImplementedError(f"{type(self).__name__} has no update_state")

    def result(self) -> Array:
        """The value over everything since the last :meth:`reset_state`."""
        raise NotImplementedError(f"{type(self).__name__} has no result")

    def reset_state(self) -> None:
        """Forget everything."""
        for variable in self.variables:
            variable.assign(np.zeros(variable.shape, variable.raw.dtype))

    def __call__(self, *args: Any, **kwargs: Any) -> Array:
        self.update_state(*args, **kwargs)
        return self.result()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


def quotient(a: Any, b: Any) -> Array:
    """``a / b``, and zero where ``b`` is."""
    a, b = jnp.asarray(a), jnp.asarray(b)
    return jnp.where(b == 0, 0, a / jnp.where(b == 0, 1, b))


#: up to so many numbers, a second copy of them matters less than compiling a program
_FEW = 1 << 16


def _zeros(shape: Sequence[int], dtype: Any, name: str) -> Variable:
    instead = "lm.load_model(path, compile=False)"
    allowance.spend(f"a metric's variable {name!r}", numbers=math.prod(shape), instead=instead)
    with jax.ensure_compile_time_eval():
        # JAX compiles a program for the shape, and NumPy's zeros may be copied
        zeros = (np if math.prod(shape) <= _FEW else jnp).zeros(tuple(shape), jnp.dtype(dtype))
        return Variable(zeros, dtype=dtype, name=name, trainable=False, autocast=False)
