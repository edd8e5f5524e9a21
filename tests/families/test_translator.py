import numpy as np
import pytest
from sklearn.base import clone

from lamina.core.errors import ConfigError, DataError, ShapeError
from lamina.families.base import load
from lamina.families.translator import ImageTranslator, network, psnr

TINY = {"width": 4, "depth": 1, "epochs": 25, "batch_size": 4, "learning_rate": 0.01, "random_state": 0, "verbose": 0}


def noisy_bars(count, seed=0, height=10, width=11):
    rng = np.random.default_rng(seed)
    clean = np.repeat(rng.integers(40, 216, (count, 1, width)), height, axis=1).astype("uint8")
    noisy = np.clip(clean + rng.normal(0, 30, clean.shape), 0, 255).astype("uint8")
    return noisy, clean


def test_noise_is_taken_away(tmp_path):
    noisy, clean = noisy_bars(24)
    model = ImageTranslator(**TINY).fit(noisy, clean)
    x, y = noisy_bars(6, seed=1)
    found = model.predict(x)
    assert found.dtype == np.uint8
    assert found.shape == x.shape
    before = np.mean([psnr(a, b) for a, b in zip(y, x, strict=True)])
    assert model.score(x, y) > before + 3
    model.save(tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.predict(x), found)
    np.testing.assert_array_equal(clone(model).fit(noisy, clean).predict(x), found)
    # any size, each as if it came alone
    sizes = model.predict([x[0], x[1][:7, :5]])
    assert [picture.shape for picture in sizes] == [(10, 11), (7, 5)]
    np.testing.assert_array_equal(sizes[0], found[0])
    with pytest.raises(ShapeError, match="1 channels; received 3"):
        model.predict(np.zeros((1, 8, 8, 3), "uint8"))
    with pytest.raises(ConfigError, match="predict_proba is for segmentation"):
        model.predict_proba(noisy)


def test_before_training_restoration_gives_its_input():
    x = np.random.default_rng(0).random((2, 8, 12, 1), "float32")
    found = network(1, 1, [0.5], [0.25], width=4).predict(x)
    np.testing.assert_allclose(found, (x - 0.5) / 0.5, atol=1e-6)


def test_a_class_for_every_pixel():
    rng = np.random.default_rng(0)
    masks = np.zeros((24, 8, 8), int)
    for mask in masks:
        top, left = rng.integers(0, 4, 2)
        mask[top : top + 4, left : left + 4] = 7
    x = masks / 7.0 + rng.normal(0, 0.5, masks.shape)
    model = ImageTranslator(**TINY | {"epochs": 40}).fit(x[:20], masks[:20])
    assert model.task_ == "segmentation"
    assert model.classes_.tolist() == [0, 7]
    found = model.predict(x[20:])
    assert set(np.unique(found)) <= {0, 7}
    assert (found == masks[20:]).mean() > (np.where(x[20:] > 0.5, 7, 0) == masks[20:]).mean()
    assert 0.6 < model.score(x[20:], masks[20:]) <= 1
    np.testing.assert_allclose(model.predict_proba(x[:2]).sum(-1), 1, rtol=1e-5)
    with pytest.raises(DataError, match="class 3, which was not there"):
        model.score(x[:1], masks[:1] + 3)


def test_other_channels_than_come_in():
    rng = np.random.default_rng(0)
    gray = rng.random((8, 8, 8))
    color = np.stack([gray, 1 - gray, gray / 2], axis=-1)
    model = ImageTranslator(**TINY | {"epochs": 60}, loss="absolute", validation_fraction=0).fit(gray, color)
    found = model.predict(gray)
    assert found.shape == color.shape
    assert np.abs(found - color).mean() < 0.5 * np.abs(color - color.mean((0, 1, 2))).mean()


def test_pairs_that_do_not_fit_are_named():
    noisy, clean = noisy_bars(4)
    with pytest.raises(DataError, match="4 pictures and y has 3"):
        ImageTranslator(**TINY).fit(noisy, clean[:3])
    with pytest.raises(ShapeError, match=r"10 x 11 and .* 9 x 11"):
        ImageTranslator(**TINY).fit(noisy, clean[:, 1:])
    with pytest.raises(DataError, match="masks are whole numbers"):
        ImageTranslator(**TINY, task="segmentation").fit(noisy, clean / 255.0)
    with pytest.raises(DataError, match="every pixel has class 0"):
        ImageTranslator(**TINY).fit(noisy, clean * 0)
    with pytest.raises(ConfigError, match="loss is"):
        ImageTranslator(**TINY, loss="hinge").fit(noisy, clean)
    with pytest.raises(ConfigError, match="task is"):
        ImageTranslator(**TINY, task="paint").fit(noisy, clean)
