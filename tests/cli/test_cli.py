"""The commands as a person types them, in an empty folder, with right and wrong arguments."""

import csv
import sys

import numpy as np
import pytest

from lamina import cli
from lamina.data.pictures import write_pictures


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Runs ``lamina`` in an empty folder; gives exit status, output and errors."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["lamina", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        captured = capsys.readouterr()
        return left.value.code or 0, captured.out, captured.err

    return call


def flowers(path, rows=60):
    rng = np.random.default_rng(0)
    lines = ["length,width,color,species"]
    for i in range(rows):
        kind = i % 3
        length = "" if i == 7 else f"{kind + rng.normal(0, 0.2):.3f}"
        lines.append(f"{length},{rng.normal():.3f},{'rg'[kind == 1]},{['oak', 'elm', 'ash'][kind]}")
    path.write_text("\n".join(lines) + "\n")


def test_a_table_from_training_to_prediction(run, tmp_path):
    flowers(tmp_path / "flowers.csv")
    status, out, err = run("train", "flowers.csv", "--target", "species", "--epochs", "40", "--batch-size", "8")
    assert (status, err) == (0, "")
    assert "species has 3 different texts: classification, by a fully connected network (FCNN)" in out
    assert sorted(path.name for path in (tmp_path / "runs/flowers").iterdir()) == [
        "confusion.png",
        "curves.png",
        "metrics.csv",
        "model.safetensors",
    ]
    with (tmp_path / "runs/flowers/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    status, out, err = run("evaluate", "runs/flowers", "flowers.csv")
    assert status == 0
    assert float(out.split("accuracy ")[1].split(",")[0]) > 0.9
    (tmp_path / "new.csv").write_text("color,width,length\ng,0.1,1.0\nr,0.0,-0.1\n,0.2,\n")
    status, out, err = run("predict", "runs/flowers", "new.csv", "--out", "answers.csv")
    assert status == 0
    with (tmp_path / "answers.csv").open() as file:
        answers = list(csv.DictReader(file))
    assert [row["prediction"] for row in answers][:2] == ["elm", "oak"]
    assert all(0 <= float(row["probability"]) <= 1 for row in answers)
    status, out, err = run("inspect", "runs/flowers", "--weights")
    assert status == 0
    assert "length: number" in out
    assert "einsum_dense/kernel" in out
    assert "FCNNClassifier(batch_size=8, epochs=40, random_state=0" in out


def test_a_number_is_regressed_in_its_own_units(run, tmp_path):
    rng = np.random.default_rng(1)
    x = rng.normal(size=80)
    text = "x,price\n" + "".join(f"{a:.4f},{1000 + 200 * a:.2f}\n" for a in x)
    (tmp_path / "houses.csv").write_text(text)
    status, out, _ = run(
        "train", "houses.csv", "--target", "price", "--epochs", "60", "--batch-size", "8", "--out", "r"
    )
    assert status == 0
    assert float(out.split("R2 ")[1].split(",")[0]) > 0.9
    assert (tmp_path / "r/predicted.png").exists()
    status, out, _ = run("predict", "r", "houses.csv")
    first = float(out.splitlines()[1].split()[1])
    assert abs(first - (1000 + 200 * x[0])) < 100


def test_pictures_from_training_to_prediction(run, tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    pictures = rng.integers(0, 60, (40, 6, 6)).astype("uint8") + (labels * 150).astype("uint8")[:, None, None]
    paths = write_pictures(tmp_path / "photos", pictures, labels, ["dark", "light"])
    status, out, err = run("train", "photos", "--epochs", "3")
    assert (status, err) == (0, "")
    assert "convolutional network (CNN)" in out
    assert (tmp_path / "runs/photos/examples.png").exists()
    status, out, _ = run("predict", "runs/photos", paths[1])
    assert status == 0
    assert out.splitlines()[1].split()[1] in ("dark", "light")
    status, out, _ = run("inspect", "runs/photos")
    assert "grayscale pictures of 6 x 6: dark, light" in out


def test_a_text_from_training_to_writing(run, tmp_path):
    (tmp_path / "book.txt").write_text("to be or not to be, that is the question. " * 60)
    status, out, err = run("train", "book.txt", "--epochs", "1", "--batch-size", "4")
    assert (status, err) == (0, "")
    assert "2,520 characters of text, 15 different ones: a transformer that goes on writing" in out
    assert len((tmp_path / "runs/book/sample.txt").read_text()) == 500
    status, out, _ = run("evaluate", "runs/book", "book.txt")
    assert status == 0
    assert 1 < float(out.split("perplexity ")[1].split(",")[0]) < 16
    first, again = (
        run("generate", "runs/book", "--prompt", "to be", "--length", "20", "--seed", "3") for _ in range(2)
    )
    assert first == again
    assert first[1].startswith("to be")
    assert len(first[1]) == 26
    status, _, err = run("predict", "runs/book", "book.txt")
    assert (status, err) == (2, "lamina: the model goes on writing. Write:  lamina generate RUN\n")


def test_wrong_use_is_one_line(run, tmp_path):
    flowers(tmp_path / "flowers.csv")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "notes.odt").write_text("hello")
    (tmp_path / "folder").mkdir()
    (tmp_path / "runs/taken").mkdir(parents=True)
    wrong = {
        ("train", "missing.csv"): "no file or folder missing.csv",
        ("train", "flowers.csv"): "--target 'species'",
        ("train", "flowers.csv", "--target", "spcies"): "Did you mean 'species'",
        ("train", "flowers.csv", "--target", "species", "--family", "cnn"): "not for rows",
        ("train", "flowers.csv", "--target", "species", "--out", "runs/taken"): "is there already",
        ("train", "empty.csv", "--target", "x"): "empty.csv",
        ("train", "notes.txt"): "the text has 5 tokens to learn from",
        ("train", "notes.odt"): "expected a table",
        ("train", "folder"): "no folder in it",
        ("train", "folder", "--target", "x"): "--target is for tables",
        ("evaluate", "runs/taken", "flowers.csv"): "no model in it",
        ("predict", "flowers.csv", "flowers.csv"): "not a model file",
        ("inspect", "nowhere"): "no model",
    }
    for arguments, words in wrong.items():
        status, out, err = run(*arguments)
        assert status == 2, arguments
        assert words in err, arguments
        assert len(err.strip().splitlines()) == 1, err
        assert "Traceback" not in out + err


@pytest.mark.parametrize(
    ("arguments", "words", "see"),
    [
        (["train"], "Missing argument", "lamina train --help"),
        (["trian"], "No such command 'trian'. Did you mean 'train'?", "lamina --help"),
        (["train", "x.csv", "--epoch", "3"], "--epochs", "lamina train --help"),
        (["train", "x.csv", "--epochs", "many"], "'--epochs': Input should be a valid integer", "lamina train --help"),
        (["evaluate", "a", "b", "c"], "unexpected extra argument", "lamina evaluate --help"),
    ],
)
def test_wrong_words_are_one_line(run, arguments, words, see):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert words in err
    assert err.endswith(f" (see: {see})\n")
    assert len(err.splitlines()) == 1


def test_help_names_every_command(run):
    for arguments in ((), ("--help",)):
        status, out, err = run(*arguments)
        assert (status, err) == (0, "")
        assert all(name in out for name in ("train", "evaluate", "predict", "generate", "inspect", "doctor"))
    status, out, _ = run("train", "--help")
    assert status == 0
    assert "--target" in out


def test_doctor(run):
    status, out, _ = run("doctor")
    assert status == 0
    assert "training      right" in out
