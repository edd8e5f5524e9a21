import pickle

import numpy as np
import pytest
from sklearn.base import clone

from lamina.core.errors import ConfigError, DataError, ShapeError
from lamina.data.pictures import write_pictures
from lamina.families.base import load
from lamina.families.gan import GAN, halvings, spread
from lamina.families.super_resolution import SuperResolution, network, psnr, shrunk

SMALL = {"latent": 4, "filters": 4, "batch_size": 16, "random_state": 0}


@pytest.fixture(scope="module")
def bars():
    """Pictures of two classes: a bright bar on the left or on the right, of varying brightness."""
    rng = np.random.default_rng(0)
    y = np.arange(128) % 2
    x = np.zeros((128, 8, 8), "uint8")
    for picture, side in zip(x, y, strict=True):
        picture[:, 4 * side : 4 * side + 4] = rng.integers(120, 256)
    return x, np.array(["left", "right"])[y]


@pytest.fixture(scope="module")
def drawing(bars):
    settings = SMALL | {"filters": 8, "learning_rate": 2e-3, "average": 0.9}
    return GAN(epochs=12, **settings).fit(*bars)


def test_pictures_are_drawn_by_class(drawing):
    for side, name in enumerate(("left", "right")):
        mean = drawing.sample(32, y=name).mean(axis=(0, 1))
        bright, dark = mean[4 * side : 4 * side + 4].mean(), mean[4 - 4 * side : 8 - 4 * side].mean()
        assert bright > dark + 60
    drawn = drawing.sample(4)
    assert drawn.shape == (4, 8, 8)
    assert drawn.dtype == np.uint8
    assert (drawn == drawing.sample(4)).all()
    assert drawing.samples_.shape == (12, 16, 8, 8)
    assert len(drawing.history_["diversity"]) == len(drawing.history_["generator_loss"]) == 12


def test_a_loaded_gan_draws_the_same_and_goes_on(tmp_path, bars, drawing):
    drawing.save(tmp_path / "gan.safetensors")
    again = load(tmp_path / "gan.safetensors")
    assert (again.sample(5) == drawing.sample(5)).all()
    assert again.classes_.tolist() == ["left", "right"]
    again.set_params(warm_start=True, epochs=1)
    steps = int(again.model_.generator_optimizer.iterations)
    slots = again.model_.discriminator_optimizer.slots
    assert all(
        (v.numpy() == drawing.model_.discriminator_optimizer.slots[name].numpy()).all() for name, v in slots.items()
    )
    again.fit(*bars)
    assert int(again.model_.generator_optimizer.iterations) == steps + 8


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).uniform(-3, 5, (32, 9, 11, 2))


@pytest.fixture(scope="module")
def collapsed(noise):
    with pytest.warns(UserWarning, match=r"differ from each other only .* \(mode collapse\)"):
        return GAN(epochs=1, **SMALL).fit(noise)


def test_few_kinds_of_pictures_are_warned_of(collapsed):
    assert collapsed.history_["diversity"][-1] < 0.6


def test_floats_with_channels_of_odd_sizes_keep_their_range(collapsed):
    drawn = collapsed.sample(3)
    assert drawn.shape == (3, 9, 11, 2)
    assert drawn.dtype == np.float32
    assert drawn.min() >= -3
    assert drawn.max() <= 5


@pytest.mark.filterwarnings("ignore:the samples of this GAN")
def test_the_same_seed_gives_the_same_pictures(noise, collapsed):
    again = clone(collapsed).fit(noise)
    assert again.sample(4).tobytes() == collapsed.sample(4).tobytes()
    assert again.samples_.tobytes() == collapsed.samples_.tobytes()
    assert again.sample(4).tobytes() != again.set_params(random_state=1).sample(4).tobytes()


def test_how_often_pictures_are_halved():
    assert [halvings((side, side + 5, 1)) for side in (4, 8, 9, 28, 32, 33)] == [1, 1, 1, 2, 2, 3]


