"""Attention in several heads, each with projections of its own."""

import math
import string
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from lamina.core import registry
from lamina.core.errors import ConfigError, ShapeError
from lamina.core.shapes import Shape
from lamina.core.state import Array
from lamina.kernels import attention as kernels
from lamina.kernels.normalization import positive_axes
from lamina.layers.attention import checked_rate, drop
from lamina.layers.base import Layer, layer
from lamina.layers.einsum import EinsumDense

__all__ = ["GroupQueryAttention", "MultiHeadAttention"]


def _checked_size(owner: Layer, name: str, size: Any) -> int:
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ConfigError(f"{type(owner).__name__} expects {name} as a whole number of at least 1; received {size!r}")
    return size


class _HeadedAttention(Layer):
    """Attention in several heads, each with projections of its own."""

    supports_masking = True
    #: heads of queries, heads of keys and values, the size of keys and that of values
    _sizes: tuple[int, int, int, int]
    #: the axes that attention is over, and the shape of a result; see MultiHeadAttention
    attention_axes: tuple[int, ...] | None = None
    output_shape: tuple[int, ...] | None = None

    def __init__(
        self,
        *,
        dropout: float = 0.0,
        use_bias: bool = True,
        sliding_window: int | None = None,
        flash_attention: bool | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        use_gate: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.dropout, self.use_bias, self.use_gate, self.seed = checked_rate(self, dropout), use_bias, use_gate, seed
        self.sliding_window = None if sliding_window is None else _checked_size(self, "sliding_window", sliding_window)
        self.flash_attention = flash_attention
        self.kernel_initializer = registry.get("initializers", kernel_initializer)
        self.bias_initializer = registry.get("initializers", bias_initializer)
        self.kernel_regularizer = registry.get("regularizers", kernel_regularizer)
        self.bias_regularizer = registry.get("regularizers", bias_regularizer)
        self.kernel_constraint = registry.get("constraints", kernel_constraint)
        self.bias_constraint = registry.get("constraints", bias_constraint)

    def build(self, query_shape: Shape, value_shape: Shape, key_shape: Shape | None = None) -> None:
        key_shape = key_shape or value_shape
        if (
            value_shape is None
            or len({len(query_shape), len(value_shape), len(key_shape)}) > 1
            or (value_shape[1:-1] != key_shape[1:-1])
        ):
            raise ShapeError(
                f"layer {self.name!r} ({type(self).__name__}) expected query, value and key of shape (batch, steps, "
                "features), value and key with the same steps; received shapes "
                f"{query_shape}, {value_shape}, {key_shape}.\nWrite:  {type(self).__name__}(...)(query, value)"
            )
        heads, key_heads, key_dim, value_dim = self._sizes
        self.query = self._projection("query", query_shape, 1, (heads, key_dim))
        self.key = self._projection("key", key_shape, 1, (key_heads, key_dim))
        if self.use_gate:
            self.gate = self._projection("gate", query_shape, 1, (heads, value_dim), activation="sigmoid")
        self.value = self._projection("value", value_shape, 1, (key_heads, value_dim))
        results = self.output_shape or (self.axis_length(query_shape, -1),)
        self.attention_output = self._projection(
            "attention_output", (*query_shape[:-1], heads, value_dim), 2, results, activity_regularizer=None
        )

    def _projection(self, name: str, shape: Shape, summed: int, results: Sequence[int], **kwargs: Any) -> EinsumDense:
        """A layer that replaces the last ``summed`` axes by ``results``."""
        letters = string.ascii_lowercase[: len(shape)]
        kept, gone = letters[:-summed], letters[-summed:]
        made = string.ascii_uppercase[: len(results)]
        settings = {
            "kernel_initializer": self.kernel_initializer,
            "bias_initializer": self.bias_initializer,
            "kernel_regularizer": self.kernel_regularizer,
            "bias_regularizer": self.bias_regularizer,
            "activity_regularizer": self.activity_regularizer,
            "kernel_constraint": self.kernel_constraint,
            "bias_constraint": self.bias_constraint,
            "dtype": self.dtype_policy,
        } | kwargs
        projection = EinsumDense(
            f"{kept}{gone},{gone}{made}->{kept}{made}",
            output_shape=(*(None,) * (len(kept) - 1), *results),
            bias_axes=made if self.use_bias else None,
            name=name,
            **settings,
        )
        projection.build_from({"inputs": shape})
        return projection

    def call(
        self,
        query: Array,
        value: Array,
        key: Array | None = None,
        query_mask: Array | None = None,
        value_mask: Array | None = None,
        key_mask: Array | None = None,
        attention_mask: Array | None = None,
        return_attention_scores: bool = False,
        training: bool = False,
        use_causal_mask: bool = False,
    ) -> Any:
        axes = positive_axes(self.attention_axes or tuple(range(1, query.ndim - 1)), query.ndim)
        free = [axis for axis in range(1, query.ndim - 1) if axis not in axes]
        order = [0, *free, *axes, query.ndim - 1, query.ndim]
        batch = [query.shape[axis] for axis in (0, *free)]
        steps, keys = ([x.shape[axis] for axis in axes] for x in (query, value))

        def rows(x: Array) -> Array:  # (batch, steps, heads, dim), whatever the axes
            x = x.transpose(order)
            return x.reshape(math.prod(batch), -1, *x.shape[-2:])

        weights = kernels.attention_weights(
            rows(self.query(query)),
            rows(self.key(value if key is None else key)),
            mask=_full_mask(query_mask, [value_mask, key_mask], attention_mask, batch, steps, keys),
            causal=use_causal_mask,
            window=self.sliding_window,
        )
        dropped = drop(weights, self.dropout, self.seed, training)
        taken = kernels.weighted_sum(dropped, rows(self.value(value)))
        taken = taken.reshape(*batch, *steps, *taken.shape[-2:])
        taken = taken.transpose([order.index(axis) for axis in range(len(order))])
        result = self.attention_output(taken * self.gate(query) if self.use_gate else taken)
        if return_attention_scores:
            return result, weights.reshape(*batch, -1, *steps, *keys)
        return result

    def compute_output_shape(self, query_shape: Shape, value_shape: Any = None, key_shape: Any = None) -> Shape:
        """The shape of the output: that of the query, with ``output_shape`` in place of its last axis."""
        return (*query_shape[:-1], *(self.output_shape or query_shape[-1:]))

    @property
    def query_dense(self) -> EinsumDense:
        """The projection of queries."""
        return self.query

    @property
    def key_dense(self) -> EinsumDense:
        """The projection of keys."""
        return self.key

    @property
    def value_dense(self) -> EinsumDense:
        """The projection of values."""
        return self.value

    @property
    def output_dense(self) -> EinsumDense:
        """The projection of what the heads give together."""
        return self.attention_output


def _full_mask(
    query_mask: Array | None,
    key_masks: Sequence[Array | None],
    attention_mask: Array | None,
    batch: Sequence[int],
    steps: Sequence[int],
    keys: Sequence[int],
) -> Array | None:
    """All masks as one that broadcasts to ``(batch, heads, steps, keys)``, each of these maybe several axes in one."""
    many = len(steps)
    masks = [] if attention_mask is None else [attention_mask.astype(bool)]
    if query_mask is not None:
        masks.append(query_mask.astype(bool).reshape(query_mask.shape + (1,) * many))
    for mask in key_masks:
        if mask is not None:
            masks.append(mask.astype(bool).reshape(mask.shape[:1] + (1,) * many + mask.shape[1:]))
    result: Array | None = None
    for mask in masks:
        heads_at = mask.ndim - 2 * many
        missing = len(batch) + 1 - heads_at
        if any(m not in (1, n) for m, n in zip(mask.shape[heads_at:], [*steps, *keys], strict=True)) or missing < 0:
            raise ShapeError(
                f"attention expected masks that broadcast to (batch, heads, {steps} queries, {keys} keys); "
                f"received shape {mask.shape}"
            )
        mask = mask.reshape(mask.shape[:heads_at] + (1,) * missing + mask.shape[heads_at:])
        result = mask if result is None else jnp.logical_and(result, mask)
    if result is None or len(batch) == many == 1:
        return result
    heads = result.shape[len(batch)]
    result = jnp.broadcast_to(result, (*batch, heads, *steps, *keys))
    return result.reshape(math.prod(batch), heads, math.prod(steps), math.prod(keys))


@layer
class MultiHeadAttention(_HeadedAttention):
    r"""Multi-head attention: in each head :math:`\mathrm{softmax}(Q K^T / \sqrt{d}) V` of projected inputs.

    Args:
        num_heads: the number of heads.
        key_dim: the size of each head's queries and keys, :math:`d`.
        value_dim: the size of each head's values; ``key_dim`` if none is given.
        dropout: the fraction of weights to drop in training.
        use_bias: whether the projections have biases.
        output_shape: the last axis, or axes, of the output; that of the query if none is given.
        attention_axes: the axes that attention is over; all but the batch and the features if none are given.
        sliding_window: see only keys less than this many positions away.
        flash_attention: accepted; which kernel runs is the library's choice.
        kernel_initializer: how the projections' kernels are drawn.
        bias_initializer: how their biases start.
        kernel_regularizer: a penalty on the kernels.
        bias_regularizer: a penalty on the biases.
        activity_regularizer: a penalty on the projections' outputs.
        kernel_constraint: applied to the kernels after each update.
        bias_constraint: applied to the biases after each update.
        use_gate: whether what a head takes is multiplied by a gate, :math:`\sigma` of another projection of the query.
        seed: mixed into the key that dropout draws from.

    Called with a query, a value and, where it is another array, a key: shapes ``(batch, queries, features)`` and
    ``(batch, keys, features)``. ``attention_mask``, ``(batch, queries, keys)``, is True where a query may see a key;
    the masks of query, value and key (``query_mask`` and so on) say which steps count; with ``use_causal_mask`` a query
    sees keys up to its own position. A query that sees nothing takes zeros. With ``return_attention_scores`` the
    weights, ``(batch, heads, queries, keys)``, come as well.

    Vaswani et al. (2017), https://arxiv.org/abs/1706.03762; the gate: https://arxiv.org/abs/2505.06708

    >>> x = jnp.ones((2, 5, 8))
    >>> MultiHeadAttention(num_heads=2, key_dim=4)(x, x, use_causal_mask=True).shape
    (2, 5, 8)
    """

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        output_shape: int | Sequence[int] | None = None,
        attention_axes: int | Sequence[int] | None = None,
        sliding_window: int | None = None,
        flash_attention: bool | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        use_gate: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            dropout=dropout,
            use_bias=use_bias,
            sliding_window=sliding_window,
            flash_attention=flash_attention,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            use_gate=use_gate,
            seed=seed,
            **kwargs,
        )
        self.num_heads = _checked_size(self, "num_heads", num_heads)
        self.key_dim = _checked_size(self, "key_dim", key_dim)
        self.value_dim = self.key_dim if value_dim is None else _checked_size(self, "value_dim", value_dim)
        self.output_shape = self._sizes_of("output_shape", output_shape)
        for size in self.output_shape or ():
            _checked_size(self, "output_shape", size)
        self.attention_axes = self._sizes_of("attention_axes", attention_axes)
        self._sizes = (self.num_heads, self.num_heads, self.key_dim, self.value_dim)

    def _sizes_of(self, name: str, given: int | Sequence[int] | None) -> tuple[int, ...] | None:
        if given is None or isinstance(given, int):
            return None if given is None else (given,)
        if isinstance(given, str) or not all(isinstance(n, int) for n in given):
            raise ConfigError(f"MultiHeadAttention expects {name} as a whole number or several; received {given!r}")
        return tuple(given) or None


