import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina.core.config import set_random_seed
from lamina.core.errors import ConfigError, ShapeError
from lamina.core.state import bind
from lamina.layers import dropout

NOISY = [
    dropout.Dropout(0.3),
    dropout.SpatialDropout1D(0.3),
    dropout.GaussianNoise(0.3),
    dropout.GaussianDropout(0.3),
    dropout.AlphaDropout(0.3),
]


@pytest.mark.parametrize("layer", NOISY, ids=repr)
def test_nothing_happens_outside_training_or_at_zero(layer):
    x = jnp.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(layer(x), x)
    zero = type(layer)(0.0)
    np.testing.assert_array_equal(zero(x, training=True), x)


@pytest.mark.parametrize("layer", NOISY, ids=repr)
def test_draws_differ_and_repeat_with_the_seed(layer):
    x = jnp.ones((2, 30, 4))
    set_random_seed(1)
    first, second = layer(x, training=True), layer(x, training=True)
    set_random_seed(1)
    np.testing.assert_array_equal(layer(x, training=True), first)
    assert bool((first != second).any())
    set_random_seed(1)
    assert bool((type(layer)(0.3, seed=5)(x, training=True) != first).any())


def test_dropout_drops_the_rate_and_keeps_the_mean():
    y = dropout.Dropout(0.3)(jnp.ones((400, 500)), training=True)
    share = float((y == 0).mean())
    assert abs(share - 0.3) < 5 * (0.21 / 200_000) ** 0.5
    np.testing.assert_allclose(np.unique(y), [0, 1 / 0.7], rtol=1e-6)
    assert not dropout.Dropout(1.0)(jnp.ones((2, 3)), training=True).any()


def test_noise_shape_is_shared():
    y = dropout.Dropout(0.5, noise_shape=(None, 1, None))(jnp.ones((8, 5, 16)), training=True)
    np.testing.assert_array_equal(y, jnp.broadcast_to(y[:, :1], y.shape))
    assert 0 < float((y == 0).mean()) < 1


@pytest.mark.parametrize(
    ("layer", "shape", "axes"),
    [
        (dropout.SpatialDropout1D(0.5), (8, 5, 16), (1,)),
        (dropout.SpatialDropout2D(0.5), (8, 3, 4, 16), (1, 2)),
        (dropout.SpatialDropout2D(0.5, data_format="channels_first"), (8, 16, 3, 4), (2, 3)),
        (dropout.SpatialDropout3D(0.5), (8, 2, 3, 2, 16), (1, 2, 3)),
        (dropout.SpatialDropout3D(0.5, "channels_first"), (8, 16, 2, 3, 2), (2, 3, 4)),
    ],
)
def test_spatial_dropout_drops_whole_maps(layer, shape, axes):
    y = layer(jnp.ones(shape), training=True)
    np.testing.assert_array_equal(y.min(axes), y.max(axes))
    assert 0.2 < float((y == 0).mean()) < 0.8


def test_gaussian_noise_has_its_moments():
    x = jnp.full((400, 500), 2.0)
    noise = dropout.GaussianNoise(0.3)(x, training=True)
    np.testing.assert_allclose([noise.mean(), noise.std()], [2.0, 0.3], atol=5e-3)
    product = dropout.GaussianDropout(0.2)(x, training=True)
    np.testing.assert_allclose([product.mean(), product.std()], [2.0, 2.0 * 0.5], atol=1e-2)


def test_alpha_dropout_keeps_mean_and_variance():
    x = jax.random.normal(jax.random.key(0), (400, 500))
    y = dropout.AlphaDropout(0.4)(x, training=True)
    np.testing.assert_allclose([y.mean(), y.std()], [0.0, 1.0], atol=0.02)
    # what is dropped takes one value: -1.7581 scaled and shifted
    saturated, rate = -1.7580993408473766, 0.4
    factor = ((1 - rate) * (1 + rate * saturated**2)) ** -0.5
    dropped = factor * saturated - factor * saturated * rate
    assert abs(float(jnp.isclose(y, dropped, atol=1e-6).mean()) - 0.4) < 0.01
    shared = dropout.AlphaDropout(0.5, noise_shape=(None, 1))(jnp.zeros((50, 4)), training=True)
    np.testing.assert_array_equal(shared, jnp.broadcast_to(shared[:, :1], shared.shape))


@pytest.mark.parametrize("layer", NOISY, ids=repr)
def test_half_precision_is_kept(layer):
    half = type(layer)(0.3, dtype="mixed_bfloat16")
    assert half(jnp.ones((2, 3, 4)), training=True).dtype == jnp.bfloat16


def test_activity_regularization_adds_to_the_loss():
    x = jnp.array([[1.0, -2.0], [3.0, 0.0]])
    with bind({}) as scope:
        y = dropout.ActivityRegularization(l1=0.1, l2=0.01)(x)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_allclose(sum(scope.losses), (0.1 * 6 + 0.01 * 14) / 2, rtol=1e-6)
    again = dropout.ActivityRegularization.from_config(dropout.ActivityRegularization(0.1, 0.2).get_config())
    assert (again.l1, again.l2) == (0.1, 0.2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dropout.Dropout(1.5), r"rate as a number from 0 to 1; received 1.5"),
        (lambda: dropout.Dropout("half"), "rate as a number"),
        (lambda: dropout.GaussianDropout(1.0), "from 0 to below 1"),
        (lambda: dropout.AlphaDropout(-0.1), "from 0 to below 1"),
        (lambda: dropout.Dropout(0.5, noise_shape=(0, 1)), "noise_shape as whole numbers above 0"),
        (lambda: dropout.Dropout(0.5, noise_shape="abc"), "noise_shape"),
        (lambda: dropout.GaussianNoise(-1), "stddev as a number of at least 0"),
        (lambda: dropout.SpatialDropout2D(0.5, data_format="nhwc"), "data_format"),
        (lambda: dropout.ActivityRegularization(l1=-1), "l1 as a number of at least 0"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_bad_shapes():
    with pytest.raises(ShapeError, match="4 axes"):
        dropout.SpatialDropout2D(0.5)(jnp.ones((2, 3)))
