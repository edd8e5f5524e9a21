"""Reshaping layers against Keras, and what bad input says."""

import jax.numpy as jnp
import numpy as np
import pytest

from lamina.core.errors import ConfigError, ShapeError
from lamina.layers.core import Input
from lamina.layers.reshape import (
    Cropping1D,
    Cropping2D,
    Flatten,
    Permute,
    RepeatVector,
    Reshape,
    UpSampling1D,
    UpSampling2D,
    ZeroPadding1D,
    ZeroPadding2D,
    ZeroPadding3D,
)
from tests.layers.test_convolution import cases, check


@pytest.mark.parametrize(
    "index", cases("Flatten", "Reshape", "Permute", "RepeatVector", "UpSampling", "Padding", "Cropping")
)
def test_as_keras(index):
    check(index)


def test_unknown_axes():
    assert Reshape((-1, 7))(Input((None, 3))).shape == (None, None, 7)
    assert Reshape((3, 4))(Input((None,))).shape == (None, 3, 4)
    assert Flatten()(Input((3, 4))).shape == (None, 12)
    assert Cropping1D(20)(Input((None, 3))).shape == (None, None, 3)
    assert UpSampling2D((2, 3)).compute_output_shape((None, None, 4, 1)) == (None, None, 12, 1)


def test_odd_ones():
    assert Flatten()(jnp.ones((3,))).shape == (3, 1)
    assert Flatten()(jnp.ones((0, 2, 3))).shape == (0, 6)
    assert Reshape(())(jnp.ones((3, 1))).shape == (3,)
    assert Reshape([2, 2])(jnp.ones((3, 4))).shape == (3, 2, 2)
    assert Cropping2D(1).cropping == ((1, 1), (1, 1))
    assert ZeroPadding1D(2).padding == (2, 2)
    np.testing.assert_array_equal(
        ZeroPadding2D(((0, 1), (0, 0)), "channels_first")(jnp.ones((1, 1, 1, 2)))[0, 0], [[1, 1], [0, 0]]
    )
    x = jnp.arange(12).reshape(1, 2, 2, 3)
    assert UpSampling2D(2)(x).dtype == x.dtype


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Reshape((2, -1, -1)), "one of which may be -1"),
        (lambda: Reshape(7), "received 7"),
        (lambda: Reshape((None, 2)), "target_shape as whole numbers"),
        (lambda: Permute((0, 1)), r"numbers 1 to n in some order; received \(0, 1\)"),
        (lambda: RepeatVector(0), "n as a whole number of at least 1; received 0"),
        (lambda: RepeatVector(2.0), "n as a whole number"),
        (lambda: UpSampling1D(0), "size as a whole number of at least 1; received 0"),
        (lambda: UpSampling2D(interpolation="linear"), "interpolation as one of"),
        (lambda: ZeroPadding2D(-1), "padding as a whole number of at least 0"),
        (lambda: ZeroPadding3D((1, 2)), "padding as a whole number of at least 0"),
        (lambda: ZeroPadding2D(1.5), "padding as a whole number of at least 0"),
        (lambda: Cropping1D((1, 2, 3)), "cropping as a whole number of at least 0"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_bad_shapes():
    with pytest.raises(ShapeError, match=r"expected 7 entries per example.*received 6 in shape \(2, 6\)"):
        Reshape((7,))(jnp.ones((2, 6)))
    with pytest.raises(ShapeError, match="a multiple of 4 entries per example"):
        Reshape((-1, 4))(Input((3, 2)))
    with pytest.raises(ShapeError, match=r"at least \(3, 3\).*received \(2, 4\)"):
        Cropping2D(1)(jnp.ones((1, 2, 4, 1)))
    with pytest.raises(ShapeError, match="3 axes"):
        Permute((2, 1))(jnp.ones((2, 3)))
    with pytest.raises(ShapeError, match="2 axes"):
        RepeatVector(2)(jnp.ones((2, 3, 4)))
