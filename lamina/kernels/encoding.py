"""Whole numbers as vectors: one-hot, multi-hot and counts."""

from typing import Any

import jax
import jax.numpy as jnp

from lamina.core.typing import Array, Integer, Real


def encode(
    indices: Integer[Array, "*shape"],
    mode: str,
    depth: int,
    dtype: Any = "float32",
    weights: Real[Array, "*shape"] | None = None,
) -> Real[Array, "*vectors {depth}"]:
    """Indices as vectors of length ``depth``; what lies outside ``0 <= index < depth`` leaves no trace.

    Args:
        indices: whole numbers, shape ``(..., n)``.
        mode: ``"one_hot"``, ``(..., n, depth)``, or ``(..., depth)`` where ``n`` is 1 and not the only axis;
            ``"multi_hot"``, ``(..., depth)`` with 1 where an index is among the ``n``; ``"count"``, ``(..., depth)``
            with how often it is.
        depth: the length of the vectors.
        dtype: the dtype of the result.
        weights: what each index adds in ``"count"``, in the shape of ``indices``; 1 by default.

    >>> encode(jnp.array([[0, 2, 2]]), "count", 4).tolist()
    [[1.0, 0.0, 2.0, 0.0]]
    """
    indices = jnp.atleast_1d(indices)
    if mode == "one_hot":
        indices = indices[..., 0] if indices.ndim > 1 and indices.shape[-1] == 1 else indices
        return jax.nn.one_hot(indices, depth, dtype=dtype)
    columns = jnp.where((indices >= 0) & (indices < depth), indices, depth).reshape(-1, indices.shape[-1])
    rows = jnp.arange(columns.shape[0])[:, None]
    cells = jnp.zeros((columns.shape[0], depth), dtype).at[rows, columns]
    if mode == "multi_hot":
        out = cells.set(1, mode="drop")
    else:
        out = cells.add(1 if weights is None else weights.reshape(columns.shape).astype(dtype), mode="drop")
    return out.reshape(*indices.shape[:-1], depth)
