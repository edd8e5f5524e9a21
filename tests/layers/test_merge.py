import jax.numpy as jnp
import numpy as np
import pytest

from lamina.core.errors import ConfigError, ShapeError
from lamina.core.masks import get_mask, set_mask
from lamina.layers import merge
from tests.golden.make_normalization import MERGE
from tests.layers.golden import check


@pytest.mark.parametrize("case", MERGE, ids=lambda case: case.name)
def test_equals_keras(case):
    check(case, "normalization")


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "average", "maximum", "minimum"])
def test_functions_equal_numpy(name):
    x, y = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
    expected = (x + y) / 2 if name == "average" else getattr(np, name)(x, y)
    np.testing.assert_allclose(getattr(merge, name)([x, y]), expected, rtol=1e-6)


def test_functions_with_axes():
    x, y = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
    np.testing.assert_array_equal(merge.concatenate([x, y], axis=1), np.concatenate([x, y], 1))
    np.testing.assert_allclose(merge.dot([x, y], axes=1), np.sum(x * y, 1, keepdims=True), rtol=1e-5)
    cosine = merge.dot([x, y], axes=1, normalize=True)[:, 0]
    expected = np.sum(x * y, 1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    np.testing.assert_allclose(cosine, expected, rtol=1e-5)


def masked(shape, mask):
    return set_mask(jnp.ones(shape), jnp.array(mask, bool))


def test_masks_are_joined():
    x, y = masked((1, 3, 2), [[1, 0, 0]]), masked((1, 3, 2), [[1, 1, 0]])
    np.testing.assert_array_equal(get_mask(merge.add([x, y])), [[True, True, False]])
    assert get_mask(merge.add([x, jnp.ones((1, 3, 2))])) is None
    assert get_mask(merge.dot([x, y], axes=2)) is None
    np.testing.assert_array_equal(get_mask(merge.concatenate([x, y])), [[True, True, False]])
    assert get_mask(merge.concatenate([x, jnp.ones((1, 3, 2))])) is None
    np.testing.assert_array_equal(
        get_mask(merge.concatenate([x, jnp.ones((1, 2, 2))], axis=1)), [[True, False, False, True, True]]
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: merge.Add()(jnp.ones((2, 3))), "expected a list of one or more inputs; received one of shape"),
        (lambda: merge.Subtract()([jnp.ones((2, 3))] * 3), "a list of 2 inputs; received a list of 3"),
        (lambda: merge.Add()([jnp.ones((2, 3)), jnp.ones((2, 4))]), r"shapes are equal.*received shapes \(2, 3\)"),
        (lambda: merge.Add()([jnp.ones((2, 3)), jnp.ones((1, 3))]), "the same number of examples"),
        (lambda: merge.Concatenate()([jnp.ones((2, 3)), jnp.ones((4, 3))]), "differ in length along axis -1 only"),
        (lambda: merge.Concatenate()([jnp.ones((2, 3)), jnp.ones((2, 3, 1))]), "the same number of axes"),
        (lambda: merge.Dot(1)([jnp.ones((2, 3)), jnp.ones((2, 4))]), "the same length along axis 1"),
        (lambda: merge.Dot(-2)([jnp.ones((2, 3)), jnp.ones((2, 3))]), "others than that of the batch"),
    ],
)
def test_bad_shapes(call, message):
    with pytest.raises(ShapeError, match=message):
        call()


def test_bad_arguments():
    with pytest.raises(ConfigError, match=r"axes as one or two whole numbers.*received \(1, 2, 3\)"):
        merge.Dot((1, 2, 3))
    with pytest.raises(ConfigError, match="axis as a whole number"):
        merge.Concatenate(axis=None)
