import os
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from lamina.core.errors import ConfigError, DataError
from lamina.data.pictures import find_pictures, load_pictures, read_pictures, write_pictures


def picture(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype("uint8")


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


@pytest.fixture
def photos(tmp_path):
    """Two classes, three pictures of 4 x 6 pixels in color."""
    save(tmp_path / "dog" / "b.png", picture(4, 6, 3, seed=1))
    save(tmp_path / "dog" / "more" / "a.png", picture(4, 6, 3, seed=2))
    save(tmp_path / "cat" / "z.bmp", picture(4, 6, 3, seed=3))
    return tmp_path


def test_classes_and_files_in_sorted_order(photos):
    (photos / "README.txt").write_text("hello")
    (photos / "dog" / "notes.csv").write_text("1")
    (photos / ".hidden").mkdir()
    (photos / "dog" / "._b.png").write_bytes(b"not a picture")
    data = read_pictures(photos)
    assert data.class_names == ("cat", "dog")
    assert [path.name for path in data.paths] == ["z.bmp", "b.png", "a.png"]
    assert data.labels.tolist() == [0, 1, 1]
    assert data.labels.dtype == np.int32
    assert data.pictures.dtype == np.uint8
    np.testing.assert_array_equal(data.pictures, [picture(4, 6, 3, seed=seed) for seed in (3, 1, 2)])
    assert [path.name for path in data.skipped] == ["README.txt", "notes.csv"]
    assert (len(data), data.size, data.color) == (3, (4, 6), "rgb")
    assert find_pictures(photos / "dog")[0] == list(data.paths[1:])


def test_arrays_come_back_as_they_were_written(tmp_path):
    for pictures in (picture(5, 3, 4), picture(5, 3, 4, 1), picture(5, 3, 4, 3)):
        folder = tmp_path / str(pictures.ndim + pictures.size)
        paths = write_pictures(folder, pictures, [2, 0, 1, 0, 2], ["a", "T-shirt/top", "c"])
        assert paths[2] == folder / "T-shirt-top" / "00002.png"
        data = read_pictures(folder)
        assert data.class_names == ("T-shirt-top", "a", "c")
        np.testing.assert_array_equal(data.pictures, pictures.reshape(5, 3, 4, -1)[[2, 1, 3, 0, 4]])


# each file shows white at the top left and black elsewhere
WHITE = np.zeros((2, 3), "uint8")
WHITE[0, 0] = 255


def test_16_bits_become_8(tmp_path):
    values = np.array([[0, 128, 129, 385, 32768, 65535]], "uint16")
    for name in ("a.png", "a.tif"):
        result = load_pictures([save(tmp_path / name, values)])
        assert result[0, 0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]
    (tmp_path / "a.pgm").write_bytes(b"P5 2 1 65535\n" + bytes([255, 255, 0, 0]))
    assert load_pictures([tmp_path / "a.pgm"])[0, 0, :, 0].tolist() == [255, 0]


@pytest.mark.parametrize("values", [np.ones((2, 2), "float32"), np.full((2, 2), 70_000, "int32")])
def test_32_bits_have_no_known_white(tmp_path, values):
    path = save(tmp_path / "a.tif", values)
    with pytest.raises(DataError, match=r"a\.tif: expected pixels of 8 or 16 bits"):
        load_pictures([path])


def test_cmyk_palette_bilevel_and_transparency(tmp_path):
    cmyk = Image.fromarray(np.repeat(255 - WHITE[..., None], 4, -1) * np.array([0, 0, 0, 1], "uint8"), "CMYK")
    cmyk.save(tmp_path / "cmyk.jpg", quality=100)
    palette = Image.fromarray(WHITE // 255, "P")
    palette.putpalette([0, 0, 0, 255, 255, 255])
    palette.save(tmp_path / "palette.gif")
    Image.fromarray(WHITE > 0).save(tmp_path / "bilevel.png")
    hidden = np.zeros((2, 3, 4), "uint8")
    hidden[..., 3] = 255 - WHITE  # black, but for a place that is fully transparent
    Image.fromarray(hidden).save(tmp_path / "alpha.png")
    palette.save(tmp_path / "key.png", transparency=0)
    paths = [tmp_path / name for name in ("cmyk.jpg", "palette.gif", "bilevel.png", "alpha.png", "key.png")]
    result = load_pictures(paths)
    assert result.shape == (5, 2, 3, 1)
    for i in range(4):
        np.testing.assert_allclose(result[i, ..., 0], WHITE, atol=12, err_msg=paths[i].name)
    assert (result[4] == 255).all()  # black is the transparent color of the palette


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_pictures_are_upright(tmp_path, orientation, name):
    upright = np.zeros((16, 32, 3), "uint8")
    upright[:8, :8] = 255
    # how the camera holds the pixels: undone by the tag
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }[orientation](upright)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / name, np.ascontiguousarray(stored), exif=exif, quality=100)
    np.testing.assert_allclose(load_pictures([path], color="rgb")[0], upright, atol=12)


