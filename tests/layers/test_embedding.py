import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lamina.initializers  # noqa: F401 - registers the names
from lamina.core import transforms
from lamina.core.errors import ConfigError, DataError, ShapeError
from lamina.core.lookups import get_lookup
from lamina.core.masks import get_mask
from lamina.layers.core import Input
from lamina.layers.embedding import Embedding
from lamina.layers.recurrent import GRU, LSTM, SimpleRNN
from lamina.models import Sequential

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


def test_rows_travel_with_their_lookup_only_while_traced_and_in_the_dtype_of_the_table():
    def seen(layer):
        found = []
        transforms.jit(lambda x: found.append(get_lookup(layer(x))) or x)(jnp.array([[1, 2]]))
        return found[0]

    lookup = seen(Embedding(4, 3))
    assert lookup.table.shape == (4, 3)
    assert lookup.numbers.shape == (1, 2)
    assert seen(Embedding(4, 3, dtype="mixed_bfloat16")) is None
    assert get_lookup(Embedding(4, 3)(jnp.array([[1, 2]]))) is None


@pytest.mark.parametrize("cell", [SimpleRNN, LSTM, GRU])
def test_recurrent_layers_work_on_the_table_that_was_looked_up(cell):
    """And give what they give for its rows, of which a factor of 1 makes others."""
    x = np.array([[1, 1, 6, 0, 0], [6, 2, 1, 6, 2]])
    embedding, recurrent = Embedding(7, 3, mask_zero=True), cell(4, return_sequences=True)
    model = Sequential([Input((5,), dtype="int32"), embedding, recurrent])

    def outputs(x, factor):
        rows = embedding(x)
        return recurrent(rows if factor is None else rows * factor, mask=embedding.compute_mask(x))

    given = []
    for factor in (None, 1):
        program = jax.make_jaxpr(functools.partial(outputs, factor=factor))(x)
        given += [e.invars[0].aval.shape for e in program.eqns if e.primitive.name == "recurrence"]
    assert given == [(7, 3), (2, 5, 3)]

    value_and_gradients = [
        transforms.value_and_grad(lambda factor=factor: jnp.sum(outputs(x, factor) ** 2), model)()
        for factor in (None, 1)
    ]
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), *value_and_gradients)


def test_bad_arguments():
    with pytest.raises(ConfigError, match="input_dim"):
        Embedding(0, 3)
    with pytest.raises(ConfigError, match="output_dim"):
        Embedding(3, 1.5)
    with pytest.raises(ShapeError, match=r"\(4, 3\); received \(3, 4\)"):
        Embedding(4, 3, weights=TABLE.T)


def test_old_keras_argument():
    assert Embedding(4, 3, input_length=10)(np.array([[1]])).shape == (1, 1, 3)
