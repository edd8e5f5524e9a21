"""Pooling layers against Keras, masks, ties, and what bad input says."""

import jax.numpy as jnp
import numpy as np
import pytest

from lamina.core.errors import ConfigError, ShapeError
from lamina.core.masks import get_mask, set_mask
from lamina.layers.core import Input
from lamina.layers.pooling import (
    AdaptiveMaxPooling2D,
    AveragePooling2D,
    AvgPool2D,
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    MaxPool2D,
    MaxPooling1D,
    MaxPooling2D,
)
from tests.layers.test_convolution import cases, check


@pytest.mark.parametrize("index", cases("Pooling"))
def test_as_keras(index):
    check(index)


@pytest.mark.parametrize(
    "make",
    [
        lambda f: MaxPooling2D(2, data_format=f),
        lambda f: AveragePooling2D(3, 2, "same", data_format=f),
        lambda f: AdaptiveMaxPooling2D((2, 3), data_format=f),
        lambda f: GlobalMaxPooling2D(keepdims=True, data_format=f),
        lambda f: GlobalAveragePooling2D(keepdims=True, data_format=f),
    ],
)
def test_channels_first_is_the_same_transposed(make):
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 3)).astype("float32")
    y = make("channels_first")(np.moveaxis(x, -1, 1))
    np.testing.assert_allclose(np.moveaxis(y, 1, -1), make("channels_last")(x), rtol=1e-6)


@pytest.mark.parametrize("keepdims", [False, True])
def test_masked_mean(keepdims):
    x = np.random.default_rng(0).normal(size=(3, 4, 2)).astype("float32")
    mask = np.array([[1, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]], bool)
    expected = np.stack([x[0, mask[0]].mean(0), np.zeros(2), x[2].mean(0)])
    layer = GlobalAveragePooling1D(keepdims=keepdims)
    y = layer(set_mask(jnp.asarray(x), jnp.asarray(mask)))
    assert get_mask(y) is None
    np.testing.assert_allclose(y, expected[:, None] if keepdims else expected, rtol=1e-6)
    first = GlobalAveragePooling1D("channels_first", keepdims)(x.swapaxes(1, 2), mask=jnp.asarray(mask))
    np.testing.assert_allclose(first, expected[:, :, None] if keepdims else expected, rtol=1e-6)


def test_defaults_and_names():
    layer = MaxPooling2D(3)
    assert layer.strides == (3, 3)
    assert MaxPool2D is MaxPooling2D
    assert AvgPool2D is AveragePooling2D
    assert MaxPooling1D().compute_output_shape((None, None, 3)) == (None, None, 3)
    assert MaxPooling1D(30)(Input((None, 3))).shape == (None, None, 3)


def test_bad_input():
    with pytest.raises(ConfigError, match="pool_size as a whole number of at least 1, or 2 of them; received 0"):
        MaxPooling2D(0)
    with pytest.raises(ConfigError, match=r"strides as a whole number.*received \(1,\)"):
        MaxPooling2D(2, (1,))
    with pytest.raises(ConfigError, match="padding as one of 'valid', 'same'; received 'causal'"):
        MaxPooling2D(2, padding="causal")
    with pytest.raises(ConfigError, match="output_size"):
        AdaptiveMaxPooling2D((2, 0))
    with pytest.raises(ShapeError, match=r"x\[..., None\]"):
        MaxPooling2D()(jnp.ones((2, 5, 5)))
    with pytest.raises(ShapeError, match=r'at least \(2, 2\).*received \(5, 1\).*\nWrite padding="same"'):
        MaxPooling2D()(jnp.ones((2, 5, 1, 3)))
    with pytest.raises(ShapeError, match=r"at least \(2, 2\)"):
        MaxPooling2D()(Input((None, 1, 3)))
    with pytest.raises(ShapeError, match="3 axes"):
        GlobalAveragePooling1D()(jnp.ones((2, 5)))
