import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina.core.errors import ConfigError, ShapeError
from lamina.core.masks import get_mask
from lamina.core.registry import custom_objects, deserialize, serialize
from lamina.layers.activation import ELU, LeakyReLU, PReLU, ReLU, Softmax
from lamina.layers.core import Masking
from lamina.layers.function import Identity, Lambda
from tests.golden.make_normalization import ACTIVATION
from tests.layers.golden import check


@pytest.mark.parametrize("case", ACTIVATION, ids=lambda case: case.name)
def test_equals_keras(case):
    check(case, "normalization")


def test_softmax_masked_whole_is_zero_with_finite_gradient():
    mask = jnp.array([[True, False, True], [False, False, False]])
    x = jnp.array([[1.0, 5.0, 1.0], [1.0, 2.0, 3.0]])
    np.testing.assert_allclose(Softmax()(x, mask=mask), [[0.5, 0, 0.5], [0, 0, 0]], atol=1e-7)
    gradient = jax.grad(lambda x: jnp.sum(Softmax()(x, mask=mask) * x))(x)
    assert bool(jnp.isfinite(gradient).all())
    np.testing.assert_array_equal(gradient[1], 0)


def test_softmax_takes_a_mask_of_steps_and_one_of_numbers():
    x = jnp.zeros((2, 3, 4))
    y = Softmax()(x, mask=jnp.array([[1, 1, 0], [1, 0, 0]]))
    np.testing.assert_allclose(y.sum(-1), [[1, 1, 0], [1, 0, 0]])
    with pytest.raises(ShapeError, match="a mask that broadcasts to its input"):
        Softmax()(x, mask=jnp.ones((5, 3), bool))


@pytest.mark.parametrize(
    "make",
    [
        lambda: ReLU(max_value=-1),
        lambda: ReLU(negative_slope=None),
        lambda: LeakyReLU(-0.1),
        lambda: ELU("a"),
        lambda: PReLU(shared_axes=[0]),
        lambda: Softmax(axis=None),
        lambda: Lambda(3),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(ConfigError, match="expects"):
        make()


def test_identity_hands_structures_on():
    x, y = Identity()([jnp.ones(2), jnp.zeros(3)])
    assert (x.shape, y.shape) == ((2,), (3,))


def halve(x, by=2.0):
    return x / by


def test_lambda_with_a_named_function_is_saved_by_name():
    made = Lambda(halve, arguments={"by": 4.0})
    np.testing.assert_array_equal(made(jnp.ones((1, 2))), [[0.25, 0.25]])
    saved = serialize(made)
    assert saved["config"]["function"] == {"function": "custom.halve"}
    with custom_objects({"halve": halve}):
        again = deserialize(saved)
    np.testing.assert_array_equal(again(jnp.ones((1, 2))), [[0.25, 0.25]])
    with pytest.raises(ConfigError, match="not registered"):
        deserialize(saved)


def test_lambda_without_a_name_runs_but_is_not_saved():
    made = Lambda(lambda x: x + 1, name="plus")
    np.testing.assert_array_equal(made(jnp.zeros((1, 1))), [[1.0]])
    with pytest.raises(ConfigError, match=r"'plus' \(Lambda\) cannot be saved.*no\ncode|cannot be saved"):
        made.get_config()


def test_lambda_fills_training_and_mask():
    seen = {}

    def look(x, mask=None, training=None):
        seen.update(mask=mask, training=training)
        return x

    layer = Lambda(look, mask=lambda inputs, mask: mask)
    x = Masking()(jnp.array([[[1.0], [0.0]]]))
    y = layer(x, training=True)
    assert seen["training"] is True
    np.testing.assert_array_equal(seen["mask"], [[True, False]])
    np.testing.assert_array_equal(get_mask(y), [[True, False]])
