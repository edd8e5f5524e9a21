import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas
import polars
import pytest

from lamina.core import registry
from lamina.core.errors import ConfigError, DataError, ShapeError
from lamina.layers.preprocessing import (
    CategoryEncoding,
    CenterCrop,
    Discretization,
    Normalization,
    Rescaling,
    Resizing,
)

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "preprocessing.npz"))


def restored(layer):
    """The layer made again from its configuration."""
    return registry.deserialize(json.loads(json.dumps(registry.serialize(layer))))


def close(got, name, **tolerance):
    assert np.shape(got) == GOLDEN[name].shape
    np.testing.assert_allclose(got, GOLDEN[name], **{"rtol": 2e-5, "atol": 2e-5} | tolerance)


# -- pictures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"])
def test_resizing_is_keras_s(interpolation, antialias):
    layer = Resizing(3, 9, interpolation, antialias=antialias)
    close(layer(GOLDEN["pictures"]), f"resize/{interpolation}/{antialias}")


def test_resizing_keeps_proportions_and_whole_numbers():
    close(Resizing(4, 4, crop_to_aspect_ratio=True)(GOLDEN["pictures"]), "resize/crop")
    close(Resizing(4, 4, pad_to_aspect_ratio=True, fill_value=0.5)(GOLDEN["pictures"]), "resize/pad")
    whole = Resizing(7, 5)(GOLDEN["whole"])
    assert whole.dtype == jnp.uint8
    close(whole, "resize/whole", atol=0)


def test_channels_first_is_channels_last_transposed():
    x = GOLDEN["pictures"]
    for make in (lambda **kw: Resizing(3, 4, **kw), lambda **kw: CenterCrop(3, 4, **kw)):
        first = make(data_format="channels_first")(np.moveaxis(x, -1, 1))
        np.testing.assert_allclose(np.moveaxis(first, 1, -1), make()(x), atol=1e-6)


@pytest.mark.parametrize("size", [(3, 4), (2, 3), (8, 4), (4, 9)])
def test_center_crop_is_keras_s(size):
    close(CenterCrop(*size)(GOLDEN["pictures"]), f"crop/{size[0]}x{size[1]}")
    np.testing.assert_allclose(
        CenterCrop(*size)(GOLDEN["pictures"][0]), GOLDEN[f"crop/{size[0]}x{size[1]}"][0], atol=2e-5
    )


def test_bad_pictures():
    with pytest.raises(ConfigError, match=r"height of at least 1 pixel; received 0"):
        Resizing(0, 3)
    with pytest.raises(ConfigError, match=r"Did you mean 'bilinear'"):
        Resizing(2, 3, "biliner")
    with pytest.raises(ConfigError, match="either crops or pads"):
        Resizing(2, 3, crop_to_aspect_ratio=True, pad_to_aspect_ratio=True)
    with pytest.raises(ShapeError, match=r"expected pictures of shape"):
        CenterCrop(2, 2)(jnp.ones((4, 4)))


# -- numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize(("name", "axis"), [("last", -1), ("none", None), ("both", (0, 1))])
def test_normalization_is_keras_s(name, axis, invert):
    layer = Normalization(axis=axis, invert=invert)
    layer.adapt(GOLDEN["table"])
    close(layer(GOLDEN["table"]), f"normalize/{name}/{invert}")


def test_normalization_from_batches_and_given_statistics():
    table, layer = GOLDEN["table"], Normalization()
    layer.adapt(iter([table[:10], (table[10:17], np.zeros(7)), table[17:]]))
    close(layer(table), "normalize/batches")
    np.testing.assert_allclose(layer.variance[0], table.var(0, dtype="float64"), rtol=1e-5)
    given = Normalization(axis=(1, 2), mean=[1.0, 2.0], variance=[4.0, 9.0])
    close(given(GOLDEN["cube"]), "normalize/given")
    assert not given.weights
    close(restored(given)(GOLDEN["cube"]), "normalize/given")


def test_normalization_takes_tables_and_forgets_what_it_knew():
    columns = {"a": [1.0, 2.0, 6.0], "b": [4.0, 4.0, 4.0]}
    layer = Normalization()
    layer.adapt(np.ones((5, 2)) * 1000)
    for table in (pandas.DataFrame(columns), polars.DataFrame(columns), np.array([*columns.values()]).T.tolist()):
        layer.adapt(table)
        np.testing.assert_allclose(layer.mean, [[3.0, 4.0]])
        np.testing.assert_allclose(layer.variance, [[14 / 3, 0.0]], rtol=1e-6)
    np.testing.assert_array_equal(layer(np.array([[3.0, 4.0]])), [[0.0, 0.0]])  # a constant column becomes zeros
    assert [w.path.split("/")[-1] for w in layer.weights] == ["adapt_mean", "adapt_variance", "count"]
    assert not layer.trainable_weights
    column = Normalization(axis=None)
    column.adapt(polars.Series(columns["a"]))
    np.testing.assert_allclose(column(jnp.array([3.0, 6.0])), [0.0, 3 / np.sqrt(14 / 3)], rtol=1e-6)


