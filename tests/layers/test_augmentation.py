import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina.core.config import set_random_seed
from lamina.core.errors import ConfigError, ShapeError
from lamina.core.state import bind
from lamina.layers.augmentation import CutMix, MixUp, RandomCrop
from lamina.layers.coloring import (
    RandomBrightness,
    RandomContrast,
    RandomErasing,
    RandomGrayscale,
    RandomHue,
    RandomInvert,
    RandomPosterization,
    RandomSaturation,
    Solarization,
)
from lamina.layers.geometric import Pipeline, RandomFlip, RandomRotation, RandomShear, RandomTranslation, RandomZoom
from lamina.layers.preprocessing import Rescaling
from tests.layers.test_preprocessing import GOLDEN, close

GRID = np.arange(12.0, dtype="float32").reshape(1, 3, 4, 1)
SQUARE = np.arange(9.0, dtype="float32").reshape(1, 3, 3, 1)
BATCH = np.repeat(SQUARE, 64, axis=0)
FILLS = ["reflect", "wrap", "constant", "nearest"]


def run(layer, x, **arguments):
    """What the layer gives inside jit, where it belongs."""
    return jax.jit(lambda x: layer(x, **arguments))(x)


def plane(x):
    """The first picture's only channel, rounded."""
    return np.asarray(x)[0, :, :, 0].round(4).tolist()


def kinds(pictures):
    """The different pictures of a batch."""
    return {np.asarray(picture).round(4).tobytes() for picture in pictures}


# -- geometry ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("fill", FILLS)
def test_resampling_is_keras_s(fill, interpolation):
    rule, name = {"fill_mode": fill, "interpolation": interpolation, "fill_value": 0.3}, f"{fill}/{interpolation}"
    x = GOLDEN["picture"]
    close(run(RandomRotation((0.07, 0.07), **rule), x), f"rotate/{name}")
    close(run(RandomTranslation((0.25, 0.25), (-0.4, -0.4), **rule), x), f"translate/{name}")
    close(run(RandomZoom((0.6, 0.6), (-0.3, -0.3), **rule), x), f"zoom/{name}")


def test_a_quarter_turn_and_exact_moves_by_hand():
    assert plane(run(RandomRotation((0.25, 0.25)), SQUARE)) == [[2, 5, 8], [1, 4, 7], [0, 3, 6]]  # counter-clockwise
    np.testing.assert_array_equal(plane(run(RandomRotation((0.5, 0.5)), GRID)), GRID[0, ::-1, ::-1, 0])
    third = (1 / 3, 1 / 3)
    moves = {
        "constant": [[9, 9, 9, 9], [9, 0, 1, 2], [9, 4, 5, 6]],
        "nearest": [[0, 0, 1, 2], [0, 0, 1, 2], [4, 4, 5, 6]],
        "reflect": [[0, 0, 1, 2], [0, 0, 1, 2], [4, 4, 5, 6]],
        "wrap": [[11, 8, 9, 10], [3, 0, 1, 2], [7, 4, 5, 6]],
    }
    for fill, expected in moves.items():
        layer = RandomTranslation(third, (0.25, 0.25), fill, interpolation="nearest", fill_value=9.0)
        assert plane(run(layer, GRID)) == expected, fill
    far = run(RandomTranslation(0.0, (0.75, 0.75), "reflect"), GRID)
    assert plane(far)[0] == [2, 1, 0, 0]
    # a zoom of 100 percent more shows twice as much: every other pixel about the middle
    assert plane(run(RandomZoom((1.0, 1.0), fill_mode="constant"), SQUARE)) == [[0, 0, 0], [0, 4, 0], [0, 0, 0]]


def test_shear_moves_rows_by_their_height():
    out = kinds(run(RandomShear((1.0, 1.0), fill_mode="constant"), BATCH))
    right, left = [[0, 1, 2], [4, 5, 0], [8, 0, 0]], [[0, 1, 2], [0, 3, 4], [0, 0, 6]]
    assert out == kinds(np.array([right, left], "float32"))


def test_flips():
    x = SQUARE[0]
    pictures = {"same": x, "horizontal": x[:, ::-1], "vertical": x[::-1], "both": x[::-1, ::-1]}
    for mode, names in (
        ("horizontal", ["same", "horizontal"]),
        ("vertical", ["same", "vertical"]),
        ("horizontal_and_vertical", ["same", "horizontal", "vertical", "both"]),
    ):
        out = run(RandomFlip(mode), BATCH)
        assert kinds(out) == kinds(pictures[name] for name in names)
        shares = [np.mean([np.array_equal(picture, pictures[name]) for picture in out]) for name in names]
        assert all(abs(share - 1 / len(names)) < 0.25 for share in shares)


def test_crops_are_windows_and_differ():
    x = np.arange(30.0, dtype="float32").reshape(1, 5, 6, 1).repeat(64, axis=0)
    windows = kinds(x[0, i : i + 3, j : j + 4] for i in range(3) for j in range(3))
    assert kinds(run(RandomCrop(3, 4), x)) == windows
    np.testing.assert_array_equal(run(RandomCrop(5, 6), x), x)
    middle = run(RandomCrop(5, 5), x, training=False)  # the largest square in the middle
    np.testing.assert_allclose(middle[0, :, :, 0], x[0, :, :5, 0], atol=1e-5)
    assert run(RandomCrop(8, 8), x).shape == (64, 8, 8, 1)