@layer
class GroupQueryAttention(_HeadedAttention):
    """Grouped-query attention: several heads of queries share one head of keys and values.

    With one head of keys it is multi-query attention; with as many as there are heads of queries, multi-head attention.

    Args:
        head_dim: the size of each head.
        num_query_heads: the number of heads of queries.
        num_key_value_heads: the number of heads of keys and values, a divisor of it.
        dropout: the fraction of weights to drop in training.
        use_bias: whether the projections have biases.
        sliding_window: see only keys less than this many positions away.
        flash_attention: accepted; which kernel runs is the library's choice.
        kernel_initializer: how the projections' kernels are drawn.
        bias_initializer: how their biases start.
        kernel_regularizer: a penalty on the kernels.
        bias_regularizer: a penalty on the biases.
        activity_regularizer: a penalty on the projections' outputs.
        kernel_constraint: applied to the kernels after each update.
        bias_constraint: applied to the biases after each update.
        use_gate: whether what a head takes is multiplied by a gate; see :class:`MultiHeadAttention`.
        seed: mixed into the key that dropout draws from.

    Called as :class:`MultiHeadAttention` is.

    Ainslie et al. (2023), https://arxiv.org/abs/2305.13245

    >>> x = jnp.ones((2, 5, 8))
    >>> GroupQueryAttention(head_dim=4, num_query_heads=4, num_key_value_heads=2)(x, x).shape
    (2, 5, 8)
    """

    def __init__(
        self,
        head_dim: int,
        num_query_heads: int,
        num_key_value_heads: int,
        dropout: float = 0.0,
        use_bias: bool = True,
        sliding_window: int | None = None,
        flash_attention: bool | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        use_gate: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            dropout=dropout,
            use_bias=use_bias,
            sliding_window=sliding_window,
            flash_attention=flash_attention,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            use_gate=use_gate,
            seed=seed,
            **kwargs,
        )
        self.head_dim = _checked_size(self, "head_dim", head_dim)
        self.num_query_heads = _checked_size(self, "num_query_heads", num_query_heads)
        self.num_key_value_heads = _checked_size(self, "num_key_value_heads", num_key_value_heads)
        if num_query_heads % num_key_value_heads:
            raise ConfigError(
                f"GroupQueryAttention expects num_query_heads as a multiple of num_key_value_heads; "
                f"received {num_query_heads} and {num_key_value_heads}"
            )
        self._sizes = (num_query_heads, num_key_value_heads, head_dim, head_dim)