def test_raw_data_are_read_in_single_precision():
    layer = Normalization(mean=[2012.0], variance=[1.0], dtype="mixed_bfloat16")
    out = layer(np.array([[2013.0]], "float32"))
    assert out.dtype == jnp.bfloat16
    assert out.item() == 1.0
    assert Discretization([2012.5], dtype="mixed_bfloat16")(np.array([2012.0, 2013.0], "float32")).tolist() == [0, 1]


def test_bad_normalization():
    with pytest.raises(ConfigError, match="mean and variance together"):
        Normalization(mean=1.0)
    with pytest.raises(ConfigError, match="variance of at least 0"):
        Normalization(mean=1.0, variance=-1.0)
    with pytest.raises(ConfigError, match="was given mean and variance"):
        Normalization(mean=1.0, variance=1.0).adapt(np.ones((2, 2)))
    with pytest.raises(DataError, match="expects numbers"):
        Normalization().adapt(np.array([["a"]]))
    with pytest.raises(DataError, match="received no data"):
        Normalization().adapt(iter([]))
    layer = Normalization()
    layer.adapt(np.ones((3, 2)))
    with pytest.raises(DataError, match=r"expected data of shape \(1, 2\)"):
        layer.adapt(np.ones((3, 4)))
    with pytest.raises(ShapeError, match="has axis"):
        Normalization(axis=3)(np.ones((2, 2)))
    with pytest.raises(ShapeError, match=r"mean of shape \(3,\)"):
        Normalization(mean=[1.0] * 3, variance=[1.0] * 3)(np.ones((2, 2)))


@pytest.mark.parametrize(("bins", "epsilon"), [(4, 0.01), (7, 0.1), (3, 0.001)])
def test_learnt_bins_are_keras_s(bins, epsilon):
    layer = Discretization(num_bins=bins, epsilon=epsilon)
    layer.adapt(GOLDEN["column"])
    close(layer.bin_boundaries, f"bins/{bins}")
    close(restored(layer)(GOLDEN["column"]), f"binned/{bins}", atol=0)


def test_bins_from_batches_hold_about_equal_counts():
    column, layer = GOLDEN["column"], Discretization(num_bins=5)
    layer.adapt(iter([column[:100], column[100:180], column[180:]]))
    close(layer.bin_boundaries, "bins/batches")
    counts = np.bincount(np.asarray(layer(column)))
    assert all(abs(count - 60) <= 6 for count in counts)


@pytest.mark.parametrize("mode", ["int", "one_hot", "multi_hot", "count"])
def test_discretization_is_keras_s(mode):
    close(Discretization([-0.5, 0.0, 1.0], output_mode=mode)(GOLDEN["small"]), f"discretize/{mode}")


def test_bad_discretization():
    with pytest.raises(ConfigError, match="bin_boundaries or num_bins"):
        Discretization()
    with pytest.raises(ConfigError, match="that rise"):
        Discretization([2.0, 1.0])
    with pytest.raises(ConfigError, match="fewer boundaries than bins"):
        Discretization([0.0, 1.0], num_bins=2)
    with pytest.raises(ConfigError, match="knows no bins yet"):
        Discretization(num_bins=2)(np.ones(3))
    with pytest.raises(ConfigError, match="was given bin_boundaries"):
        Discretization([0.0]).adapt(np.ones(3))
    with pytest.raises(ConfigError, match="dense arrays only"):
        Discretization([0.0], output_mode="count", sparse=True)


@pytest.mark.parametrize("mode", ["one_hot", "multi_hot", "count"])
def test_category_encoding_is_keras_s(mode):
    layer = CategoryEncoding(6, mode)
    close(layer(GOLDEN["tokens"]), f"encode/{mode}")
    close(jax.jit(layer)(GOLDEN["tokens"]), f"encode/{mode}")


def test_category_encoding_of_single_and_weighted_numbers():
    tokens = GOLDEN["tokens"]
    close(CategoryEncoding(6, "one_hot")(tokens[:, :1]), "encode/single")
    close(CategoryEncoding(6, "count")(tokens, count_weights=GOLDEN["weights"]), "encode/weights")
    with pytest.raises(DataError, match=r"numbers from 0 to 3; received numbers from 0 to 5"):
        CategoryEncoding(4)(np.array([0, 5]))
    with pytest.raises(ConfigError, match="count_weights in output_mode='count'"):
        CategoryEncoding(6)(tokens, count_weights=GOLDEN["weights"])
    with pytest.raises(ConfigError, match="IntegerLookup"):
        CategoryEncoding()


def test_rescaling():
    x = np.array([[0, 51, 255]], "uint8")
    np.testing.assert_allclose(Rescaling(1 / 127.5, -1)(x), [[-1.0, -0.6, 1.0]], atol=1e-6)
    layer = restored(Rescaling(np.array([1.0, 2.0, 3.0]), offset=[0, 1, 0]))
    assert layer(x).tolist() == [[0.0, 103.0, 765.0]]
