"""Faults of data, as the command line meets them: what is read rightly, and what is refused on one line that says where."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from lamina import families, report
from lamina.data.tables import base
from tests.cli.conftest import TINY, shades
from tests.golden.make_models import FOLDER
from tests.saving.files import layer, network, write

ROWS = [("width", "color", "kind")] + [(f"{i / 7:.3f}", "rgb"[i % 3], "oak" if i % 4 < 2 else "elm") for i in range(24)]
PLAIN = "".join(",".join(row) + "\n" for row in ROWS)
BEFORE = "".join(PLAIN.splitlines(keepends=True)[:3])  # the names and two rows


@pytest.fixture(scope="module")
def trained(place, at):
    """A folder with a table, and a network that was trained on it."""
    (place / "plain.csv").write_text(PLAIN)
    at("train", "plain.csv", "--target", "kind", "--epochs", "1", "--out", "run", *TINY["fcnn"])
    return at("predict", "run", "plain.csv")


#: the same table in other words: its predictions are the same
SAME = {
    "a byte-order mark": b"\xef\xbb\xbf" + PLAIN.encode(),
    "UTF-16 with its mark": PLAIN.encode("utf-16"),
    "line ends of Windows": PLAIN.replace("\n", "\r\n").encode(),
    "line ends of old Macs": PLAIN.replace("\n", "\r").encode(),
    "no line end at the end": PLAIN.rstrip().encode(),
    "blank lines": PLAIN.replace("\n", "\n\n").encode(),
    "semicolons": PLAIN.replace(",", ";").encode(),
    "quotes": ("\n".join(",".join(f'"{cell}"' for cell in row) for row in ROWS)).encode(),
    "spaces": PLAIN.replace(",", " , ").encode(),
    "columns in another order": "".join(",".join(row[::-1]) + "\n" for row in ROWS).encode(),
    "a column more, with line ends inside": "".join(
        ",".join(row) + (',"a\nb"\n' if i else ",note\n") for i, row in enumerate(ROWS)
    ).encode(),
    "without the target": "".join(",".join(row[:2]) + "\n" for row in ROWS).encode(),
}


@pytest.mark.parametrize("fault", SAME)
def test_the_same_table_in_other_words_predicts_the_same(fault, trained, place, at):
    (place / "same.csv").write_bytes(SAME[fault])
    assert at("predict", "run", "same.csv") == trained


#: what is wrong with a table: its content, and what training says of it
TABLES = {
    "empty": (b"", "t.csv: this file is empty"),
    "header only": (b"width,color,kind\n", "t.csv: there is a line of names, but no rows below it"),
    "one row": (PLAIN[:26].encode(), "t.csv: there is no column to learn from (width: its only value is '0.000'"),
    "one class": (PLAIN.replace("elm", "oak").encode(), "t.csv, target column 'kind': every value is 'oak'"),
    "a class of one row": (
        PLAIN.replace("elm", "oak", 11).encode(),
        "class 'elm' has 1 example; at least 2 are needed",
    ),
    "ragged": ((BEFORE + "1,r\n").encode(), "t.csv, line 4: expected 3 values, as the first line has; there are 2"),
    "a quote that is not closed": ((BEFORE + '1,"r,oak\n').encode(), "t.csv, line 4: this row cannot be read"),
    "duplicate columns": (PLAIN.replace("width", "color").encode(), "t.csv: columns 1 and 2 are both named 'color'"),
    "UTF-16 without its mark": (PLAIN.encode("utf-16-le"), "t.csv, line 1: there is a NUL byte"),
    "latin-1": (PLAIN.replace("g", "\xe9").encode("latin-1"), "t.csv, line 3: this is not utf-8 text"),
    "a NUL byte": (PLAIN.replace("b,", "\0,").encode(), "t.csv, line 4: there is a NUL byte"),
    "a missing target": (PLAIN.replace("kind", "sort").encode(), "t.csv: there is no target column 'kind'"),
    "no value of the target": (
        PLAIN.replace("oak", "").replace("elm", "").encode(),
        "t.csv, target column 'kind': it has no values",
    ),
    "no names": ("\n".join("1,2,3" for _ in range(9)).encode(), "t.csv, line 1: expected the names of the columns"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "t.csv, line 1: this is not utf-8 text"),
}


@pytest.mark.parametrize("fault", TABLES)
def test_a_table_that_cannot_be_learnt_from_is_refused_on_one_line(fault, place, wrong):
    content, told = TABLES[fault]
    (place / "t.csv").write_bytes(content)
    assert told in wrong("train", "t.csv", "--target", "kind", "--out", "none", *TINY["fcnn"])
    assert not (place / "none").exists()


@pytest.mark.parametrize(
    ("command", "content", "told"),
    [
        (
            "evaluate",
            PLAIN.replace("elm", "ash", 1),
            "t.csv, column 'kind', row 3: not one of the classes learnt: 'ash'",
        ),
        ("evaluate", "width,color\n1,r\n", "t.csv: there is no target column 'kind'"),
        ("predict", "width\n1\n", "t.csv: there is no column 'color'"),
        ("predict", "width,color\n1,r\nwide,r\n", "t.csv, column 'width', row 2: expected a number: 'wide'"),
        (
            "predict",
            "width,color\n1,r\n1e39,r\n",
            "t.csv, column 'width', row 2: expected a number that float32 can hold",
        ),
    ],
)
def test_a_table_that_does_not_fit_the_model_is_refused_on_one_line(command, content, told, trained, place, wrong):
    (place / "t.csv").write_text(content)
    assert told in wrong(command, "run", "t.csv")


def test_a_category_never_seen_and_a_missing_value_are_predicted(trained, place, at):
    (place / "t.csv").write_text("width,color\n1,violet\n,\n")
    assert len(at("predict", "run", "t.csv").splitlines()) == 3


def test_a_table_too_large_for_memory_is_refused_on_one_line(place, wrong, monkeypatch):
    (place / "t.csv").write_text(PLAIN * 4000)
    monkeypatch.setattr(base, "memory_left", lambda: 10_000_000)
    told = wrong("train", "t.csv", "--target", "kind", "--out", "none")
    assert "t.csv: this table of 1 MB takes about 20 MB of memory, and there are 10 MB left" in told


# -- pictures ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seeing(place):
    """A network for gray pictures of 8 x 8, as lamina train leaves one."""
    network = families.load(FOLDER / "cnn_classifier.1.safetensors")
    network.source_ = {"kind": "pictures", "family": "cnn", "class_names": ["little", "much"]}
    (place / "seeing").mkdir()
    network.save(place / "seeing" / "model.safetensors")


def gray(path, **options):
    Image.fromarray(shades(1)[0][0]).resize((8, 8)).save(path, **options)


def turned(path):
    tags = Image.Exif()
    tags[0x0112] = 6
    gray(path, exif=tags)


#: pictures that are read
READ = {
    "plain.png": gray,
    "cmyk.jpg": lambda path: Image.new("CMYK", (8, 8), (0, 0, 0, 255)).save(path),
    "deep.png": lambda path: Image.fromarray(np.full((8, 8), 40_000, "uint16")).save(path),
    "turned.jpg": turned,
    "pixel.png": lambda path: Image.new("L", (1, 1), 200).save(path),
    "named wrongly.jpg": lambda path: gray(path, format="PNG"),
}


def cut(path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), "uint8")).save(path)
    path.write_bytes(path.read_bytes()[:-200])


#: pictures that are not, and what is said of them
REFUSED = {
    "empty.png": (lambda path: path.write_bytes(b""), "empty.png: this file is empty (0 bytes)"),
    "cut.png": (cut, "cut.png: this picture is damaged or of a kind not known"),
    "cut.jpg": (cut, "cut.jpg: this picture is damaged or of a kind not known"),
    "text.png": (lambda path: path.write_text("no picture"), "text.png: this is not a picture, whatever its name says"),
    "float.tiff": (
        lambda path: Image.fromarray(np.full((8, 8), 0.5, "float32")).save(path),
        "float.tiff: expected pixels of 8 or 16 bits",
    ),
    "circle": (lambda path: (path.mkdir(), os.symlink(path, path / "again")), "a link on this path leads back to"),
    "nowhere.png": (lambda path: os.symlink(path.with_name("gone.png"), path), "nowhere.png"),
}


@pytest.mark.parametrize("name", READ)
def test_a_picture_of_any_kind_is_predicted(name, seeing, place, at):
    READ[name](place / name)
    line = at("predict", "seeing", name).splitlines()[1]
    assert line.startswith(name)
    assert line.split()[-2] in ("little", "much")


@pytest.mark.parametrize("name", REFUSED)
def test_a_picture_that_cannot_be_read_is_named_on_one_line(name, seeing, place, wrong):
    make, told = REFUSED[name]
    make(place / name)
    assert told in wrong("predict", "seeing", name)


@pytest.mark.parametrize("name", [name for name in REFUSED if name not in ("circle", "nowhere.png")])
def test_nothing_is_learnt_from_a_folder_with_such_a_picture(name, tmp_path, run):
    for kind in ("dark", "light"):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for i in range(3):
            gray(tmp_path / "photos" / kind / f"{i}.png")
    REFUSED[name][0](tmp_path / "photos" / "light" / name)
    status, out, err = run("train", "photos", "--out", "none")
    assert (status, len(err.splitlines())) == (2, 1), out
    assert REFUSED[name][1] in err
    assert not (tmp_path / "none").exists()


def test_a_strangers_names_do_not_steer_the_terminal(tmp_path, run):
    layers = [layer("Dense", units=1, name="[/red]\x1b[2J")]
    arrays = {f"[/red]\x1b[2J/{name}": np.zeros(shape, "float32") for name, shape in (("kernel", (4, 1)), ("bias", 1))}
    write(tmp_path / "m.safetensors", network(*layers), arrays)
    status, out, err = run("inspect", "m.safetensors")
    assert (status, out) == (2, "")
    assert "\x1b" not in err
    plain = {name.replace("\x1b", ""): array for name, array in arrays.items()}
    write(tmp_path / "m.safetensors", network(layer("Dense", units=1, name="[/red][2J")), plain)
    status, out, err = run("inspect", "m.safetensors", "--weights")
    assert (status, err) == (0, "")
    assert "[/red][2J (Dense)" in out


def test_a_disk_that_is_full_is_one_line(trained, place, wrong, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", full)
        assert wrong("train", "plain.csv", "--target", "kind", "--out", "new") == (
            "new cannot be written: No space left on device"
        )
    with monkeypatch.context() as patch:
        patch.setattr(report, "curves", full)
        told = wrong("train", "plain.csv", "--target", "kind", "--epochs", "1", "--out", "new", *TINY["fcnn"])
        assert told == "new cannot be written: No space left on device"
    monkeypatch.setattr(typer, "echo", full)
    assert wrong("inspect", "run") == "No space left on device"
