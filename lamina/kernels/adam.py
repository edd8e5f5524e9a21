"""Adam's update: natively in one look at each number, where XLA has a pass for each moment and one for the weights.

A large kernel's is worked out with its gradient, block by block: what waits for memory in the one hides behind the other.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core.typing import Array
from lamina.kernels.kernel_gradient import KERNEL_GRADIENT, factors, kernel_gradient
from lamina.kernels.operation import Operation, call

#: name -> array
Arrays = dict[str, Array]

#: a variable of so many numbers is updated in a call of its own, as soon as its gradient is there
LARGE = 1 << 16


def adam_rule(
    g: Array, m: Array, v: Array, rate: Any, *, beta_1: float, beta_2: float, epsilon: float
) -> tuple[Array, Array, Array]:
    r"""The change :math:`-\alpha m / (\sqrt{v} + \epsilon)` of a variable, and its next moments :math:`m` and :math:`v`.

    Args:
        g: the gradient.
        m: its running mean.
        v: the running mean of its square.
        rate: :math:`\alpha`.
        beta_1: the share of :math:`m` that stays.
        beta_2: the share of :math:`v` that stays.
        epsilon: :math:`\epsilon`.
    """
    m, v = next_moments(g, m, v, beta_1, beta_2)
    return -m * rate / (jnp.sqrt(v) + epsilon), m, v


def next_moments(g: Array, m: Array, v: Array, beta_1: float, beta_2: float) -> tuple[Array, Array]:
    """The next running means of a gradient and of its square."""
    return m + (g - m) * (1 - beta_1), v + (jnp.square(g) - v) * (1 - beta_2)


def adam(
    gradients: Arrays,
    values: Arrays,
    momentum: Arrays,
    velocity: Arrays,
    rate: Any,
    *,
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> tuple[Arrays, Arrays, Arrays]:
    """The next values of variables, and their next moments, by :func:`adam_rule`.

    Args:
        gradients: by the variables' names.
        values: of the variables.
        momentum: their first moments.
        velocity: their second moments.
        rate: see the rule.
        beta_1: see the rule.
        beta_2: see the rule.
        epsilon: see the rule.

    >>> one = {"w": jnp.array([1.0])}
    >>> values, momentum, _ = adam(one, one, one, one, 0.5, beta_1=0.9, beta_2=0.999, epsilon=0.0)
    >>> values["w"].tolist(), momentum["w"].tolist()
    ([0.5], [1.0])
    """
    large = [name for name, value in values.items() if value.size >= LARGE]
    small = [name for name in values if name not in large]
    new: tuple[Arrays, Arrays, Arrays] = ({}, {}, {})
    rate = jnp.asarray(rate, jnp.result_type(*values.values()))
    settings = {"beta_1": beta_1, "beta_2": beta_2, "epsilon": epsilon}
    for names in [[name] for name in large] + [small] * bool(small):
        arrays = [each[name] for name in names for each in (gradients, values, momentum, velocity)]
        product = factors(arrays[0]) if len(names) == 1 else None
        operation, given = (ADAM_OF_KERNEL, [*product, *arrays[1:]]) if product else (ADAM, arrays)
        found = operation(rate, *given, **settings)
        for i, each in enumerate(new):
            each |= dict(zip(names, found[i::3], strict=True))
    return new


def _portable(rate: Array, *arrays: Array, **settings: float) -> list[Array]:
    results = []
    for g, w, m, v in _by_four(arrays):
        change, m, v = adam_rule(g, m, v, rate, **settings)
        results += [(w + change).astype(w.dtype), m, v]
    return results


def _native(rate: Array, *arrays: Array, **settings: float) -> Any:
    shapes = [jax.ShapeDtypeStruct(a.shape, "float32") for four in _by_four(arrays) for a in four[1:]]
    in_place = {2 + i // 3 * 4 + i % 3: i for i in range(len(shapes))}
    return call("adam", shapes, rate, *arrays, in_place=in_place, **_numbers(**settings))


def _numbers(beta_1: float, beta_2: float, epsilon: float) -> dict[str, np.float32]:
    """The shares of what is new in each moment, and what is added to the root."""
    return {"new_1": np.float32(1 - beta_1), "new_2": np.float32(1 - beta_2), "epsilon": np.float32(epsilon)}


def _of_kernel_portable(rate: Array, x: Array, gradient: Array, *arrays: Array, **settings: float) -> list[Array]:
    return _portable(rate, kernel_gradient(x, gradient), *arrays, **settings)


def _of_kernel_native(rate: Array, x: Array, gradient: Array, *arrays: Array, **settings: float) -> Any:
    shapes = [jax.ShapeDtypeStruct(a.shape, "float32") for a in arrays]
    in_place = {3: 0, 4: 1, 5: 2}
    return call("adam_of_kernel", shapes, rate, x, gradient, *arrays, in_place=in_place, **_numbers(**settings))


def _of_kernel_supports(rate: Any, x: Any, gradient: Any, *arrays: Any, **settings: float) -> bool:
    kernel = jax.ShapeDtypeStruct((x.shape[1], gradient.shape[1]), gradient.dtype)
    return KERNEL_GRADIENT.is_native(x, gradient) and _supports(rate, kernel, *arrays)


def _by_four(arrays: Sequence[Any]) -> list[Sequence[Any]]:
    return [arrays[i : i + 4] for i in range(0, len(arrays), 4)]


def _supports(rate: Any, *arrays: Any, **settings: float) -> bool:
    same = all(array.shape == four[0].shape for four in _by_four(arrays) for array in four)
    return rate.shape == () and same and all(array.dtype == "float32" for array in (rate, *arrays))


ADAM = Operation("adam", _portable, multiple=True, native=_native, targets=["adam"], supports=_supports)
ADAM_OF_KERNEL = Operation(
    "adam_of_kernel",
    _of_kernel_portable,
    multiple=True,
    native=_of_kernel_native,
    targets=["adam_of_kernel"],
    supports=_of_kernel_supports,
)