def test_pipeline_joins_what_it_can():
    rotate, flip, crop = RandomRotation((0.25, 0.25)), RandomFlip("horizontal"), RandomCrop(2, 2)
    other = RandomZoom(0.1, fill_mode="wrap")
    steps = Pipeline([rotate, RandomZoom((0.0, 0.0)), flip, crop, flip, Rescaling(2.0), other, rotate]).steps
    assert [type(step).__name__ for step in steps] == [
        "Joined", "RandomCrop", "RandomFlip", "Rescaling", "RandomZoom", "RandomRotation"
    ]  # fmt: skip
    # in order: first moved to the right, then turned
    joined = Pipeline([RandomTranslation(0.0, (1 / 3, 1 / 3), "constant"), RandomRotation((0.25, 0.25), "constant")])
    assert len(joined.steps) == 1
    assert plane(run(joined, SQUARE)) == [[1, 4, 7], [0, 3, 6], [0, 0, 0]]
    np.testing.assert_array_equal(run(joined, SQUARE, training=False), SQUARE)
    assert len(kinds(run(Pipeline([RandomFlip(), RandomRotation(0.2)]), BATCH))) > 40
    with pytest.raises(ConfigError, match="a list of layers"):
        Pipeline([])


# -- what all of them share --------------------------------------------------------------------------------------------

EVERY = [
    RandomFlip(),
    RandomRotation(0.2),
    RandomTranslation(0.2, 0.2),
    RandomZoom(0.3),
    RandomShear(0.4, 0.4),
    RandomBrightness(0.5),
    RandomContrast(0.5),
    RandomErasing((1.0, 1.0)),
    Solarization(0.5, 0.5),
]


@pytest.mark.parametrize("layer", EVERY, ids=lambda layer: type(layer).__name__)
def test_each_picture_has_numbers_of_its_own_and_only_in_training(layer):
    x = np.random.default_rng(0).uniform(0, 255, (1, 6, 6, 1)).astype("float32").repeat(16, axis=0)
    assert len(kinds(run(layer, x))) > 1
    np.testing.assert_array_equal(layer(x, training=False), x)
    with bind({}, training=False):
        np.testing.assert_array_equal(layer(x), x)


def test_one_picture_of_whole_numbers():
    x = GRID[0].astype("uint8")
    out = run(RandomRotation((0.5, 0.5)), x)
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, x[::-1, ::-1], atol=1e-5)
    assert RandomFlip()(x, training=False).dtype == jnp.float32


def test_numbers_follow_the_seed_and_the_key():
    def draw(root, **config):
        set_random_seed(root)
        return np.asarray(run(RandomRotation(0.3, **config), BATCH))

    np.testing.assert_array_equal(draw(1), draw(1))
    assert (draw(1) != draw(2)).any()
    assert (draw(1) != draw(1, seed=5)).any()
    layer = RandomRotation(0.3)

    @jax.jit
    def twice(key):
        with bind({}, key=key, training=True):
            return layer(BATCH), layer(BATCH)

    first, second = twice(jax.random.key(0))
    assert (first != second).any()


def test_channels_first():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype("float32")
    out = run(RandomRotation((0.5, 0.5), data_format="channels_first"), x)
    np.testing.assert_allclose(out, x[:, :, ::-1, ::-1], atol=1e-5)
    assert run(RandomCrop(2, 3, data_format="channels_first"), x).shape == (2, 3, 2, 3)


def test_masks_and_labels_go_along():
    mask = (SQUARE > 3).astype("int32")
    data = {"images": SQUARE, "segmentation_masks": mask, "labels": np.array([4])}
    out = run(RandomRotation((0.25, 0.25)), data)
    np.testing.assert_array_equal(out["segmentation_masks"], np.rot90(mask, axes=(1, 2)))
    assert out["segmentation_masks"].dtype == jnp.int32
    assert out["labels"].tolist() == [4]
    flipped = run(RandomFlip(), {"images": BATCH, "segmentation_masks": BATCH})
    np.testing.assert_array_equal(flipped["images"], flipped["segmentation_masks"])
    colored = run(RandomBrightness((0.5, 0.5)), data)
    np.testing.assert_array_equal(colored["segmentation_masks"], mask)
    joined = run(Pipeline([RandomFlip(), RandomZoom(0.1)]), data)
    assert set(joined) == set(data)


