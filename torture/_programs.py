"""The programs that are tortured: what Lamina writes is all under ``disk``; what is left beside that is not disturbed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import lamina as lm
from lamina import families, layers
from tests.training.duel import Duel

PROGRAMS: dict[str, Callable[[Path], None]] = {}


def program(function: Callable[[Path], None]) -> Callable[[Path], None]:
    PROGRAMS[function.__name__.rstrip("_")] = function
    return function


class Counter(lm.callbacks.Callback):
    """A user's callback: its list, its random generator and its metric shape what it logs."""

    def __init__(self):
        self.seen, self.rng, self.metric = [], np.random.default_rng(3), lm.metrics.Mean()

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(float(self.rng.normal()))
        self.metric.update_state(np.float32(sum(self.seen)))
        logs["counted"] = float(self.metric.result())


def data(rows=60):
    x = np.random.default_rng(0).normal(size=(rows, 3)).astype("float32")
    return x, (x.sum(1) > 0).astype("int32")


def leave(folder: Path, model: Any, history: Any) -> None:
    """Every variable and the history, as files."""
    variables = {path: np.asarray(variable.stored) for path, variable in model.named_variables().items()}
    content = b"".join(name.encode() + variables[name].tobytes() for name in sorted(variables))
    (folder / "left" / "variables").write_bytes(content)
    (folder / "left" / "history").write_text(repr(history))


def everything(folder: Path) -> list[lm.callbacks.Callback]:
    return [
        Counter(),
        lm.callbacks.CSVLogger(folder / "disk" / "log.csv"),
        lm.callbacks.EarlyStopping("counted", mode="max", patience=3, restore_best_weights=True),
        lm.callbacks.ReduceLROnPlateau(factor=0.5, patience=1, min_delta=0.5),
        lm.callbacks.ModelCheckpoint(folder / "disk" / "best.safetensors", save_best_only=True),
    ]


@program
def network(folder: Path) -> None:
    x, y = data()
    parts = [layers.Dense(8, "relu"), layers.BatchNormalization(), layers.Dropout(0.5), layers.Dense(2, "softmax")]
    model = lm.Sequential([lm.Input((3,)), *parts])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], use_ema=True)
    checkpoint = lm.Checkpoint(folder / "disk" / "run", every_seconds=0)
    history = model.fit(
        *(x, y),
        batch_size=13,
        epochs=4,
        validation_split=0.2,
        verbose=0,
        callbacks=everything(folder),
        driver="loop",
        checkpoint=checkpoint,
    )
    leave(folder, model, history.history)


class Positioned:
    """Batches from a generator that offers its position."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def __iter__(self):
        return self

    def __next__(self):
        x, y = data()
        index = self.rng.permutation(len(x))[: self.rng.integers(5, 7)]
        return x[index], y[index].astype("float32")

    def state_dict(self):
        return {"rng": self.rng.bit_generator.state}

    def load_state_dict(self, state):
        self.rng.bit_generator.state = state["rng"]


@program
def duel(folder: Path, source: Any = None) -> None:
    model = Duel()
    checkpoint = lm.Checkpoint(folder / "disk" / "run", every_seconds=0)
    source = Positioned() if source is None else source
    logger = lm.callbacks.CSVLogger(folder / "disk" / "log.csv")
    history = model.fit(source, steps_per_epoch=6, epochs=5, verbose=0, callbacks=logger, checkpoint=checkpoint)
    leave(folder, model, history.history)


@program
def generator(folder: Path) -> None:
    duel(folder, (batch for batch in Positioned()))


def family(folder: Path, estimator: Any, *arguments: Any) -> None:
    logger = lm.callbacks.CSVLogger(folder / "disk" / "log.csv")
    estimator.watch(logger, checkpoint=lm.Checkpoint(folder / "disk" / "run", every_seconds=0)).fit(*arguments)
    leave(folder, estimator.model, estimator.history_)
    estimator.save(folder / "disk" / "model.safetensors")


@program
def fcnn(folder: Path) -> None:
    family(folder, families.FCNNClassifier(hidden=(8,), members=2, epochs=4, batch_size=8), *data())


@program
def cnn(folder: Path) -> None:
    x = np.random.default_rng(0).integers(0, 255, (40, 8, 8), dtype="uint8")
    family(folder, families.CNNClassifier(epochs=2, batch_size=16), x, np.arange(40) % 2)


TEXTS = ["the cat sat on the mat", "a dog ran in the park", "cats purr and sleep", "dogs bark and run"] * 6


@program
def rnn(folder: Path) -> None:
    family(folder, families.RNNClassifier(units=4, embedding=4, epochs=3, batch_size=8), TEXTS, np.arange(24) % 2)


@program
def rnn_language(folder: Path) -> None:
    family(folder, families.RNNLanguageModel(units=4, epochs=2, batch_size=4), " ".join(TEXTS * 4))


@program
def autoencoder(folder: Path) -> None:
    family(folder, families.VariationalAutoencoder(n_components=2, hidden=(8,), epochs=4, batch_size=16), data()[0])


@program
def gan(folder: Path) -> None:
    x = np.random.default_rng(0).integers(0, 255, (32, 8, 8), dtype="uint8")
    family(folder, families.GAN(latent=2, filters=2, epochs=3, batch_size=16), x)


@program
def transformer(folder: Path) -> None:
    """Two trainings: the language first, then the classes."""
    sizes = {"layers": 1, "width": 8, "heads": 2, "context": 8, "vocabulary_size": 300}
    estimator = families.TransformerClassifier(**sizes, epochs=2, pretrain_epochs=2, batch_size=8)
    estimator.watch(checkpoint=lm.Checkpoint(folder / "disk" / "pretraining", every_seconds=0)).pretrain(TEXTS)
    family(folder, estimator, TEXTS, np.arange(24) % 2)


@program
def transformer_language(folder: Path) -> None:
    sizes = {"layers": 1, "width": 8, "heads": 2, "context": 8, "vocabulary_size": 300}
    family(folder, families.TransformerLanguageModel(**sizes, epochs=2, batch_size=8), " ".join(TEXTS * 4))


@program
def command(folder: Path) -> None:
    """``lamina train``, in a folder of its own."""
    import sys

    from lamina import cli

    x, y = data()
    rows = [f"{a:.3f},{b:.3f},{'yes' if c else 'no'}" for (a, b, _), c in zip(x, y, strict=True)]
    (folder / "table.csv").write_text("\n".join(["a,b,answer", *rows]) + "\n")
    options = ["--epochs", "3", "--set", "members=2", "--set", "hidden=[8]", "--out", "disk/run"]
    sys.argv = ["lamina", "train", "table.csv", "--target", "answer", "--checkpoint", "disk/checkpoint", *options]
    cli.main()
