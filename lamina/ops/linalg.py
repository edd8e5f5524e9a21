"""The functions of ``keras.ops.linalg``: factorizations, equations and norms, over the last two axes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lamina.core import registry
from lamina.core.state import Array
from lamina.ops.dispatch import like, op, public

cholesky = like(jnp.linalg.cholesky, "cholesky(x, upper=False)")
det = like(jnp.linalg.det, "det(x)")
eig = like(jnp.linalg.eig, "eig(x)")
eigh = like(jnp.linalg.eigh, "eigh(x)")
inv = like(jnp.linalg.inv, "inv(x)")
norm = like(jnp.linalg.norm, "norm(x, ord=None, axis=None, keepdims=False)")
qr = like(jnp.linalg.qr, "qr(x, mode='reduced')")
slogdet = like(jnp.linalg.slogdet, "slogdet(x)")
svd = like(jnp.linalg.svd, "svd(x, full_matrices=True, compute_uv=True)")


@op
def solve(a: Any, b: Any) -> Array:
    """The ``x`` with ``a @ x = b``.

    Args:
        a: shape ``(..., n, n)``.
        b: shape ``(..., n, k)``, or ``(..., n)`` with one axis less than ``a``.

    >>> solve([[2.0, 0.0], [0.0, 4.0]], [2.0, 2.0]).tolist()
    [1.0, 0.5]
    """
    return _columns(jnp.linalg.solve, jnp.asarray(a), jnp.asarray(b))


@op
def solve_triangular(a: Any, b: Any, lower: bool = False) -> Array:
    """The ``x`` with ``a @ x = b`` for a triangular ``a``; the other triangle is not read.

    Args:
        a: shape ``(..., n, n)``.
        b: shape ``(..., n, k)``, or ``(..., n)`` with one axis less than ``a``.
        lower: whether the lower triangle counts.
    """

    def substitute(a: Array, b: Array) -> Array:
        return jax.lax.linalg.triangular_solve(a, b, left_side=True, lower=lower)

    return _columns(substitute, jnp.asarray(a), jnp.asarray(b))


def _columns(solver: Callable[[Array, Array], Array], a: Array, b: Array) -> Array:
    return solver(a, b[..., None])[..., 0] if b.ndim == a.ndim - 1 else solver(a, b)


@op
def cholesky_inverse(x: Any, upper: bool = False) -> Array:
    """The inverse of the matrix whose Cholesky factor is ``x``, of shape ``(..., n, n)``."""
    x = jnp.asarray(x)
    lower = jnp.swapaxes(x, -1, -2) if upper else x
    identity = jnp.broadcast_to(jnp.eye(x.shape[-1], dtype=x.dtype), x.shape)
    inverse = jax.lax.linalg.triangular_solve(lower, identity, left_side=True, lower=True)
    return jnp.swapaxes(inverse, -1, -2) @ inverse


@op
def lu_factor(x: Any) -> tuple[Array, Array]:
    """Both triangular factors in one matrix, and the row that each row was exchanged with.

    Args:
        x: shape ``(..., m, n)``.

    Returns:
        The factors, shape ``(..., m, n)``, and whole numbers of shape ``(..., min(m, n))``.
    """
    factors, pivots, _ = jax.lax.linalg.lu(jnp.asarray(x))
    return factors, pivots


@op
def lstsq(a: Any, b: Any, rcond: float | None = None) -> Array:
    """The ``x`` for which ``a @ x`` is nearest to ``b``, the shortest one if there are several.

    Args:
        a: shape ``(m, n)``.
        b: shape ``(m,)`` or ``(m, k)``.
        rcond: singular values below this fraction of the largest count as zero.
    """
    return jnp.linalg.lstsq(a, b, rcond)[0]


@op
def pinv(x: Any, rcond: float | None = None) -> Array:
    """The pseudo-inverse of shape ``(..., n, m)``; singular values below ``rcond`` of the largest count as zero."""
    return jnp.linalg.pinv(jnp.asarray(x), rcond)


@op
def matrix_rank(x: Any, tol: float | None = None) -> Array:
    """The number of singular values above ``tol``; by default above rounding errors."""
    x = jnp.asarray(x)
    if tol is None:
        return jnp.linalg.matrix_rank(x)
    return jnp.sum(jnp.linalg.svd(x, compute_uv=False) > tol, axis=-1)


@registry.register("ops")
def jvp(fun: Callable[..., Any], primals: Any, tangents: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """The value of ``fun`` and its derivative in the direction of ``tangents``.

    Args:
        fun: ``(*primals) -> value``, or ``-> value, other`` with ``has_aux``.
        primals: where; a tuple or list of arrays.
        tangents: which way; arrays of the same shapes.
        has_aux: whether ``fun`` returns something else too, which comes last.

    >>> [float(y) for y in jvp(lambda x: x**2, (3.0,), (1.0,))]
    [9.0, 6.0]
    """
    return jax.jvp(fun, tuple(primals), tuple(tangents), has_aux=has_aux)


__all__ = public(__name__)
