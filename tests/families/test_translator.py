import numpy as np
import pytest
from sklearn.base import clone

from lamina.core.errors import ConfigError, DataError, ShapeError
from lamina.families.base import load
from lamina.families.translator import ImageTranslator, network, psnr

# 22 pictures: two are watched, and the batches of the others are all of one size
TINY = {"width": 4, "depth": 1, "epochs": 25, "batch_size": 5, "learning_rate": 0.02, "random_state": 0, "verbose": 0}


def noisy_bars(count, seed=0, height=8, width=9):
    rng = np.random.default_rng(seed)
    clean = np.repeat(rng.integers(40, 216, (count, 1, width)), height, axis=1).astype("uint8")
    noisy = np.clip(clean + rng.normal(0, 30, clean.shape), 0, 255).astype("uint8")
    return noisy, clean


@pytest.fixture(scope="module")
def restoring():
    return ImageTranslator(**TINY).fit(*noisy_bars(22))


@pytest.fixture(scope="module")
def finding():
    """Finds squares, which it calls 7."""
    rng = np.random.default_rng(0)
    masks = np.zeros((26, 8, 8), int)
    for mask in masks:
        top, left = rng.integers(0, 4, 2)
        mask[top : top + 4, left : left + 4] = 7
    x = masks / 7.0 + rng.normal(0, 0.5, masks.shape)
    return ImageTranslator(**TINY).fit(x[:22], masks[:22]), x[22:], masks[22:]


def test_noise_is_taken_away(restoring, tmp_path):
    x, y = noisy_bars(6, seed=1)
    found = restoring.predict(x)
    assert found.dtype == np.uint8
    assert found.shape == x.shape
    before = np.mean([psnr(a, b) for a, b in zip(y, x, strict=True)])
    assert restoring.score(x, y) > before + 3
    restoring.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(load(tmp_path / "m.safetensors").predict(x), found)
    # any size, each as if it came alone
    sizes = restoring.predict([x[0], x[1][:7, :5]])
    assert [picture.shape for picture in sizes] == [(8, 9), (7, 5)]
    np.testing.assert_array_equal(sizes[0], found[0])


def test_the_seed_decides_every_bit(restoring):
    x, _ = noisy_bars(6, seed=1)
    again = clone(restoring).fit(*noisy_bars(22))
    np.testing.assert_array_equal(again.predict(x), restoring.predict(x))
    # going on from there; what says how to build the network is not read again
    again.set_params(warm_start=True, epochs=1, depth=3, learning_rate=1e-9).fit(*noisy_bars(22))
    assert np.abs(again.predict(x).astype(int) - restoring.predict(x)).mean() < 5
    assert again.model_.count_params() == restoring.model_.count_params()


def test_before_training_restoration_gives_its_input():
    x = np.random.default_rng(0).random((2, 8, 12, 1), "float32")
    found = network(1, 1, [0.5], [0.25], width=2, depth=1).predict(x)
    np.testing.assert_allclose(found, (x - 0.5) / 0.5, atol=1e-6)


def test_a_class_for_every_pixel(finding):
    model, x, masks = finding
    assert model.task_ == "segmentation"
    assert model.classes_.tolist() == [0, 7]
    found = model.predict(x)
    assert set(np.unique(found)) <= {0, 7}
    assert (found == masks).mean() > (np.where(x > 0.5, 7, 0) == masks).mean() + 0.02
    assert 0.6 < model.score(x, masks) <= 1
    np.testing.assert_allclose(model.predict_proba(x).sum(-1), 1, rtol=1e-5)
    with pytest.raises(DataError, match="class 3, which was not there"):
        model.score(x[:1], masks[:1] + 3)


def test_other_channels_than_come_in():
    rng = np.random.default_rng(0)
    gray = rng.random((8, 8, 8))
    color = np.stack([gray, 1 - gray, gray / 2], axis=-1)
    settings = TINY | {"epochs": 60, "batch_size": 4, "learning_rate": 0.01}
    model = ImageTranslator(**settings, loss="absolute", validation_fraction=0).fit(gray, color)
    found = model.predict(gray)
    assert found.shape == color.shape
    assert np.abs(found - color).mean() < 0.5 * np.abs(color - color.mean((0, 1, 2))).mean()


def test_pairs_that_do_not_fit_are_named():
    noisy, clean = noisy_bars(4)
    with pytest.raises(DataError, match="4 pictures and y has 3"):
        ImageTranslator(**TINY).fit(noisy, clean[:3])
    with pytest.raises(ShapeError, match=r"8 x 9 and .* 7 x 9"):
        ImageTranslator(**TINY).fit(noisy, clean[:, 1:])
    with pytest.raises(DataError, match="masks are whole numbers"):
        ImageTranslator(**TINY, task="segmentation").fit(noisy, clean / 255.0)
    with pytest.raises(DataError, match="every pixel has class 0"):
        ImageTranslator(**TINY).fit(noisy, clean * 0)
    with pytest.raises(DataError, match="y is expected to hold pictures; received None"):
        ImageTranslator(**TINY).fit(noisy, None)
    for change in ({"loss": "hinge"}, {"task": "paint"}, {"depth": -1}, {"patience": -1}, {"verbose": "loud"}):
        with pytest.raises(ConfigError, match=f"{next(iter(change))} is"):
            ImageTranslator(**TINY | change).fit(noisy, clean)


def test_pictures_of_another_kind_than_learnt_are_named(restoring, finding):
    x, y = noisy_bars(22)
    with pytest.raises(ShapeError, match="1 channels; received 3"):
        restoring.predict(np.zeros((1, 8, 8, 3), "uint8"))
    with pytest.raises(DataError, match=r"trained on whole numbers from 0 to 255 \(uint8\); received real numbers"):
        restoring.predict(x / 255)
    with pytest.raises(ConfigError, match="predict_proba is for segmentation"):
        restoring.predict_proba(x)
    going_on = clone(restoring).set_params(warm_start=True)
    vars(going_on).update({name: getattr(restoring, name) for name in ("model_", *restoring._kept)})
    with pytest.raises(ShapeError, match="1 and 1 channels as before; received 3 and 1"):
        going_on.fit(np.stack([x] * 3, -1), y)
    model, pictures, masks = finding
    going_on = clone(model).set_params(warm_start=True)
    vars(going_on).update({name: getattr(model, name) for name in ("model_", *model._kept)})
    with pytest.raises(DataError, match="class 3, which was not there"):
        going_on.fit(pictures, masks + 3)
