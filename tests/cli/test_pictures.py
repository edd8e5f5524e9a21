"""Folders of pictures: told apart, reduced, drawn anew, enlarged."""

import csv

import numpy as np
import pytest
from PIL import Image

from lamina.data.pictures import load_pictures, picture_size, write_pictures
from tests.cli.conftest import TINY, shades


@pytest.fixture(scope="module")
def pictures(place):
    made, labels = shades()
    paths = write_pictures(place / "shades", made, labels, ["dark", "light"])
    write_pictures(place, made, np.zeros(len(made), int), ["loose"])
    return paths


@pytest.fixture(scope="module")
def codes(pictures, at):
    return at("train", "loose", *TINY["codes"])


@pytest.fixture(scope="module")
def vae(pictures, at):
    return at("train", "shades", "--family", "vae", "--out", "runs/vae", *TINY["codes"], "--set", "n_components=3")


@pytest.fixture(scope="module")
def gan(pictures, at):
    return at("train", "shades", "--family", "gan", "--out", "runs/gan", *TINY["gan"])


@pytest.fixture(scope="module")
def upscaling(place, at):
    smooth = [np.clip(np.add.outer(np.arange(24) * i, np.arange(32) * 5), 0, 255).astype("uint8") for i in range(1, 5)]
    write_pictures(place, np.stack(smooth), np.zeros(4, int), ["photos"])
    return at("train", "photos", "--family", "super-resolution", "--scale", "2", *TINY["upscaling"])


def test_classes_from_training_to_prediction(pictures, place, at):
    out = at("train", "shades", "--epochs", "3", "--set", "width=4", "--set", "augment=null")
    assert "40 gray pictures of 8 x 8 in 2 folders: a convolutional network (CNN) that tells 2 classes apart" in out
    assert "Other families that fit (--family): autoencoder, vae, gan, super-resolution." in out
    assert (place / "runs/shades/examples.png").is_file()
    out = at("predict", "runs/shades", pictures[1])
    assert out.splitlines()[1].split()[1] in ("dark", "light")
    assert "For gray pictures of 8 x 8: dark, light" in at("inspect", "runs/shades")
    lines = at("evaluate", "runs/shades", "shades").splitlines()
    assert "on 40 pictures" in lines[0]
    assert lines[1].endswith("of     20 right")


