import jax.numpy as jnp
import numpy as np
import pytest

from lamina.core.errors import ShapeError
from lamina.kernels.slopes import gelu_tanh
from lamina.layers import Dense
from tests.golden.make_dense import CASES
from tests.layers.golden import check


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_equals_keras(case):
    check(case, "dense")


@pytest.mark.parametrize("activation", [None, "relu", gelu_tanh, "sigmoid"])
def test_rows_that_are_not_present_give_zeros(activation):
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    present = np.arange(5) < np.array([[4], [2]])
    layer = Dense(4, activation, bias_initializer="ones")
    whole = np.array(layer(x))
    whole[~present] = 0
    np.testing.assert_allclose(layer(x, present=present), whole, rtol=0, atol=1e-6)
    np.testing.assert_allclose(layer(x, present.astype("float32")), whole, rtol=0, atol=1e-6)


def test_present_has_a_truth_value_for_each_row():
    x = jnp.ones((2, 2))
    np.testing.assert_array_equal(Dense(1, "relu", kernel_initializer="ones")(x, [True, False]), [[2], [0]])
    with pytest.raises(ShapeError, match=r"expected present of shape \(2, 5\).+received shape \(2, 4\)"):
        Dense(4)(jnp.ones((2, 5, 3)), present=jnp.ones((2, 4), bool))