def test_color(photos, tmp_path):
    gray = save(tmp_path / "gray.png", np.repeat(picture(4, 6, 1), 3, -1))
    plain = save(tmp_path / "plain.png", picture(4, 6))
    assert load_pictures([gray, plain]).shape == (2, 4, 6, 1)
    np.testing.assert_array_equal(load_pictures([gray, plain])[1, ..., 0], picture(4, 6))
    assert load_pictures([gray, plain], color="rgb").shape == (2, 4, 6, 3)
    colored = photos / "dog" / "b.png"
    assert load_pictures([gray, plain, colored]).shape == (3, 4, 6, 3)
    red, green, blue = picture(4, 6, 3, seed=1).transpose(2, 0, 1).astype(float)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue  # ITU-R BT.601
    np.testing.assert_allclose(load_pictures([colored], color="grayscale")[0, ..., 0], luma, atol=1)


def test_the_size_of_most_or_the_median(tmp_path):
    sizes = [(10, 8), (10, 8), (10, 8), (30, 8), (40, 20)]
    paths = [save(tmp_path / f"{i}.png", picture(*size)) for i, size in enumerate(sizes)]
    assert load_pictures(paths).shape[1:3] == (10, 8)
    assert load_pictures(paths[1:]).shape[1:3] == (20, 8)
    assert load_pictures(paths, size=5).shape[1:3] == (5, 5)
    assert load_pictures(paths, size=[7, 9]).shape[1:3] == (7, 9)
    big = save(tmp_path / "big.png", np.zeros((300, 1024), "uint8"))
    assert load_pictures([big]).shape[1:3] == (75, 256)
    assert load_pictures([big], size=(300, 1024)).shape[1:3] == (300, 1024)


def test_fit(tmp_path):
    wide = np.zeros((8, 24), "uint8")
    wide[:, 8:16] = 255
    path = save(tmp_path / "wide.png", wide)
    crop, pad, stretch = (load_pictures([path], size=8, fit=fit)[0, ..., 0] for fit in ("crop", "pad", "stretch"))
    assert (crop == 255).all()
    assert not pad[:2].any()
    assert not pad[6:].any()
    assert (stretch[:, 3:5] == 255).all()
    assert (stretch[:, 0] == stretch[:, 7]).all()
    assert stretch[0, 0] < 10


def test_a_large_jpeg_is_decoded_small_and_stays_itself(tmp_path):
    ramp = np.tile(np.linspace(0, 255, 512).astype("uint8"), (512, 1))
    path = save(tmp_path / "ramp.jpg", ramp, quality=95)
    np.testing.assert_allclose(load_pictures([path], size=32)[0, 16, :, 0], (np.arange(32) + 0.5) * 8, atol=3)


def check_damaged(path, match):
    with pytest.raises(DataError, match=match) as caught:
        load_pictures([path])
    assert str(path) in str(caught.value)


