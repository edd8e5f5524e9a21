import gzip
import hashlib

import numpy as np
import pytest
import sklearn.datasets

from lamina import datasets
from lamina.core.errors import ConfigError, DataError
from lamina.datasets import fashion_mnist

BUNDLED = ["breast_cancer", "diabetes", "digits", "iris", "wine"]


@pytest.mark.parametrize("name", BUNDLED)
def test_every_row_lands_in_exactly_one_part(name):
    module = getattr(datasets, name)
    (x_train, y_train), (x_test, y_test) = module.load_data()
    options = {"scaled": False} if name == "diabetes" else {}
    x, y = getattr(sklearn.datasets, f"load_{name}")(return_X_y=True, **options)
    both = np.concatenate([x_train, x_test]).reshape(len(x), -1)
    rows = np.column_stack([both, np.concatenate([y_train, y_test])])
    expected = np.column_stack([x, y]).astype("float32")
    assert sorted(map(tuple, rows.astype("float32"))) == sorted(map(tuple, expected))
    assert len(x_test) == round(0.2 * len(x)) or len(x_test) == -(-len(x) // 5)


@pytest.mark.parametrize("name", ["breast_cancer", "digits", "iris", "wine"])
def test_classes_have_the_same_share_in_both_parts(name):
    module = getattr(datasets, name)
    (_, y_train), (_, y_test) = module.load_data()
    n = len(module.CLASS_NAMES)
    assert y_train.dtype == np.int32
    train = np.bincount(y_train, minlength=n) / len(y_train)
    test = np.bincount(y_test, minlength=n) / len(y_test)
    np.testing.assert_allclose(train, test, atol=0.02)


def test_class_names_are_the_source_s():
    assert list(sklearn.datasets.load_iris().target_names) == list(datasets.iris.CLASS_NAMES)
    assert list(sklearn.datasets.load_wine().target_names) == list(datasets.wine.CLASS_NAMES)
    assert list(sklearn.datasets.load_breast_cancer().target_names) == list(datasets.breast_cancer.CLASS_NAMES)
    assert list(sklearn.datasets.load_diabetes().feature_names) == list(datasets.diabetes.FEATURE_NAMES)


def test_the_seed_alone_decides_the_split():
    first, again, other = (datasets.iris.load_data(seed=seed)[0][0] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len(datasets.iris.load_data(test_size=0.5)[1][0]) == 75


@pytest.mark.parametrize("size", [0.0, 1.0, 2, -0.1, True, None])
def test_a_share_that_is_none_is_refused(size):
    with pytest.raises(ConfigError, match="share between 0 and 1"):
        datasets.iris.load_data(test_size=size)


def test_a_share_too_small_for_every_class_is_refused():
    with pytest.raises(ConfigError, match="150 rows cannot be split"):
        datasets.iris.load_data(test_size=0.01)


def pack(array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.tobytes()


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A published data set of three pictures, offered at a file: address; nothing installed, an empty cache."""
    source = tmp_path / "source"
    source.mkdir()
    arrays, files = {}, {}
    rng = np.random.default_rng(0)
    for name in fashion_mnist.FILES:
        arrays[name] = rng.integers(0, 256, (3, 2, 2) if "images" in name else (3,)).astype("uint8")
        content = pack(arrays[name])
        (source / name).write_bytes(gzip.compress(content))
        files[name] = (arrays[name].shape, hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(fashion_mnist, "FILES", files)
    monkeypatch.setattr(fashion_mnist, "SOURCE", source.as_uri() + "/")
    monkeypatch.setattr(fashion_mnist, "INSTALLED", tmp_path / "none")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return source, arrays


def test_downloads_once_and_keeps_nothing_half_written(small):
    source, arrays = small
    (x_train, y_train), (_x_test, y_test) = fashion_mnist.load_data()
    np.testing.assert_array_equal(x_train, arrays["train-images-idx3-ubyte.gz"])
    np.testing.assert_array_equal(y_train, arrays["train-labels-idx1-ubyte.gz"])
    assert sorted(p.name for p in fashion_mnist.downloads().iterdir()) == sorted(arrays)
    for file in source.iterdir():
        file.unlink()
    np.testing.assert_array_equal(fashion_mnist.load_data()[1][1], y_test)
    x_train[:] = 0  # arrays are the caller's own


def test_offline_says_where_to_put_the_files(small):
    for file in small[0].iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"cannot be reached.*\n.*apt install dataset-fashion-mnist"):
        fashion_mnist.load_data()


@pytest.mark.parametrize("content", [b"", b"<html>blocked</html>", gzip.compress(bytes(10_000_000))])
def test_a_wrong_download_is_refused_and_not_kept(small, content):
    (small[0] / "train-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(DataError, match="SHA-256"):
        fashion_mnist.load_data()
    assert not fashion_mnist.downloads().exists()


def test_a_damaged_cache_is_fetched_again(small):
    fashion_mnist.load_data()
    path = fashion_mnist.downloads() / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-12])
    np.testing.assert_array_equal(fashion_mnist.load_data()[1][1], small[1][path.name])


def test_a_cache_that_cannot_be_written_is_no_obstacle(small, monkeypatch, tmp_path):
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "taken"))
    assert fashion_mnist.load_data()[0][0].shape == (3, 2, 2)


@pytest.mark.skipif(not fashion_mnist.INSTALLED.is_dir(), reason="Debian's package is not installed")
def test_the_published_files():
    (x_train, y_train), (x_test, y_test) = fashion_mnist.load_data()
    assert x_train.shape == (60_000, 28, 28)
    assert x_test.shape == (10_000, 28, 28)
    assert x_train.dtype == y_train.dtype == np.uint8
    assert np.bincount(y_train).tolist() == [6000] * 10
    assert np.bincount(y_test).tolist() == [1000] * 10
    assert y_train[:5].tolist() == [9, 0, 0, 3, 0]
    assert round(float(x_train.mean()) / 255, 3) == 0.286  # the mean published with the data set