def test_without_classes_pictures_are_reduced(codes, place, at):
    assert "40 gray pictures of 8 x 8 without folders for classes: an autoencoder" in codes
    assert "share of the variance kept" in codes
    left = {path.name for path in (place / "runs/loose").iterdir()}
    assert left == {"model.safetensors", "metrics.csv", "curves.png", "plane.png", "reconstructions.png"}
    out = at("reduce", "runs/loose", "shades", "--out", "codes.csv")
    assert out == "codes.csv: 40 pictures.\nplane.png: the codes as points of a plane.\n"
    with (place / "codes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["picture", "code 1", "code 2", "class"]
    assert {row["class"] for row in rows} == {"dark", "light"}
    assert rows[0]["picture"] == "shades/dark/00000.png"
    # one picture, without a class
    assert len(at("reduce", "runs/loose", "loose/00000.png").splitlines()[0].split()) == 5
    assert "Reduces gray pictures of 8 x 8 to 2 numbers" in at("inspect", "runs/loose")
    assert at("evaluate", "runs/loose", "loose").startswith("loose: mean squared error ")


def test_a_variational_autoencoder_draws_as_well(vae, place, at):
    assert "a variational autoencoder (VAE) that reduces each to a few numbers and draws new ones" in vae
    assert (place / "runs/vae/samples.png").is_file()
    assert at("reduce", "runs/vae", "loose").splitlines()[0].split() == [
        "picture",
        "code",
        "1",
        "code",
        "2",
        "code",
        "3",
    ]
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        at("generate", "runs/vae", "--out", f"{name}.png", "--count", "4", "--seed", seed)
    a, b, c = ((place / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c


def test_a_gan_draws_by_class(gan, place, at):
    assert "a generative adversarial network (GAN) that draws new ones, of the class asked for" in gan
    assert "40 pictures to learn from.\n" in gan
    assert "Test:" not in gan
    height, width = picture_size(place / "runs/gan/samples.png")
    assert 0.4 < height / width < 0.8  # 10 of 12 epochs, with 16 pictures each
    assert at("generate", "runs/gan", "--class", "light", "--count", "2", "--seed", "5") == (
        "samples.png: 2 pictures (--seed 5 draws them again).\n"
    )
    assert "Draws gray pictures of 8 x 8: dark, light" in at("inspect", "runs/gan")


def test_upscaling(upscaling, place, at):
    assert "4 gray pictures: a network that enlarges pictures (super-resolution)" in upscaling
    assert "3 pictures to learn from, 1 to test on" in upscaling
    assert "that of bicubic enlargement" in upscaling
    assert (place / "runs/photos/before_after.png").is_file()
    out = at("upscale", "runs/photos", "photos/00001.png")
    assert out == "00001-2x.png.\nbefore_after.png: before and after.\n"
    assert picture_size(place / "00001-2x.png") == (48, 64)
    colors = np.random.default_rng(0).integers(0, 256, (6, 9, 3), "uint8")
    (place / "mixed").mkdir()
    Image.fromarray(colors).save(place / "mixed/colors.png")
    Image.fromarray(colors[..., 0]).save(place / "mixed/red.png")
    assert at("upscale", "runs/photos", "mixed", "--out", "large").startswith("large/colors.png and 1 more.\n")
    large, red = (load_pictures([place / "large" / name], (12, 18), "rgb")[0] for name in ("colors.png", "red.png"))
    np.testing.assert_array_equal(large[..., 0], red[..., 0])  # each color by itself, as a gray picture
    assert "Enlarges gray pictures of any size 2 times" in at("inspect", "runs/photos")
    assert at("evaluate", "runs/photos", "mixed").startswith("mixed: PSNR ")


def test_wrong_use(codes, gan, upscaling, pictures, place, wrong):
    (place / "broken.png").write_bytes(b"no picture")
    assert "broken.png: this is not a picture" in wrong("upscale", "runs/photos", "broken.png")
    assert "broken.png: this is not a picture" in wrong("reduce", "runs/loose", "broken.png")
    (place / "empty").mkdir()
    assert wrong("reduce", "runs/loose", "empty") == "empty: there are no pictures in it"
    assert "there is no folder none" in wrong("reduce", "runs/loose", "loose", "--out", "none/codes.csv")
    assert "there is no folder none" in wrong("upscale", "runs/photos", "photos", "--out", "none/large")
    assert "there is no folder none" in wrong("generate", "runs/gan", "--out", "none/a.png")
    assert "expected a file that ends in .png" in wrong("generate", "runs/gan", "--out", "a.jpg")
    assert "expected a file that ends in .png" in wrong("upscale", "runs/photos", "photos/00001.png", "--out", "a.jpg")
    assert "among dark, light; received 'gray'" in wrong("generate", "runs/gan", "--class", "gray")
    assert "--prompt is not for a model that draws pictures" in wrong("generate", "runs/gan", "--prompt", "to be")
    assert "Write:  lamina reduce RUN DATA" in wrong("generate", "runs/loose")
    assert "Write:  lamina generate RUN" in wrong("evaluate", "runs/gan", "shades")
    assert "Write:  lamina upscale RUN PICTURE" in wrong("predict", "runs/photos", "photos")
    assert "--family cnn is not for loose, a folder of pictures without folders for classes; what fits: auto" in wrong(
        "train", "loose", "--family", "cnn", "--out", "x"
    )
    assert "--test-split is not for --family gan" in wrong(
        "train", "loose", "--family", "gan", "--test-split", "0.3", "--out", "x"
    )
    assert "scale is 2 or 4; received 3" in wrong(
        "train", "photos", "--family", "super-resolution", "--scale", "3", "--out", "x"
    )
    assert "--horizon is not for a model that tells pictures apart" in wrong(
        "train", "shades", "--horizon", "3", "--out", "x"
    )
    assert not (place / "x").exists()


def test_numbers_of_a_table_are_reduced(place, at, wrong):
    rng = np.random.default_rng(0)
    rows = [
        f"{a:.3f},{a * a:.3f},{'' if i == 3 else i % 5},{'pq'[int(a > 0)]}" for i, a in enumerate(rng.normal(size=40))
    ]
    (place / "shapes.csv").write_text("\n".join(["a,b,c,side", *rows]) + "\n")
    out = at(
        "train", "shapes.csv", "--target", "side", "--family", "autoencoder", "--set", "hidden=[8]", "--epochs", "2"
    )
    assert "40 rows, 3 columns of numbers: an autoencoder that reduces each row to a few numbers" in out
    assert "1 values are missing; the mean of their column stands for them" in out
    assert (place / "runs/shapes/plane.png").is_file()
    lines = at("reduce", "runs/shapes", "shapes.csv").splitlines()
    assert lines[0].split() == ["row", "code", "1", "code", "2", "class"]
    assert [len(line.split()) for line in lines[1:41]] == [4] * 40
    assert "For tables: reduces a, b, c to 2 numbers" in at("inspect", "runs/shapes")
    (place / "few.csv").write_text("a,b\n1,2\n")
    assert "no column 'c'" in wrong("reduce", "runs/shapes", "few.csv")
