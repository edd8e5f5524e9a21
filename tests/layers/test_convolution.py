"""Convolution layers against Keras: values, gradients, names and shapes of weights; and what bad input says."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina.core import registry
from lamina.core.errors import ConfigError, ShapeError
from lamina.core.state import bind
from lamina.layers.convolution import Conv1D, Conv2D, Conv2DTranspose, Conv3D, Convolution2D
from lamina.layers.core import Input
from lamina.layers.separable import DepthwiseConv2D, SeparableConv1D, SeparableConv2D
from tests.golden import make_convolution as golden
from tests.layers.golden import close

FILE = np.load(Path(golden.__file__).with_name("convolution.npz"))


def cases(*words):
    """The golden cases whose layer's name contains one of ``words``."""
    return [
        pytest.param(index, id=f"{name}-{index}")
        for index, (name, _, _) in enumerate(golden.CASES)
        if any(word in name for word in words)
    ]


def check(index):
    """Compare a layer's output and gradients with Keras's."""
    name, kwargs, shape = golden.CASES[index]
    layer = registry.lookup("layers", name)(**kwargs)
    x = golden.inputs(index, shape)
    layer.build_from({"inputs": shape})
    values = golden.weights(index, [w.shape for w in layer.weights])

    @jax.jit
    def run(x, values):
        def total(x, values):
            with bind(dict(zip(layer.weights, values, strict=True))):
                y = layer(x)
            return jnp.sum(y * golden.factors(y.shape)), y

        return jax.grad(total, (0, 1), has_aux=True)(x, values)

    (dx, dw), y = run(x, values)
    expected = FILE[f"{index}_y"]
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    gradients = np.concatenate([np.ravel(g) for g in (dx, *dw)])
    close(gradients, FILE[f"{index}_gradients"])


@pytest.mark.parametrize("index", cases("Conv"))
def test_as_keras(index):
    check(index)


def test_names_and_order_of_weights():
    layer = SeparableConv2D(5, 3, depth_multiplier=2, name="s")
    layer.build_from({"inputs": (1, 4, 4, 3)})
    assert [w.shape for w in layer.weights] == [(3, 3, 3, 2), (1, 1, 6, 5), (5,)]
    assert layer.weights == [layer.depthwise_kernel, layer.pointwise_kernel, layer.bias]
    layer = Conv2DTranspose(5, (2, 3))
    layer.build_from({"inputs": (1, 4, 4, 3)})
    assert [w.shape for w in layer.weights] == [(2, 3, 5, 3), (5,)]


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda f: Conv2D(4, (3, 2), strides=2, padding="same", data_format=f), (2, 7, 6, 3)),
        (lambda f: Conv2DTranspose(4, 3, strides=2, data_format=f), (2, 4, 3, 3)),
        (lambda f: DepthwiseConv2D(3, depth_multiplier=2, data_format=f), (2, 5, 6, 3)),
        (lambda f: SeparableConv1D(4, 3, padding="same", data_format=f), (2, 5, 3)),
    ],
)
def test_channels_first_is_the_same_transposed(make, shape):
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    last, first = make("channels_last"), make("channels_first")
    y = last(x)
    moved = np.moveaxis(x, -1, 1)
    assert first.compute_output_shape(moved.shape) == np.moveaxis(y, -1, 1).shape
    first.set_weights(last.get_weights())
    np.testing.assert_allclose(np.moveaxis(first(moved), 1, -1), y, rtol=1e-5, atol=1e-6)


def test_unknown_axes():
    assert Conv2D(4, 3, strides=2, padding="same").compute_output_shape((None, None, 28, 1)) == (None, None, 14, 4)
    assert Conv1D(4, 30)(Input((None, 2))).shape == (None, None, 4)
    assert Convolution2D is Conv2D
    assert registry.lookup("layers", "convolution2d") is Conv2D


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Conv2D(0, 3), "filters as a whole number of at least 1; received 0"),
        (lambda: Conv2D(4, (3, 3, 3)), "kernel_size as a whole number of at least 1, or 2 of them"),
        (lambda: Conv2D(4, 3, strides=0), "strides as a whole number of at least 1"),
        (lambda: Conv2D(4, 2.0), "kernel_size as a whole number"),
        (lambda: Conv2D(4, 3, padding="causal"), "padding as one of 'valid', 'same'; received 'causal'"),
        (lambda: Conv2D(4, 3, padding=1), "padding as one of"),
        (lambda: Conv2D(4, 3, groups=3), "multiple of groups"),
        (lambda: Conv2D(4, 3, data_format="last"), "data_format as one of 'channels_last'"),
        (lambda: Conv2DTranspose(4, 3, output_padding=1), "output_padding below strides"),
        (lambda: DepthwiseConv2D(3, depth_multiplier=-1), "depth_multiplier as a whole number"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_bad_shapes():
    with pytest.raises(ShapeError, match=r"expected an input of 4 axes.*\n.*x\[..., None\].*Input\(\(28, 28, 1\)\)"):
        Conv2D(4, 3)(jnp.ones((2, 28, 28)))
    with pytest.raises(ShapeError, match=r"x\[:, None\].*Input\(\(1, 5, 5\)\)"):
        Conv2D(4, 3, data_format="channels_first")(jnp.ones((2, 5, 5)))
    with pytest.raises(ShapeError, match=r"expected an input of 3 axes.*\n.*inputs of 1 axes"):
        Conv1D(4, 3)(jnp.ones((2,)))
    with pytest.raises(ShapeError, match="groups=2 divides; received 3 channels"):
        Conv2D(4, 3, groups=2)(jnp.ones((2, 5, 5, 3)))
    with pytest.raises(ShapeError, match=r"needs to know the length of axis -1"):
        Conv2D(4, 3)(Input((5, 5, None)))
    layer = Conv3D(4, 3, name="deep")
    with pytest.raises(ShapeError, match=r"'deep'.*at least \(3, 3, 3\).*received \(5, 2, 5\)"):
        layer(jnp.ones((1, 5, 2, 5, 1)))
    layer = Conv1D(4, 3, dilation_rate=2)
    layer(jnp.ones((1, 5, 2)))
    with pytest.raises(ShapeError, match=r"at least \(5,\)"):
        layer(jnp.ones((1, 4, 2)))
    with pytest.raises(ShapeError, match="made for another number of channels"):
        layer(jnp.ones((1, 5, 3)))
    with pytest.raises(ShapeError, match=r"at least \(3, 3\)"):
        Conv2D(4, 3)(Input((2, None, 1)))
