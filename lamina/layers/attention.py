"""Attention: each query takes from all values, by the likeness of query and key."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from lamina.core import random
from lamina.core.errors import ConfigError, ShapeError
from lamina.core.shapes import Shape
from lamina.core.state import Array
from lamina.kernels import attention as kernels
from lamina.layers.base import Layer, layer

__all__ = ["AdditiveAttention", "Attention"]

Masks = Sequence[Array | None] | None


def checked_rate(owner: Layer, rate: float) -> float:
    """``rate`` if it is a fraction that dropout can take, or a ConfigError."""
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
        raise ConfigError(f"{type(owner).__name__} expects dropout as a number from 0 to below 1; received {rate!r}")
    return rate


def drop(weights: Array, rate: float, seed: int | None, training: bool) -> Array:
    """``weights`` with the fraction ``rate`` dropped in training."""
    if not training or not rate:
        return weights
    key = random.next_key()
    return random.dropout(weights, rate, key=key if seed is None else jax.random.fold_in(key, seed))


class _ListAttention(Layer):
    """Attention without heads, called on ``[query, value]`` or ``[query, value, key]``."""

    supports_masking = True
    dropout: float
    seed: int | None

    def check_inputs(self, shapes: Any) -> None:
        """Raise a ShapeError unless these are the shapes of two or three arrays of three axes."""
        many = isinstance(shapes, list | tuple) and all(isinstance(shape, list | tuple) for shape in shapes)
        if not many or len(shapes) not in (2, 3) or any(len(shape) != 3 for shape in shapes):
            raise ShapeError(
                f"layer {self.name!r} ({type(self).__name__}) expected [query, value] or [query, value, key], each of "
                f"shape (batch, steps, dim); received {shapes}.\nWrite:  {type(self).__name__}()([query, value])"
            )

    def scores(self, query: Array, key: Array) -> Array:
        """How alike each query and key are: shape ``(batch, queries, keys)``."""
        raise NotImplementedError

    def call(
        self,
        inputs: Sequence[Array],
        mask: Masks = None,
        training: bool = False,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> Any:
        query, value = inputs[:2]
        key = inputs[2] if len(inputs) == 3 else value
        if key.shape[1] != value.shape[1] or key.shape[2] != query.shape[2]:
            raise ShapeError(
                f"layer {self.name!r} ({type(self).__name__}) expected a key for each value, of the query's length; received "
                f"query {query.shape}, value {value.shape} and key {key.shape}.\n"
                f"Write:  Dense({query.shape[2]})  before the shorter or longer one."
            )
        query_mask, value_mask = (mask[0], mask[1]) if mask is not None else (None, None)
        seen = kernels.band_mask(query.shape[1], key.shape[1], use_causal_mask)
        if value_mask is not None:
            counts = value_mask.astype(bool)[:, None, :]
            seen = counts if seen is None else jnp.logical_and(counts, seen)
        weights = kernels.masked_softmax(self.scores(query, key), seen)
        result = jnp.matmul(drop(weights, self.dropout, self.seed, training), value)
        if query_mask is not None:
            result = jnp.where(query_mask.astype(bool)[:, :, None], result, 0)
        return (result, weights) if return_attention_scores else result

    def compute_mask(self, inputs: Any, previous_mask: Masks = None) -> Array | None:
        """The query's mask."""
        return previous_mask[0] if isinstance(previous_mask, list | tuple) else None


@layer
class Attention(_ListAttention):
    r"""Dot-product attention, :math:`\mathrm{softmax}(Q K^T) V`.

    Args:
        use_scale: whether the scores are multiplied by a learned number :math:`s`.
        score_mode: ``"dot"``, or ``"concat"`` for scores :math:`c \sum \tanh(s (q + k))` with a learned :math:`c`.
        dropout: the fraction of weights to drop in training.
        seed: mixed into the key that dropout draws from.

    Called on ``[query, value]`` or ``[query, value, key]``: shapes ``(batch, queries, dim)``, ``(batch, keys,
    value_dim)`` and ``(batch, keys, dim)``; the value is the key too if there is none. The output has shape ``(batch,
    queries, value_dim)``. With ``return_attention_scores`` the weights, ``(batch, queries, keys)``, come as well; with
    ``use_causal_mask`` a query sees keys up to its own position. ``mask`` is that of the query, whose masked steps
    become zero, and of the value, whose masked steps are not seen.

    Luong et al. (2015), https://arxiv.org/abs/1508.04025

    >>> Attention()([jnp.ones((2, 3, 4)), jnp.ones((2, 5, 4))]).shape
    (2, 3, 4)
    """

    def __init__(
        self,
        use_scale: bool = False,
        score_mode: str = "dot",
        dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if score_mode not in ("dot", "concat"):
            raise ConfigError(f"Attention expects score_mode as 'dot' or 'concat'; received {score_mode!r}")
        self.use_scale, self.score_mode, self.seed = use_scale, score_mode, seed
        self.dropout = checked_rate(self, dropout)

    def build(self, input_shape: list[Shape]) -> None:
        self.check_inputs(input_shape)
        if self.use_scale:
            self.scale = self.add_weight((), "ones", name="scale")
        if self.score_mode == "concat":
            self.concat_score_weight = self.add_weight((), "ones", name="concat_score_weight")

    def scores(self, query: Array, key: Array) -> Array:
        scale = self.scale.value if self.use_scale else 1
        if self.score_mode == "dot":
            return jnp.einsum("bqd,bkd->bqk", query, key) * scale
        return self.concat_score_weight.value * jnp.sum(jnp.tanh(scale * (query[:, :, None] + key[:, None])), -1)


@layer
class AdditiveAttention(_ListAttention):
    r"""Additive attention: scores :math:`\sum_i s_i \tanh(q_i + k_i)`.

    Args:
        use_scale: whether :math:`s` is learned; ones otherwise.
        dropout: the fraction of weights to drop in training.
        seed: mixed into the key that dropout draws from.

    Called as :class:`Attention` is.

    Bahdanau et al. (2014), https://arxiv.org/abs/1409.0473
    """

    def __init__(self, use_scale: bool = True, dropout: float = 0.0, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.use_scale, self.seed = use_scale, seed
        self.dropout = checked_rate(self, dropout)

    def build(self, input_shape: list[Shape]) -> None:
        self.check_inputs(input_shape)
        if self.use_scale:
            self.scale = self.add_weight((self.axis_length(input_shape[0], -1),), "glorot_uniform", name="scale")

    def scores(self, query: Array, key: Array) -> Array:
        terms = jnp.tanh(query[:, :, None] + key[:, None])
        return jnp.matmul(terms, self.scale.value) if self.use_scale else jnp.sum(terms, -1)
