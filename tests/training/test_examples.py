"""Where batches come from: arrays of every kind, read where they lie."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lamina as lm
from lamina import layers
from lamina.kernels.gather import can_gather_rows
from lamina.training.examples import Examples

NATIVE = pytest.mark.skipif(not can_gather_rows(), reason="the native kernels were not built")
RNG = np.random.default_rng(0)
ARRAYS = {
    "of bytes": RNG.integers(0, 255, (50, 3), dtype="uint8"),
    "of truth values": RNG.integers(0, 2, 50).astype(bool),
    "of half numbers": RNG.normal(size=(50, 2, 5)).astype(jnp.bfloat16),
    "large": RNG.normal(size=(50, 9999)).astype("float32"),  # enough for several threads
    "in double precision": RNG.normal(size=(50, 4)),
    "of long numbers": RNG.integers(-5, 5, (50, 1)),
    "every other row": RNG.normal(size=(100, 3)).astype("float32")[::2],
    "transposed": RNG.normal(size=(3, 50)).astype("float32").T,
    "read only": np.broadcast_to(np.float32(2.0), (50, 2)),
    "empty rows": np.zeros((50, 0), "float32"),
    "JAX's own": jnp.arange(100.0).reshape(50, 2),
}


@pytest.mark.parametrize("hosted", [pytest.param(True, marks=NATIVE), False])
def test_batches_are_the_rows_asked_for(hosted, monkeypatch):
    monkeypatch.setattr("lamina.training.examples.can_gather_rows", lambda: hosted)
    index = RNG.integers(0, 50, 33).astype("int32")
    data = Examples(ARRAYS)
    assert data.layout.hosted == hosted
    others = np.stack([np.zeros_like(index), index, np.full_like(index, 49)])
    gathered = jax.jit(data.layout.gather)(data.arguments, others, 1)
    for found in gathered, data.at(index):
        for name, array in ARRAYS.items():
            expected = np.asarray(jnp.asarray(array))[index]
            assert found[name].dtype == expected.dtype, name
            np.testing.assert_array_equal(found[name], expected, err_msg=name)
    shapes = data.shapes(33)
    assert {name: (s.shape, s.dtype) for name, s in shapes.items()} == {
        name: (g.shape, g.dtype) for name, g in gathered.items()
    }
    assert data.row_bytes == sum(np.asarray(jnp.asarray(array))[0].nbytes for array in ARRAYS.values())


@NATIVE
def test_arrays_are_read_where_they_lie():
    x = np.zeros((6, 2), "float32")
    data = Examples(x)
    x[4] = 7
    gather, indices = jax.jit(data.layout.gather), np.array([[0, 1], [4, 9]], "int32")
    assert np.asarray(gather(data.arguments, indices, 1)).tolist() == [[7, 7], [0, 0]]
    assert np.asarray(gather(data.arguments, indices, 5)).tolist() == [[7, 7], [0, 0]]  # as JAX's own indexing does


def _model():
    model = lm.Sequential([lm.Input((3,)), layers.Dense(2)])
    model.compile("sgd", "mse")
    return model


@NATIVE
def test_data_of_another_length_need_no_other_program(monkeypatch):
    model, compiled = _model(), []
    x, y = RNG.normal(size=(40, 3)), RNG.normal(size=(40, 2))
    model.fit(x[:24], y[:24], batch_size=8, verbose=0, driver="loop")
    monkeypatch.setattr(jax._src.compiler, "compile_or_get_cached", lambda *args, **kwargs: compiled.append(args))
    model.fit(x[8:], y[8:], batch_size=8, verbose=0, driver="loop")
    assert not compiled


@NATIVE
def test_data_are_kept_while_a_program_reads_them_and_no_longer():
    """As after an interruption: the arrays are let go while a dispatch is under way."""
    array = np.ones((4, 1 << 18), "float32")
    kept, data = weakref.ref(array), Examples(array)
    layout, arguments = data.layout, data.arguments

    def slow(places, index):
        return jax.lax.fori_loop(0, 200, lambda i, s: s + layout.gather(places, index, 0), jnp.zeros((4, 1 << 18)))

    program, index = jax.jit(slow), np.arange(4, dtype="int32")[None]
    program(arguments, index).block_until_ready()
    result = program(arguments, index)
    del array, data, arguments
    gc.collect()
    assert result.is_ready() or kept() is not None
    assert float(result[0, 0]) == 200
    gc.collect()
    assert kept() is None


@NATIVE
def test_a_mapped_file_is_not_read_into_memory(tmp_path):
    stored = np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype="float32", shape=(64, 3))
    data = Examples(stored)
    stored[5] = 3
    assert np.asarray(data.layout.gather(data.arguments, np.array([[5]], "int32"), 0)).tolist() == [[3, 3, 3]]
