import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina.core.errors import ConfigError, ShapeError
from lamina.core.state import bind
from lamina.layers.normalization import (
    BatchNormalization,
    GroupNormalization,
    LayerNormalization,
    RMSNormalization,
    UnitNormalization,
)
from tests.golden.make_normalization import NORMALIZATION
from tests.layers.golden import check, close, stored


@pytest.mark.parametrize("case", NORMALIZATION, ids=lambda case: case.name)
def test_equals_keras(case):
    check(case, "normalization")


def test_batch_norm_equals_torch():
    golden = {name.split("/")[1]: x for name, x in stored("normalization").items() if name.startswith("torch/")}
    x, count = jnp.asarray(golden["input"]), golden["input"].size / 5
    norm = BatchNormalization(momentum=0.9, epsilon=1e-3)
    norm(x)
    norm.set_weights([np.linspace(0.5, 1.5, 5), np.linspace(-1, 1, 5), np.zeros(5), np.ones(5)])
    for _ in range(3):
        output = norm(x, training=True)
    close(output, golden["output"])
    np.testing.assert_allclose(norm.moving_mean.numpy(), golden["mean"], rtol=1e-5)
    # PyTorch lets the running variance follow the sample's unbiased variance
    biased = 0.9**3 + (golden["variance"] - 0.9**3) * (count - 1) / count
    np.testing.assert_allclose(norm.moving_variance.numpy(), biased, rtol=1e-5)

    def loss(x, gamma):
        with bind({norm.gamma: gamma}):
            return jnp.sum(norm(x, training=True) ** 3)

    dx, dgamma = jax.jit(jax.grad(loss, (0, 1)))(x, norm.gamma.value)
    close(dx, golden["gradient"])
    close(dgamma, golden["gamma_gradient"])


def test_weights_in_kerass_order():
    norm = BatchNormalization()
    norm(jnp.ones((2, 3)))
    assert [w.path for w in norm.weights] == ["gamma", "beta", "moving_mean", "moving_variance"]
    assert [w.trainable for w in norm.weights] == [True, True, False, False]


def test_batch_norm_large_mean_keeps_its_digits():
    x = 1e4 + np.random.default_rng(0).normal(size=(256, 3)).astype("float32")
    y = BatchNormalization(epsilon=0.0)(x, training=True)
    exact = (x.astype("float64") - x.mean(0, dtype="float64")) / x.std(0, dtype="float64")
    np.testing.assert_allclose(y, exact, atol=5e-3)


def test_batch_norm_in_half_precision_keeps_exact_statistics():
    norm = BatchNormalization(dtype="mixed_float16")
    x = jnp.full((64, 8, 8, 2), 300.0) + jnp.arange(2.0)  # the sum of squares overflows in half precision
    y = norm(x, training=True)
    assert y.dtype == jnp.float16
    assert norm.moving_mean.raw.dtype == jnp.float32
    np.testing.assert_allclose(norm.moving_mean.numpy(), [3.0, 3.01], rtol=1e-5)
    assert bool(jnp.isfinite(y).all())


def test_frozen_batch_norm_uses_moving_statistics():
    norm = BatchNormalization()
    x = jnp.arange(6.0).reshape(3, 2)
    norm(x, training=True)
    before = norm.get_weights()
    norm.trainable = False
    np.testing.assert_array_equal(norm(x, training=True), norm(x, training=False))
    for old, new in zip(before, norm.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_batch_norm_ignores_masked_steps_and_accepts_none_left():
    x = jnp.arange(12.0).reshape(2, 3, 2)
    mask = jnp.array([[True, True, False], [True, False, False]])
    clean, dirty = BatchNormalization(), BatchNormalization()
    clean(x, mask=mask, training=True)
    dirty(jnp.where(mask[..., None], x, 1e6), mask=mask, training=True)
    for a, b in zip(clean.get_weights(), dirty.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)

    def loss(x):
        with bind({}):
            return jnp.sum(clean(x, mask=jnp.zeros((2, 3), bool), training=True) ** 2)

    gradient = jax.jit(jax.grad(loss))(x)
    assert bool(jnp.isfinite(gradient).all())


def test_batch_norm_refuses_a_mask_of_another_shape():
    with pytest.raises(ShapeError, match=r"expected a mask of the input's shape without its last axis, \(2, 3\)"):
        BatchNormalization()(jnp.ones((2, 3, 4)), mask=jnp.ones((3, 2), bool), training=True)


@pytest.mark.parametrize(
    "norm", [UnitNormalization(), LayerNormalization(), RMSNormalization(), GroupNormalization(2)], ids=repr
)
def test_zeros_have_finite_gradients(norm):
    x = jnp.zeros((2, 3, 4))
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(norm(x) * jnp.arange(4.0))))(x)
    assert bool(jnp.isfinite(gradient).all())


def test_negative_and_positive_axes_agree():
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
    np.testing.assert_array_equal(LayerNormalization(axis=(-1, 1))(x), LayerNormalization(axis=(1, 2))(x))


def test_axis_survives_the_config():
    assert LayerNormalization(axis=(1, 2)).get_config()["axis"] == [1, 2]
    assert GroupNormalization(-1).get_config()["groups"] == -1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BatchNormalization(axis=(1, 2)), "axis as one whole number"),
        (lambda: BatchNormalization(momentum=2), "momentum from 0 to 1"),
        (lambda: BatchNormalization(renorm_clipping={"max": 1}), "keys rmin, rmax"),
        (lambda: LayerNormalization(axis="last"), "axis as a whole number or several"),
        (lambda: LayerNormalization(epsilon=-1), "epsilon as a number of at least 0"),
        (lambda: GroupNormalization(0), "groups as a whole number"),
        (lambda: UnitNormalization(axis=()), "axis as a whole number or several"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_bad_shapes():
    with pytest.raises(ShapeError, match=r"divides the input's 6 channels; received 4[\s\S]*\[1, 2, 3, 6\]"):
        GroupNormalization(4)(jnp.ones((2, 6)))
    with pytest.raises(ShapeError, match="axis 3 does not fit an array of 2 axes"):
        BatchNormalization(axis=3)(jnp.ones((2, 6)))
    norm = BatchNormalization()
    norm(jnp.ones((2, 6)))
    with pytest.raises(ShapeError, match="length 6 along axis -1"):
        norm(jnp.ones((2, 5)))


@pytest.mark.parametrize(
    "make",
    [
        BatchNormalization,
        LayerNormalization,
        lambda: LayerNormalization(rms_scaling=True),
        RMSNormalization,
        UnitNormalization,
        lambda: GroupNormalization(1),
    ],
)
def test_whole_numbers_are_read_as_real_ones(make):
    x = np.array([[1, 2, 9], [4, 4, 5]])
    found = make()(x)
    assert found.dtype == "float32"
    np.testing.assert_array_equal(found, make()(x.astype("float32")))
    assert not np.array_equal(found, np.round(found))
