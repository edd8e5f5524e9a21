"""The commands as a person types them, in an empty folder, with right and wrong arguments."""

import csv
import os
import signal

import numpy as np
import pytest

from lamina.callbacks import CSVLogger
from tests.cli.conftest import TINY


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
    status, out, err = run(
        "train", "flowers.csv", "--target", "species", "--epochs", "40", "--batch-size", "8", *TINY["fcnn"]
    )
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
    assert "FCNNClassifier(batch_size=8, epochs=40, hidden=[16], members=2, random_state=0" in out


def test_a_number_is_regressed_in_its_own_units(run, tmp_path):
    rng = np.random.default_rng(1)
    x = rng.normal(size=80)
    text = "x,price\n" + "".join(f"{a:.4f},{1000 + 200 * a:.2f}\n" for a in x)
    (tmp_path / "houses.csv").write_text(text)
    status, out, _ = run(
        "train", "houses.csv", "--target", "price", "--epochs", "60", "--batch-size", "8", "--out", "r", *TINY["fcnn"]
    )
    assert status == 0
    assert float(out.split("R2 ")[1].split(",")[0]) > 0.9
    assert (tmp_path / "r/predicted.png").exists()
    status, out, _ = run("predict", "r", "houses.csv")
    first = float(out.splitlines()[1].split()[1])
    assert abs(first - (1000 + 200 * x[0])) < 100


def test_wrong_use_is_one_line(run, tmp_path):
    flowers(tmp_path / "flowers.csv")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "notes.odt").write_text("hello")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/letter.txt").write_text("hello")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "runs/taken").mkdir(parents=True)
    wrong = {
        ("train", "missing.csv"): "no file or folder missing.csv",
        ("train", "flowers.csv"): "--target 'species'",
        ("train", "flowers.csv", "--target", "spcies"): "Did you mean 'species'",
        ("train", "flowers.csv", "--target", "species", "--family", "cnn"): (
            "--family cnn is not for flowers.csv, a table without a column of free text; what fits: fcnn, autoencoder, vae"
        ),
        ("train", "flowers.csv", "--target", "width", "--family", "rnn"): (
            "--family rnn is not for flowers.csv, a table with no columns of dates; what fits: fcnn"
        ),
        ("train", "flowers.csv", "--family", "autoencodr"): "is not known. Did you mean 'autoencoder'?",
        ("train", "flowers.csv", "--target", "species", "--horizon", "3"): (
            "--horizon is not for a model that predicts a column of a table"
        ),
        ("train", "flowers.csv", "--target", "species", "--set", "membres=3"): "Did you mean 'members'",
        ("train", "flowers.csv", "--target", "species", "--set", "members"): "expected NAME=VALUE",
        (
            "train",
            "flowers.csv",
            "--target",
            "species",
            "--set",
            "member=3",
        ): "no argument 'member'. Did you mean 'members'",
        ("train", "flowers.csv", "--target", "species", "--set", "members=many"): "expected a value like 8",
        ("train", "flowers.csv", "--target", "species", "--set", "dropout=[1]"): "expected a value like 0.1",
        ("train", "flowers.csv", "--target", "species", "--out", "folder", "--overwrite"): "folder is not a run folder",
        ("train", "flowers.csv", "--target", "species", "--out", "runs/taken"): "is there already",
        ("train", "empty.csv", "--target", "x"): "empty.csv",
        ("train", "notes.txt"): "a text of 5 characters is too short",
        ("train", "notes.odt"): "expected a table",
        ("train", "pictures"): "there are no pictures in it",
        ("train", "folder", "--target", "x"): "--target is for tables",
        ("evaluate", "runs/taken", "flowers.csv"): "no model in it",
        ("predict", "flowers.csv", "flowers.csv"): "not a model file",
        ("inspect", "nowhere"): "no model",
        ("forecast", "nowhere"): "no model",
        ("reduce", "folder", "flowers.csv"): "no model",
        ("upscale", "flowers.csv", "folder"): "not a model file",
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


COMMANDS = ["train", "evaluate", "predict", "forecast", "reduce", "generate", "upscale", "inspect", "doctor"]


def test_help_names_every_command(run):
    for arguments in ((), ("--help",)):
        status, out, err = run(*arguments)
        assert (status, err) == (0, "")
        assert all(name in out for name in COMMANDS)
    status, out, _ = run("train", "--help")
    assert status == 0
    assert "--target" in out


def test_doctor(run):
    status, out, _ = run("doctor")
    assert status == 0
    assert "training      right" in out


def test_a_training_that_was_stopped_goes_on_by_the_same_command(run, tmp_path, monkeypatch):
    flowers(tmp_path / "flowers.csv")
    command = ("train", "flowers.csv", "--target", "species", "--epochs", "3", *TINY["fcnn"])
    assert run(*command, "--out", "whole", "--checkpoint", "kept/whole")[0] == 0
    real = CSVLogger.on_epoch_end

    def stop(self, epoch, logs=None):
        real(self, epoch, logs)
        if epoch == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(CSVLogger, "on_epoch_end", stop)
    status, _, err = run(*command, "--checkpoint", "kept/run")
    assert (status, err) == (
        143,
        "Stopped by SIGTERM, and saved in kept/run (epoch 3). Run the same program again to go on.\n",
    )
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    status, _, err = run(*command, "--checkpoint", "kept/run", "--seed", "1")
    assert status == 2
    assert err.startswith("lamina: the checkpoint in kept/run was made by another program (data, ")
    assert err.endswith("; or go on with what is different: --accept-changes\n")
    assert "there is none; give --checkpoint FOLDER" in run(*command, "--accept-changes")[2]
    assert run(*command, "--checkpoint", "kept/run")[0] == 0
    for name in ("model.safetensors", "metrics.csv"):
        assert (tmp_path / "runs/flowers" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert "runs/flowers is there already" in run(*command, "--checkpoint", "kept/other")[2]
    longer = ("--checkpoint", "kept/whole", "--out", "whole", "--epochs", "4")
    assert run(*command, *longer)[0] == 2
    assert run(*command, *longer, "--accept-changes")[0] == 0
    assert len((tmp_path / "whole/metrics.csv").read_text().splitlines()) == 5
