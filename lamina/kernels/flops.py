"""How much a program computes."""

import math
from typing import Any

from jax.extend.core import Var

from lamina.core.shapes import programs_in


def count_flops(jaxpr: Any) -> float:
    """Floating-point operations of a traced program: its products and convolutions, and one for each other result.

    An :class:`lamina.kernels.operation.Operation` counts as its portable form does, and a choice as its longest branch. What
    serves for nothing is not counted, as it is not compiled.

    >>> import jax, jax.numpy as jnp
    >>> closed = jax.make_jaxpr(lambda a, b: a @ b)(jnp.ones((2, 3)), jnp.ones((3, 4)))
    >>> count_flops(closed.jaxpr)
    48.0
    """
    total, wanted = 0.0, {out for out in jaxpr.outvars if isinstance(out, Var)}
    for equation in reversed(jaxpr.eqns):
        if not equation.effects and wanted.isdisjoint(equation.outvars):
            continue
        wanted.update(given for given in equation.invars if isinstance(given, Var))
        inner = programs_in(equation)
        size = float(sum(getattr(out.aval, "size", 0) for out in equation.outvars))
        if hasattr(equation.primitive, "flops"):
            total += equation.primitive.flops(*(given.aval for given in equation.invars), **equation.params)
        elif equation.primitive.name == "cond":
            total += max(count_flops(getattr(value, "jaxpr", value)) for value in inner)
        elif inner:
            times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
            total += times * sum(count_flops(getattr(value, "jaxpr", value)) for value in inner)
        elif equation.primitive.name == "dot_general":
            (contract, _), _ = equation.params["dimension_numbers"]
            total += 2 * size * float(math.prod(equation.invars[0].aval.shape[axis] for axis in contract))
        elif equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval
            outputs = kernel.shape[equation.params["dimension_numbers"].rhs_spec[0]]
            total += 2 * size * float(kernel.size) / outputs
        else:
            total += size
    return total
