import jax.numpy as jnp

from lamina.core.registry import register
from lamina.layers import activation, function
from tests.catalogue import Case


@register("tests")
def double_tanh(x):
    return 2 * jnp.tanh(x)


CASES = [
    Case(lambda: activation.ReLU(max_value=1.5, negative_slope=0.1, threshold=0.2), ((2, 3, 4),), masked=True),
    Case(lambda: activation.LeakyReLU(), ((2, 3, 4),), masked=True),
    Case(lambda: activation.ELU(alpha=0.5), ((2, 3, 4),), masked=True),
    Case(lambda: activation.PReLU(alpha_initializer="ones"), ((2, 3, 4),), masked=True),
    Case(lambda: activation.PReLU(shared_axes=[1, 2]), ((2, 3, 3, 2),), label="shared"),
    Case(lambda: activation.Softmax(), ((2, 3, 4),), masked=True),
    Case(lambda: activation.Softmax(axis=(1, 2)), ((2, 3, 4),), label="axes"),
    Case(lambda: function.Identity(), ((2, 3, 4),), masked=True),
    Case(lambda: function.Lambda(double_tanh), ((2, 3, 4),)),
]