def test_bad_arguments():
    with pytest.raises(ConfigError, match=r"factor as a number or a pair of numbers from -1 to 1; received 3"):
        RandomRotation(3)
    with pytest.raises(ConfigError, match=r"x_factor as a number or a pair of numbers from 0 to 1"):
        RandomShear((-0.5, 0.5))
    with pytest.raises(ConfigError, match="Did you mean 'reflect'"):
        RandomZoom(0.1, fill_mode="reflekt")
    with pytest.raises(ConfigError, match="mode as one of"):
        RandomFlip("sideways")
    with pytest.raises(ConfigError, match="value_range as two rising numbers"):
        RandomHue(0.1, value_range=255)
    with pytest.raises(ShapeError, match="expected pictures of shape"):
        run(RandomFlip(), jnp.ones((3, 3)))
    with pytest.raises(ShapeError, match="3 channels; received 1"):
        run(RandomHue(0.1), SQUARE)
    with pytest.raises(ConfigError, match=r"received\s+one of \['bounding_boxes', 'images'\]"):
        run(RandomFlip(), {"images": SQUARE, "bounding_boxes": np.zeros((1, 1, 4))})
    with pytest.raises(ConfigError, match="width of at least 1 pixel"):
        RandomCrop(3, 0)


# -- colours -----------------------------------------------------------------------------------------------------------


def test_colours_are_keras_s():
    x = GOLDEN["picture"]
    close(run(RandomBrightness((0.3, 0.3), (0, 1)), x), "brightness")
    close(run(Solarization(threshold_factor=0.0, value_range=(0, 1)), x), "solarize")
    close(run(RandomGrayscale(1.0), x), "grayscale")
    close(run(RandomSaturation((0.3, 0.3), (0, 1)), x), "saturation")
    close(run(RandomPosterization(3, (0, 1)), x), "posterize")


def test_hue_turns_the_colour_wheel():
    x = GOLDEN["picture"] * 255
    out = np.asarray(run(RandomHue((0.5, 0.5)), x))[0].reshape(-1, 3) / 255
    before = [colorsys.rgb_to_hsv(*map(float, pixel)) for pixel in x[0].reshape(-1, 3) / 255]
    ways = [[colorsys.hsv_to_rgb((h + turn) % 1, s, v) for h, s, v in before] for turn in (0.25, -0.25)]
    assert min(np.abs(out - way).max() for way in ways) < 1e-5


def test_contrast_keeps_the_mean():
    x = GOLDEN["picture"]
    out = np.asarray(run(RandomContrast((0.5, 0.0), (-5, 5)), x.repeat(20, axis=0)))
    np.testing.assert_allclose(out.mean((1, 2)), x.mean((1, 2)).repeat(20, axis=0), rtol=1e-5)
    factors = out.std((1, 2))[:, 0] / x.std((1, 2))[0, 0]
    assert 0.5 <= factors.min() < 0.65
    assert 0.85 < factors.max() <= 1.0001


def test_shares_of_grey_and_negative_pictures():
    x = GOLDEN["picture"].repeat(200, axis=0)
    grey = np.asarray(run(RandomGrayscale(0.25), x))
    assert abs((np.ptp(grey, axis=-1).max((1, 2)) == 0).mean() - 0.25) < 0.1
    negative = np.asarray(run(RandomInvert((0.7, 0.7), (0, 1)), x))
    changed = (negative != x).any((1, 2, 3))
    np.testing.assert_allclose(negative[changed], 1 - x[changed], atol=1e-6)
    assert abs(changed.mean() - 0.7) < 0.12


def test_erasing_paints_one_window():
    x = np.ones((100, 20, 10, 3), "float32")
    out = np.asarray(run(RandomErasing((0.6, 0.6), (0.25, 0.25), fill_value=[7.0, 8.0, 9.0]), x))
    erased = (out != 1).any((1, 2, 3))
    assert abs(erased.mean() - 0.6) < 0.15
    for picture in out[erased]:
        rows, columns = np.where(picture[:, :, 0] == 7)
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert (height, width) in {(10, 5), (11, 5), (10, 4), (10, 6)}  # half of each side
        assert len(rows) == height * width
        assert (picture[rows, columns] == [7, 8, 9]).all()
    noise = np.asarray(run(RandomErasing((1.0, 1.0), (1.0, 1.0), value_range=(0, 1)), x[:2]))
    assert noise.min() == 0
    assert noise.max() == 1
    assert len(np.unique(noise)) > 100


# -- blends ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [MixUp(0.9), CutMix(1.0)], ids=["mixup", "cutmix"])
def test_blends_mix_pictures_and_labels_alike(layer):
    labels = np.eye(16, dtype="float32")
    # picture i is i everywhere: what it shows of others can be read off
    images = np.broadcast_to(labels[:, None, None, :], (16, 12, 12, 16)).copy()
    out = run(layer, {"images": images, "labels": labels})
    np.testing.assert_allclose(out["images"].mean((1, 2)), out["labels"], atol=1e-5)
    np.testing.assert_allclose(out["labels"].sum(-1), 1, rtol=1e-6)
    assert (np.asarray(out["labels"]) > 0).sum() > 16
    same = layer({"images": images, "labels": labels}, training=False)
    np.testing.assert_array_equal(same["images"], images)
    assert layer.mixes_rows


def test_blends_need_one_hot_labels():
    with pytest.raises(ConfigError, match="blends labels too"):
        MixUp()(SQUARE)
    with pytest.raises(ConfigError, match="one-hot vectors"):
        CutMix()({"images": SQUARE, "labels": np.array([1])})
    with pytest.raises(ConfigError, match="alpha of more than 0"):
        MixUp(0.0)
