import jax.numpy as jnp
import pytest
from jaxtyping import TypeCheckError

from lamina.kernels import attention


def test_calls_that_contradict_a_signature_are_refused():
    x = jnp.ones((1, 3, 2, 4))
    with pytest.raises(TypeCheckError, match="parameter 'value'"):
        attention.dot_product_attention(x, x, jnp.ones((1, 5, 2, 4)))
    with pytest.raises(TypeCheckError, match="parameter 'query'"):
        attention.dot_product_attention(x.astype(int), x, x)
