import csv
import io
import math
import sys

import numpy as np
import pytest

import lamina as lm
from lamina import callbacks, layers
from lamina.core.errors import ConfigError, StateError
from lamina.training.progress import ProgressBar

X = np.linspace(-1, 1, 24, dtype="float32").reshape(12, 2)
Y = X.sum(1)


def model():
    network = lm.Sequential([lm.Input((2,)), layers.Dense(1)])
    network.compile(lm.optimizers.SGD(0.1), "mse")
    return network


class Script(callbacks.Callback):
    """Replaces a logged number, so that what a callback does can be told from the outside."""

    def __init__(self, name, values):
        self.name, self.values = name, list(values)

    def on_epoch_end(self, epoch, logs=None):
        logs[self.name] = self.values[epoch]


def test_early_stopping_counts_patience_and_restores_the_best_weights():
    network = model()
    seen = []
    history = network.fit(
        X,
        Y,
        epochs=10,
        verbose=0,
        callbacks=[
            Script("val_loss", [3, 1, 2, 2, 0, 0, 0, 0, 0, 0]),
            callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(network.get_weights())),
            callbacks.EarlyStopping(patience=2, restore_best_weights=True),
        ],
    )
    assert history.epoch == [0, 1, 2, 3]
    np.testing.assert_array_equal(network.get_weights()[0], seen[1][0])


def test_early_stopping_goes_up_for_accuracy_and_says_what_is_missing():
    history = model().fit(
        X,
        Y,
        epochs=5,
        verbose=0,
        callbacks=[Script("accuracy", [1, 2, 3, 2, 1]), callbacks.EarlyStopping("accuracy", patience=1)],
    )
    assert history.epoch == [0, 1, 2, 3]
    with pytest.raises(ConfigError, match=r"watches 'val_loss', which is not logged. Pass validation_data="):
        model().fit(X, Y, verbose=0, callbacks=callbacks.EarlyStopping())


def test_reduce_lr_on_plateau():
    network = model()
    rates = []
    network.fit(
        X,
        Y,
        epochs=6,
        verbose=0,
        callbacks=[
            Script("val_loss", [3, 3, 3, 3, 3, 3]),
            callbacks.ReduceLROnPlateau(factor=0.5, patience=2, min_lr=0.03),
            callbacks.LambdaCallback(on_epoch_end=lambda e, logs: rates.append(float(network.optimizer.learning_rate))),
        ],
    )
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.05, 0.05, 0.03, 0.03], rtol=1e-6)
    with pytest.raises(ConfigError, match="factor below 1"):
        callbacks.ReduceLROnPlateau(factor=1.0)


def test_learning_rate_scheduler_is_taken_up_by_the_next_step():
    network = model()
    start = network.get_weights()
    schedule = callbacks.LearningRateScheduler(lambda epoch, rate: 0.0 if epoch else rate)
    history = network.fit(X, Y, epochs=1, verbose=0, callbacks=[schedule])
    moved = network.get_weights()
    assert not np.array_equal(start[0], moved[0])
    history = network.fit(X, Y, epochs=3, initial_epoch=1, verbose=0, callbacks=[schedule])
    np.testing.assert_array_equal(network.get_weights()[0], moved[0])
    assert history.history["learning_rate"] == [0.0, 0.0]
    assert history.epoch == [1, 2]


def test_csv_logger_writes_what_history_holds(tmp_path):
    path = tmp_path / "log.csv"
    first = model().fit(X, Y, epochs=2, verbose=0, callbacks=[callbacks.CSVLogger(path)])
    model().fit(X, Y, epochs=1, verbose=0, callbacks=[callbacks.CSVLogger(path, append=True)])
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "0"]
    assert [float(row["loss"]) for row in rows[:2]] == first.history["loss"]


def test_model_checkpoint_saves_the_best(tmp_path):
    network = model()
    network.fit(
        X,
        Y,
        epochs=4,
        verbose=0,
        callbacks=[
            Script("val_loss", [3.0, 2.0, 2.5, 1.0]),
            callbacks.ModelCheckpoint(tmp_path / "m-{epoch:02d}-{val_loss:.1f}.safetensors", save_best_only=True),
        ],
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "m-01-3.0.safetensors",
        "m-02-2.0.safetensors",
        "m-04-1.0.safetensors",
    ]
    again = lm.load_model(tmp_path / "m-04-1.0.safetensors")
    np.testing.assert_array_equal(again.get_weights()[0], network.get_weights()[0])
    with pytest.raises(ConfigError, match="not logged"):
        model().fit(X, Y, verbose=0, callbacks=[callbacks.ModelCheckpoint(str(tmp_path / "{nothing}"))])