def test_the_spread_of_pictures_is_their_mean_distance():
    x = np.zeros((4, 2, 2, 1))
    x[2:] = 1.0
    rng = np.random.default_rng(0)
    assert spread(x, None, rng) == pytest.approx(2.0 * 8 / 12)
    assert spread(x, np.array([0, 0, 1, 1]), rng) == 0.0


@pytest.mark.parametrize(
    "settings", [{"latent": 0}, {"filters": 0}, {"epochs": 0}, {"batch_size": 1}, {"learning_rate": 0}, {"average": 1}]
)
def test_settings_of_a_gan_out_of_range_are_named(bars, settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        GAN(**settings).fit(bars[0])


def test_bad_pictures_and_classes_are_told(bars, drawing):
    x, y = bars
    for bad, words in (
        (x[:1], "at least 2 pictures"),
        (x[:, :3], "at least 4 x 4"),
        (x[0], "shape"),
        (x.astype(str), "numbers"),
    ):
        with pytest.raises(DataError, match=words):
            GAN().fit(bad)
    with pytest.raises(ShapeError, match="one class for each of 128"):
        GAN().fit(x, y[:5])
    with pytest.raises(DataError, match="missing classes"):
        GAN().fit(x, np.array(["left", None] * 64, object))
    with pytest.raises(ConfigError, match="among left, right"):
        drawing.sample(2, y="above")
    with pytest.raises(ConfigError, match="2 of them"):
        drawing.sample(2, y=["left"])
    going_on = clone(drawing).set_params(warm_start=True)
    vars(going_on).update({name: getattr(drawing, name) for name in ("model_", *drawing._kept)})
    with pytest.raises(ConfigError, match="with classes"):
        going_on.fit(x)
    with pytest.raises(DataError, match="goes on with pictures"):
        going_on.fit(x[:, :, :6], y)
    with pytest.raises(DataError, match=r"trained on whole numbers .*; received real numbers"):
        going_on.fit(x / 255, y)
    with pytest.raises(DataError, match=r"those of before: \['left', 'right'\]; received 'above'"):
        going_on.fit(x, np.where(y == "left", "above", y))


def test_the_score_tells_how_alike_samples_and_pictures_are(bars, drawing):
    x, y = bars
    assert -0.45 < drawing.score(x, y) < 0.05
    assert drawing.score(255 - x, y) < drawing.score(x, y) - 0.2  # each class as the other one
    with pytest.raises(DataError, match="at least 2 pictures of shape"):
        drawing.score(x[:, :6])


def test_settings_changed_after_fit_do_not_change_the_samples(drawing):
    changed = pickle.loads(pickle.dumps(drawing)).set_params(latent=9)
    assert (changed.sample(3) == drawing.sample(3)).all()


# -- super-resolution --------------------------------------------------------------------------------------------------

TINY = {"filters": 8, "blocks": 1, "batch_size": 8, "random_state": 0}


@pytest.fixture(scope="module")
def shapes():
    """Gray pictures of unequal sizes with sharp edges, which interpolation blurs."""
    rng = np.random.default_rng(0)
    pictures = []
    for size in ((64, 48), (50, 71), *[(64, 64)] * 5):
        picture = np.full(size, 40, "uint8")
        for _ in range(12):
            top, left = rng.integers(0, 40, 2)
            picture[top : top + rng.integers(6, 20), left : left + rng.integers(6, 20)] = rng.integers(0, 256)
        pictures.append(picture)
    return pictures


@pytest.fixture(scope="module")
def sharpening(shapes):
    return SuperResolution(crops=200, epochs=8, learning_rate=3e-3, **TINY | {"filters": 16}).fit(shapes[:-1])


def bicubic(picture, scale):
    from PIL import Image

    plane = Image.fromarray(picture.astype("float32"))
    return np.asarray(plane.resize(np.array(picture.shape[::-1]) * scale, Image.Resampling.BICUBIC)).clip(0, 255)


def test_it_beats_bicubic_on_a_picture_it_has_not_seen(shapes, sharpening):
    new = shapes[-1]
    small = shrunk(new[..., None], 2)[..., 0]
    ours, plain = sharpening.upscale(small), bicubic(small, 2)
    assert psnr(new, ours) > psnr(new, plain) + 0.2
    assert sharpening.score([new]) == pytest.approx(psnr(new, ours))


def test_an_untrained_network_enlarges_as_bicubic_does(shapes):
    model = network(4, 1, 4, 1, 0.0, 255.0)
    ours = model.predict(shapes[0][None, ..., None].astype("float32"))[0, 8:-8, 8:-8, 0]
    assert np.abs(ours.clip(0, 255) - bicubic(shapes[0], 4)[8:-8, 8:-8]).max() < 0.01


def test_tiles_leave_no_seams(sharpening):
    picture = np.random.default_rng(0).integers(0, 256, (150, 70), "uint8")
    whole = sharpening.model_.predict(picture[None, ..., None])[0, ..., 0].clip(0, 255)
    tiled = sharpening.upscale(picture)
    assert np.abs(whole - tiled)[16:-16, 16:-16].max() < 0.51


def test_pictures_come_back_in_the_form_they_came_in(shapes, sharpening):
    small = [picture[:20, :24] for picture in shapes[:3]]
    assert sharpening.upscale(small[0]).shape == (40, 48)
    assert sharpening.upscale(np.stack(small)).shape == (3, 40, 48)
    assert sharpening.upscale(np.stack(small)[..., None]).shape == (3, 40, 48, 1)
    several = sharpening.upscale([shapes[0], shapes[1]])
    assert [picture.shape for picture in several] == [(128, 96), (100, 142)]
    assert several[0].dtype == np.uint8
    assert (sharpening.predict(small[0]) == sharpening.upscale(small[0])).all()
    changed = pickle.loads(pickle.dumps(sharpening)).set_params(scale=4, blocks=9)
    assert (changed.upscale(small[0]) == sharpening.upscale(small[0])).all()


def test_colored_floats_in_a_folder_or_an_array(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (2, 36, 40, 3), "uint8")
    model = SuperResolution(scale=4, crops=8, epochs=1, **TINY)
    write_pictures(tmp_path, x, [0, 0], ["photos"])
    by_folder = model.fit(tmp_path).upscale(x[0])
    assert by_folder.shape == (144, 160, 3)
    floats = clone(model).fit(x / 255.0).upscale(x[:1] / 255.0)
    assert floats.dtype == np.float32
    assert np.abs(floats[0] * 255 - by_folder).mean() < 2


def test_a_loaded_one_enlarges_alike_and_goes_on(tmp_path, shapes, sharpening):
    sharpening.save(tmp_path / "sharp.safetensors")
    again = load(tmp_path / "sharp.safetensors")
    assert (again.upscale(shapes[2]) == sharpening.upscale(shapes[2])).all()
    again.set_params(warm_start=True, epochs=1, learning_rate=1e-4)
    again.fit(shapes[:-1])
    assert again.history_["loss"][0] < sharpening.history_["loss"][1]


def test_bad_settings_and_pictures_are_told(shapes, sharpening):
    with pytest.raises(ConfigError, match="scale is 2 or 4"):
        SuperResolution(scale=3).fit(shapes)
    with pytest.raises(ConfigError, match="crops"):
        SuperResolution(crops=0).fit(shapes)
    with pytest.raises(DataError, match="at least 32 pixels"):
        SuperResolution(scale=4).fit([shapes[0][:20]])
    with pytest.raises(DataError, match="3 channels and"):
        SuperResolution().fit([shapes[0], np.zeros((64, 64, 3), "uint8")])
    with pytest.raises(DataError, match="fitted on pictures with 1 channels"):
        sharpening.upscale(np.zeros((20, 20, 3), "uint8"))
    with pytest.raises(DataError, match="no pictures"):
        SuperResolution().fit([])
    with pytest.raises(DataError, match="received None"):
        SuperResolution().fit(None)
    with pytest.raises(DataError, match="trained on whole numbers from 0 to 255"):
        sharpening.upscale(shapes[0] / 255)
