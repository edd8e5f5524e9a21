import jax.numpy as jnp
import numpy as np
import pytest

import lamina.initializers  # noqa: F401 - registers the names
from lamina.core import transforms
from lamina.core.errors import ConfigError, DataError, ShapeError
from lamina.core.masks import get_mask
from lamina.layers.embedding import Embedding

TABLE = np.arange(12, dtype="float32").reshape(4, 3)


def test_looks_rows_up():
    layer = Embedding(4, 3, weights=[TABLE])
    x = np.array([[1, 3], [0, 1]])
    np.testing.assert_array_equal(layer(x), TABLE[x])
    np.testing.assert_array_equal(layer(x.astype("float32")), TABLE[x])
    assert "weights" not in layer.get_config()
    assert Embedding.from_config(layer.get_config())(x).shape == (2, 2, 3)
    assert Embedding(4, 3).compute_output_shape((None, 7)) == (None, 7, 3)


def test_gradient_counts_each_row():
    layer = Embedding(4, 3, weights=TABLE)
    layer.build_from({"inputs": (3,)})
    gradient = transforms.grad(lambda: layer(np.array([1, 3, 1])).sum(), layer)()
    np.testing.assert_array_equal(next(iter(gradient.values()))[:, 0], [0, 2, 0, 1])


def test_mask_zero():
    x = np.array([[1, 0, 2]])
    np.testing.assert_array_equal(get_mask(Embedding(4, 3, mask_zero=True)(x)), [[True, False, True]])
    assert get_mask(Embedding(4, 3)(x)) is None


def test_large_numbers_survive_a_half_compute_dtype():
    layer = Embedding(300, 1, weights=np.arange(300.0)[:, None], dtype="mixed_bfloat16")
    y = layer(np.array([257.0], "float32"))
    assert y.dtype == jnp.bfloat16
    assert float(y[0, 0]) == float(jnp.bfloat16(257))
    half = Embedding(300, 1, weights=(np.arange(300) == 257)[:, None], dtype="mixed_bfloat16")
    assert float(half(np.array([257.0], "float32"))[0, 0]) == 1


def test_numbers_outside_the_table():
    layer = Embedding(4, 3)
    with pytest.raises(DataError, match=r"for 0 to 3; received 2 numbers outside, the first 4\.\nWrite:  Embedding\(8"):
        layer(np.array([1, 4, 7]))
    with pytest.raises(DataError, match="from 0 on"):
        layer(np.array([-1]))
    compiled = transforms.jit(layer)
    assert np.isnan(compiled(jnp.array([4]))).all()


def test_bad_arguments():
    with pytest.raises(ConfigError, match="input_dim"):
        Embedding(0, 3)
    with pytest.raises(ConfigError, match="output_dim"):
        Embedding(3, 1.5)
    with pytest.raises(ShapeError, match=r"\(4, 3\); received \(3, 4\)"):
        Embedding(4, 3, weights=TABLE.T)


def test_old_keras_argument():
    assert Embedding(4, 3, input_length=10)(np.array([[1]])).shape == (1, 1, 3)