def test_terminate_on_nan(capsys):
    network = lm.Sequential([lm.Input((2,)), layers.Dense(1)])
    network.compile(lm.optimizers.SGD(1e30), "mse")
    history = network.fit(X * 100, Y, epochs=50, verbose=0, batch_size=4, callbacks=[callbacks.TerminateOnNaN()])
    assert len(history.epoch) < 50
    assert not math.isfinite(history.history["loss"][-1])
    assert "training stops" in capsys.readouterr().out


def test_every_hook_is_called_in_order():
    calls = []

    class Recorder(callbacks.Callback):
        def __getattribute__(self, name):
            if name.startswith("on_"):
                calls.append(name.removeprefix("on_"))
            return super().__getattribute__(name)

        def on_train_batch_end(self, batch, logs=None):
            assert logs["loss"] >= 0

    model().fit(X, Y, batch_size=6, epochs=1, verbose=0, callbacks=[Recorder()])
    assert calls == [
        "train_begin",
        "epoch_begin",
        "train_batch_begin",
        "train_batch_end",
        "train_batch_begin",
        "train_batch_end",
        "epoch_end",
        "train_end",
    ]
    with pytest.raises(ConfigError, match=r"instance of lm\.callbacks\.Callback"):
        model().fit(X, Y, callbacks=[callbacks.EarlyStopping], verbose=0)


def test_the_log_is_one_plain_line_an_epoch(capsys):
    model().fit(X, Y, epochs=2, validation_split=0.25)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("Epoch 1/2")
    assert "loss" in lines[0]
    assert "val_loss" in lines[0]
    assert "\x1b" not in lines[0]


def test_what_watches_validation_waits_for_epochs_that_have_it(tmp_path):
    watchers = [
        callbacks.EarlyStopping(patience=1),
        callbacks.ReduceLROnPlateau(patience=1),
        callbacks.ModelCheckpoint(tmp_path / "{epoch}.safetensors", save_best_only=True),
    ]
    history = model().fit(X, Y, epochs=4, validation_data=(X, Y), validation_freq=2, verbose=0, callbacks=watchers)
    assert history.epoch == [0, 1, 2, 3]
    assert {path.name for path in tmp_path.iterdir()} == {"2.safetensors", "4.safetensors"}
    with pytest.raises(ConfigError, match="not logged"):
        model().fit(X, Y, epochs=2, verbose=0, callbacks=callbacks.EarlyStopping())


def test_the_learning_rate_of_each_epoch_is_logged():
    lower = callbacks.ReduceLROnPlateau(monitor="loss", factor=0.5, patience=1, min_delta=100.0)
    history = model().fit(X, Y, epochs=3, verbose=0, callbacks=[lower])
    np.testing.assert_allclose(history.history["learning_rate"], [0.1, 0.1, 0.05], rtol=1e-6)


def test_nan_may_be_an_error():
    network = model()
    network.layers[0].kernel.assign(np.full((2, 1), np.nan))
    with pytest.raises(StateError, match="step 1: the loss is nan"):
        network.fit(X, Y, verbose=0, callbacks=[callbacks.TerminateOnNaN(raise_error=True)])


def test_validation_evaluation_and_prediction_are_told():
    class Listener(callbacks.Callback):
        def __init__(self):
            self.heard = []

        def on_test_begin(self, logs=None):
            self.heard.append("test")

        def on_test_end(self, logs=None):
            self.heard.append(sorted(logs))

        def on_predict_end(self, logs=None):
            self.heard.append("predicted")

    network, listener = model(), Listener()
    network.fit(X, Y, validation_data=[X, Y], verbose=0, callbacks=listener)
    network.evaluate(X, Y, verbose=0, callbacks=listener)
    network.predict(X, callbacks=listener)
    assert listener.heard == ["test", ["loss"], "test", ["loss"], "predicted"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_one_bar_stands_below_the_lines_of_all_epochs(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", screen := Terminal())
    bar = ProgressBar(1, 2, 10)
    for epoch in range(2):
        bar.on_epoch_begin(epoch)
        bar.on_steps(5, {"loss": 0.5})
        bar.on_epoch_end(epoch, {"loss": 0.25 / (epoch + 1)})
    first = bar._bar
    bar.on_epoch_begin(1)
    assert bar._bar is first
    bar.close()
    lines = [line for line in screen.getvalue().replace("\r", "\n").splitlines() if "s  loss" in line]
    assert [line.split("s  ")[1] for line in lines] == ["loss 0.2500", "loss 0.1250"]
    assert bar._bar is None
