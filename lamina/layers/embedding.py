"""Embedding: a vector for each whole number."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core import registry
from lamina.core.errors import ConfigError, DataError, ShapeError
from lamina.core.lookups import set_lookup
from lamina.core.shapes import Shape
from lamina.core.state import Array
from lamina.kernels.embedding import take_rows
from lamina.layers.base import Layer, layer

__all__ = ["Embedding"]


@layer
class Embedding(Layer):
    """A table with a vector for each whole number from 0 up to and without ``input_dim``.

    Args:
        input_dim: how many numbers there are: the size of the vocabulary.
        output_dim: the length of each vector.
        embeddings_initializer: how the table, ``(input_dim, output_dim)``, is drawn.
        embeddings_regularizer: a penalty on the table.
        embeddings_constraint: applied to the table after each update.
        mask_zero: whether 0 stands for padding, which is masked in the layers that follow.
        weights: the table to start from, instead of drawing one.

    Input of any shape, whole numbers (floats are cut off); output the same shape with an axis of ``output_dim`` more.

    Raises:
        DataError: for a number outside the table. Inside compiled code, where numbers cannot be looked at, its vector
            is NaN.

    >>> Embedding(10, 4)(jnp.array([[1, 2, 9]])).shape
    (1, 3, 4)
    """

    supports_masking = True
    input_dtype = "int32"

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        weights: Any = None,
        **kwargs: Any,
    ) -> None:
        # Programs written for older Keras still give it; the length of the input tells itself.
        kwargs.pop("input_length", None)
        super().__init__(**kwargs)
        for name, value in (("input_dim", input_dim), ("output_dim", output_dim)):
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise ConfigError(f"Embedding expects {name} as a whole number of at least 1; received {value!r}")
        self.input_dim = int(input_dim)
        self.output_dim = int(output_dim)
        self.embeddings_initializer = registry.get("initializers", embeddings_initializer)
        self.embeddings_regularizer = registry.get("regularizers", embeddings_regularizer)
        self.embeddings_constraint = registry.get("constraints", embeddings_constraint)
        self.mask_zero = mask_zero
        self._table = self._given_table(weights)

    @classmethod
    def config_names(cls) -> list[str]:
        # The table is saved as a weight.
        return [name for name in super().config_names() if name != "weights"]

    def _given_table(self, weights: Any) -> np.ndarray | None:
        if weights is None:
            return None
        table = np.asarray(weights[0] if isinstance(weights, list) and len(weights) == 1 else weights)
        if table.shape != (self.input_dim, self.output_dim):
            raise ShapeError(
                f"Embedding({self.input_dim}, {self.output_dim}) expects weights of shape "
                f"{(self.input_dim, self.output_dim)}; received {table.shape}"
            )
        return table

    def build(self, input_shape: Shape) -> None:
        table = self._table
        self.embeddings = self.add_weight(
            (self.input_dim, self.output_dim),
            self.embeddings_initializer if table is None else lambda shape, dtype: jnp.asarray(table, dtype),
            regularizer=self.embeddings_regularizer,
            constraint=self.embeddings_constraint,
            name="embeddings",
        )

    def _arrays(self, tree: Any) -> Any:
        # Numbers given as floats become whole before a compute dtype of half precision could round them.
        def whole(x: Any) -> Any:
            if not isinstance(x, np.ndarray | jax.Array):
                return x
            x = jnp.asarray(x)
            return x if jnp.issubdtype(x.dtype, jnp.integer) else x.astype("int32")

        return jax.tree.map(whole, tree)

    def compute_mask(self, inputs: Array, previous_mask: Any = None) -> Any:
        return inputs != 0 if self.mask_zero else previous_mask

    def call(self, inputs: Array) -> Array:
        if not isinstance(inputs, jax.core.Tracer):
            self.check_values(np.asarray(inputs))
        # Looked up before it is cast, so that only the rows needed are.
        table = self.embeddings.raw
        rows = take_rows(table, inputs).astype(self.compute_dtype)
        # Not outside compiled code, where the table would live as long as the rows do.
        if isinstance(rows, jax.core.Tracer) and rows.dtype == table.dtype:
            set_lookup(rows, table, inputs)
        return rows

    def check_values(self, inputs: np.ndarray) -> None:
        """Refuse numbers that have no vector; a compiled step cannot, so ``fit`` asks before it starts.

        Raises:
            DataError: naming the first, and the size that would do.
        """
        wrong = inputs[(inputs < 0) | (inputs >= self.input_dim)]
        if wrong.size:
            advice = (
                "Number the items from 0 on."
                if wrong.min() < 0
                else f"Write:  Embedding({int(wrong.max()) + 1}, {self.output_dim})"
            )
            raise DataError(
                f"layer {self.name!r} (Embedding) has vectors for 0 to {self.input_dim - 1}; received "
                f"{wrong.size} numbers outside, the first {wrong[0]}.\n{advice}"
            )