def test_damaged_files_are_named(tmp_path):
    good = save(tmp_path / "good.png", picture(64, 64, 3)).read_bytes()
    jpeg = save(tmp_path / "good.jpg", picture(64, 64, 3)).read_bytes()
    for name, content, match in [
        ("zero.png", b"", "is empty"),
        ("text.png", b"hello", "is not a picture"),
        ("half.png", good[: len(good) // 2], "damaged"),
        ("half.jpg", jpeg[: len(jpeg) // 2], "damaged"),
        ("script.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not a picture"),
    ]:
        path = tmp_path / name
        path.write_bytes(content)
        check_damaged(path, match)
    (tmp_path / "folder.png").mkdir()
    check_damaged(tmp_path / "folder.png", "damaged")
    check_damaged(tmp_path / "missing.png", "No such file")


def test_damaged_bytes_never_raise_anything_else(tmp_path):
    rng = np.random.default_rng(0)
    for suffix in ("png", "jpg", "gif", "bmp", "tif", "webp", "ppm"):
        content = bytearray(save(tmp_path / f"a.{suffix}", picture(9, 9, 3)).read_bytes())
        for _ in range(25):
            damaged = bytearray(content)
            for place in rng.integers(0, len(content), 6):
                damaged[place] = rng.integers(256)
            path = tmp_path / f"damaged.{suffix}"
            path.write_bytes(damaged[: rng.integers(1, len(content) + 1)])
            try:
                assert load_pictures([path], size=4).dtype == np.uint8
            except DataError as error:
                assert str(path) in str(error)  # noqa: PT017 - some survive


def test_a_decompression_bomb_is_refused(tmp_path):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    before = warnings.filters[:]
    for side in (10_000, 60_000):  # Pillow warns of the first and refuses the second
        header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
        path = tmp_path / f"{side}.png"
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
        check_damaged(path, "more than 89,478,485 pixels")
    assert warnings.filters == before


def test_folders_that_are_not_classes(photos, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="one folder of pictures per class; there is no folder"):
        read_pictures(empty)
    with pytest.raises(DataError, match="folder of class 'empty' has no pictures"):
        read_pictures(photos)
    empty.rmdir()
    with pytest.raises(DataError, match="1 pictures but no folder"):
        read_pictures(photos / "dog" / "more")
    with pytest.raises(DataError, match="only 'more'"):
        read_pictures(photos / "dog")
    with pytest.raises(DataError, match="no such folder"):
        read_pictures(photos / "none")
    with pytest.raises(DataError, match="this is a file"):
        read_pictures(photos / "cat" / "z.bmp")
    (photos / "dog").rename(photos / "train")
    (photos / "cat").rename(photos / "test")
    with pytest.raises(DataError, match=r"parts of a data set, not classes.\nWrite:  read_pictures\('.*test'\)"):
        read_pictures(photos)


def test_links(photos):
    os.symlink(photos / "cat" / "z.bmp", photos / "dog" / "link.png")
    assert len(read_pictures(photos)) == 4
    os.symlink(photos, photos / "dog" / "loop")
    with pytest.raises(DataError, match=r"loop.*: a link on this path leads back to"):
        read_pictures(photos)
    (photos / "dog" / "loop").unlink()
    os.symlink(photos / "dog" / "self.png", photos / "dog" / "self.png")
    with pytest.raises(DataError, match=r"self\.png: this link leads nowhere"):
        read_pictures(photos)


@pytest.mark.parametrize(
    ("argument", "match"),
    [
        ({"size": 0}, "expected size as"),
        ({"size": (3, 4, 5)}, "expected size as"),
        ({"size": 2.5}, "expected size as"),
        ({"size": True}, "expected size as"),
        ({"color": "grayscal"}, "Did you mean 'grayscale'"),
        ({"fit": "cut"}, "fit='cut' is not known"),
    ],
)
def test_arguments(photos, argument, match):
    with pytest.raises(ConfigError, match=match):
        read_pictures(photos, **argument)


def test_no_pictures():
    with pytest.raises(DataError, match="received none"):
        load_pictures([])


@pytest.mark.parametrize(
    ("pictures", "labels", "names", "match"),
    [
        (np.zeros((2, 3, 3), "float32"), [0, 1], ["a", "b"], "expects uint8"),
        (np.zeros((2, 3, 3, 4), "uint8"), [0, 1], ["a", "b"], "expects uint8"),
        (np.zeros((2, 3, 3), "uint8"), [0, 2], ["a", "b"], "labels go from 0 to 2"),
        (np.zeros((2, 3, 3), "uint8"), [-1, 1], ["a", "b"], "labels go from -1 to 1"),
        (np.zeros((2, 3, 3), "uint8"), [0], ["a", "b"], "2 whole-number labels"),
        (np.zeros((2, 3, 3), "uint8"), [0.0, 1.0], ["a", "b"], "2 whole-number labels"),
        (np.zeros((2, 3, 3), "uint8"), [0, 1], ["a", ".."], "cannot make a folder"),
        (np.zeros((2, 3, 3), "uint8"), [0, 1], ["a/b", "a-b"], "cannot make a folder"),
        (np.zeros((2, 3, 3), "uint8"), [0, 1], ["", "b"], "cannot make a folder"),
    ],
)
def test_arrays_that_cannot_be_written(tmp_path, pictures, labels, names, match):
    with pytest.raises(DataError, match=match):
        write_pictures(tmp_path / "new", pictures, labels, names)
    assert not (tmp_path / "new").exists()
