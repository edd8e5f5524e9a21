import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from lamina.core.errors import ConfigError, DataError, ShapeError
from lamina.data.pictures import write_pictures
from lamina.families.base import load
from lamina.families.cnn import CNNClassifier, CNNRegressor, network
from lamina.families.labels import class_weights, encoded
from lamina.layers import Dense

SMALL = {"width": 4, "epochs": 12, "batch_size": 8, "learning_rate": 0.01, "random_state": 0, "verbose": 0}


def stripes(count, side=8, seed=0):
    """Pictures with one bright row ("lying") or one bright column ("standing"), in noise."""
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 60, (count, side, side), dtype="uint8")
    for i in range(count):
        where = rng.integers(side)
        pictures[i][(slice(None), where) if i % 2 else where] = 255
    return pictures, np.array(["lying", "standing"] * (count // 2))


@pytest.fixture(scope="module")
def trained():
    x, y = stripes(60)
    return CNNClassifier(**SMALL, augment=None).fit(x, y)


def test_it_learns_what_no_single_pixel_tells(trained):
    x, y = stripes(40, seed=1)
    assert trained.score(x, y) >= 0.9
    p = trained.predict_proba(x)
    assert p.shape == (40, 2)
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-12)
    assert (trained.classes_[p.argmax(1)] == trained.predict(x)).all()


def test_a_file_gives_the_same_predictions(trained, tmp_path):
    x, _ = stripes(6, seed=2)
    trained.save(tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    assert isinstance(again, CNNClassifier)
    np.testing.assert_array_equal(again.predict_proba(x), trained.predict_proba(x))
    assert again.get_params() == trained.get_params()


def test_the_seed_decides_every_bit_and_warm_start_goes_on(trained):
    x, y = stripes(60)
    model = clone(trained).set_params(warm_start=True).fit(x, y)
    np.testing.assert_array_equal(model.predict_proba(x), trained.predict_proba(x))
    first = model.model_
    model.set_params(epochs=1).fit(x, y)
    assert model.model_ is first
    assert model.history_["loss"][0] < trained.history_["loss"][0] / 2
    with pytest.raises(DataError, match="classes are those of before"):
        model.fit(x, np.where(y == "lying", "a", "b"))


def test_three_classes_in_color_from_a_folder(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 100, (30, 9, 7, 3), dtype="uint8")
    labels = np.arange(30) % 3
    x[np.arange(30), :, :, labels] += 150
    write_pictures(tmp_path, x, labels, ["red", "green", "blue"])
    model = CNNClassifier(
        **SMALL, augment="flip", validation_fraction=0, label_smoothing=0.1, class_weight="balanced"
    ).fit(tmp_path)
    assert model.classes_.tolist() == ["blue", "green", "red"]
    assert model.shape_ == (9, 7, 3)
    assert model.score(tmp_path) >= 0.9
    assert model.predict(tmp_path).tolist() == model.predict(np.concatenate([x[2::3], x[1::3], x[::3]])).tolist()
    assert model.predict(tmp_path / "red" / "00000.png").tolist() == ["red"]
    # with "flip", a picture and its mirror image get one answer
    np.testing.assert_allclose(model.predict_proba(x), model.predict_proba(x[:, :, ::-1]), rtol=1e-6)


def test_feature_maps_are_what_a_layer_gives(trained):
    x, _ = stripes(3)
    first = trained.feature_maps(x)
    assert first.shape == (3, 8, 8, 4)
    np.testing.assert_array_equal(trained.feature_maps(x, "conv2d"), first)
    assert trained.feature_maps(x, -1).shape[-1] == 8
    with pytest.raises(ConfigError, match="convolutions; received layer=9"):
        trained.feature_maps(x, 9)


def test_the_residual_network_adds_blocks_and_stays_small():
    def blocks(model):
        return sum(type(layer).__name__ == "Add" for layer in model.layers)

    plain, residual = network((28, 28, 1), 10), network((28, 28, 1), 10, residual=True)
    assert (blocks(plain), blocks(residual)) == (0, 2)  # at 14 x 14 and at 7 x 7
    assert residual.count_params() < 300_000
    assert blocks(network((64, 64, 3), Dense(2), residual=True)) == 3
    assert blocks(network((8, 8, 1), 10, residual=True)) == 1
    assert network((1, 3, 1), 2, residual=True).output_shape == (None, 1)


def test_classes_and_their_weights():
    classes, places = encoded(np.array([["b"], ["a"], ["a"], ["b"], ["b"], ["b"]]), 6)
    assert (classes.tolist(), places.tolist()) == (["a", "b"], [1, 0, 0, 1, 1, 1])
    assert class_weights("balanced", classes, places) == {0: 1.5, 1: 0.75}
    assert class_weights({"b": 3}, classes, places) == {0: 1.0, 1: 3.0}
    with pytest.raises(DataError, match="missing classes"):
        encoded([1.0, float("nan")], 2)
    with pytest.raises(DataError, match="several types"):
        encoded(np.array(["a", 1, "a", 1], object), 4)


def test_numbers_from_pictures(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.random((60, 8, 8)) * rng.random((60, 1, 1))
    y = np.stack([100 + 10 * x.mean((1, 2)), -x.max((1, 2))], axis=1)
    model = CNNRegressor(**SMALL | {"epochs": 25}, validation_fraction=0).fit(x, y)
    assert model.score(x, y) > 0.8
    assert model.predict(x).shape == (60, 2)
    model.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(CNNRegressor.load(tmp_path / "m.safetensors").predict(x), model.predict(x))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"y": ["a"] * 24}, DataError, "at least two classes"),
        ({"y": ["a"] + ["b"] * 23}, DataError, "class 'a' has 1 example; at least 2"),
        ({"y": ["a", "b"]}, ShapeError, "each of 24 examples"),
        ({"y": None}, DataError, "expects the class of each example"),
        ({"x": [np.zeros((3, 3)), np.zeros((4, 3))]}, DataError, "pictures of 2 shapes"),
        ({"x": np.full((24, 8, 8), np.nan)}, DataError, "NaN"),
        ({"x": np.zeros((24, 8))}, DataError, "of shape"),
        ({"augment": "flap"}, ConfigError, "Did you mean 'flip'"),
        ({"residual": "yes"}, ConfigError, "residual"),
        ({"width": 0}, ConfigError, "width is a whole number"),
        ({"epochs": 0}, ConfigError, "epochs is a whole number"),
        ({"label_smoothing": 1}, ConfigError, "label_smoothing"),
        ({"class_weight": {"c": 2}}, ConfigError, "not a class"),
        ({"class_weight": "even"}, ConfigError, "balanced"),
        ({"random_state": -1}, ConfigError, "random_state"),
    ],
)
def test_mistakes_are_named(change, error, words):
    x, y = stripes(24)
    x, y = change.pop("x", x), change.pop("y", y)
    with pytest.raises(error, match=words):
        CNNClassifier(**SMALL | change).fit(x, y)


def test_pictures_to_predict_are_like_those_learnt_from(trained, tmp_path):
    x, _ = stripes(2)
    with pytest.raises(ShapeError, match=r"shape \(8, 8, 1\); received \(9, 9, 1\)"):
        trained.predict(np.zeros((2, 9, 9), "uint8"))
    with pytest.raises(DataError, match=r"trained on whole numbers from 0 to 255 \(uint8\); received real numbers"):
        trained.predict(x / 255)
    np.testing.assert_array_equal(trained.predict_proba(x.astype("int64")), trained.predict_proba(x))
    with pytest.raises(DataError, match="no pictures in this folder"):
        trained.predict(tmp_path)
    with pytest.raises(NotFittedError):
        CNNClassifier().predict(x)
    with pytest.raises(ConfigError, match="names are the classes"):
        CNNClassifier().fit(tmp_path, [1])
    with pytest.raises(DataError, match="nothing about numbers"):
        CNNRegressor().fit(tmp_path, [1.0])
    with pytest.raises(ShapeError, match="y is expected to hold numbers"):
        CNNRegressor().fit(x, ["a", "b"])
