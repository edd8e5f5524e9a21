"""Training that is stopped at every possible place, and goes on. The full form is torture/killed_training.py."""

import errno
import itertools
import os
import re
import signal
import subprocess
import sys
from collections import Counter as Counts

import jax
import numpy as np
import pytest

import lamina as lm
from lamina import layers
from lamina.core.config import config
from lamina.saving import disk
from lamina.training import checkpoint
from lamina.training.drivers import Driver
from tests.training.duel import Duel

X = np.random.default_rng(0).normal(size=(22, 3)).astype("float32")
Y = (X.sum(1) > 0).astype("int32")


class Killed(BaseException):
    """As SIGKILL: nothing catches it, and nothing works any more afterwards."""


class Faults:
    """Lets the n-th change on the disk fail."""

    def __init__(self, patch, at, fault):
        self.at, self.fault, self.count = at, fault, 0
        for name in ("write", "sync", "rename", "sync_folder", "truncate", "remove"):
            patch.setattr(disk, name, self._wrapped(name, getattr(disk, name)))

    def _wrapped(self, name, real):
        def change(*args):
            self.count += 1
            if self.fault is Killed and self.count >= self.at:
                if self.count == self.at and name == "write":
                    real(args[0], args[1][: len(args[1]) // 2])
                raise Killed
            if self.count == self.at:
                raise OSError(self.fault, os.strerror(self.fault))
            return real(*args)

        return change


class Counter(lm.callbacks.Callback):
    """A user's callback: a number, a random generator, a metric and a list that shape what it logs."""

    def __init__(self, step=1):
        self.step, self.seen, self.rng = step, [], np.random.default_rng(3)
        self.metric = lm.metrics.Mean()

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(float(self.rng.normal()))
        self.metric.update_state(np.float32(self.step * sum(self.seen)))
        logs["counted"] = float(self.metric.result())


def network(dropout=0.5, rate=0.5):
    parts = [layers.Dense(4, "relu"), layers.BatchNormalization(), layers.Dropout(dropout), layers.Dense(2, "softmax")]
    model = lm.Sequential([lm.Input((3,)), *parts])  # its rows mix, so the rest of an epoch has a program of its own
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], learning_rate=rate)
    return model


def train(folder, *more, stop=None, epochs=4, model=None, keep=True, **options):
    """A program as a user writes it; gives all that it leaves."""
    lm.set_random_seed(1)
    model = network() if model is None else model
    log = folder / "log.csv"
    history = model.fit(
        X,
        Y,
        batch_size=5,
        epochs=epochs,
        validation_split=0.2,
        verbose=0,
        callbacks=[
            Counter(),
            lm.callbacks.CSVLogger(log),
            lm.callbacks.EarlyStopping("counted", mode="max", patience=2, restore_best_weights=True),
            lm.callbacks.ReduceLROnPlateau(factor=0.5, patience=1, min_delta=0.5),
            *more,
        ],
        checkpoint=options.pop("checkpoint", folder / "run" if keep else None),
        **options,
    )
    values = {path: np.asarray(variable.stored).tobytes() for path, variable in model.named_variables().items()}
    return values, repr(history.history), log.read_bytes()


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    monkeypatch.setattr(checkpoint, "SHARE", float("inf"))  # small runs are saved as often as large ones


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train(tmp_path_factory.mktemp("whole"), keep=False)


def test_killed_at_every_change_on_the_disk_and_resumed_it_ends_the_same(tmp_path, whole):
    kills = 0
    while True:
        with pytest.MonkeyPatch.context() as patch:
            Faults(patch, kills + 1, Killed)
            try:
                found = train(tmp_path)
                break
            except Killed:
                kills += 1
    assert kills >= 6
    assert found == whole
    assert train(tmp_path) == whole  # a run that is complete gives its results again
    assert sorted(os.listdir(tmp_path / "run")) == ["checkpoint.safetensors", "lock"]


def test_a_disk_that_fails_is_one_clear_line_and_the_last_checkpoint_stays(tmp_path, whole):
    for code, at in (
        (errno.ENOSPC, 2),
        (errno.ENOSPC, 4),
        (errno.EIO, 9),
        (errno.EROFS, 8),
    ):  # the first writes the lock
        with pytest.MonkeyPatch.context() as patch:
            faults = Faults(patch, at, code)
            with pytest.raises(lm.FileError, match=os.strerror(code)) as told:
                train(tmp_path)
        assert len(str(told.value).splitlines()) == 1
        assert faults.count >= at
    assert train(tmp_path) == whole


class Stop(lm.callbacks.Callback):
    """Sends a signal after a step of an epoch."""

    def __init__(self, epoch=0, steps=(), number=signal.SIGTERM):
        self._at, self._now = [(epoch, step) for step in steps], None
        self._number = number

    def wants_batches(self):
        return True

    def get_state(self):
        return {"_now": self._now}

    def on_epoch_begin(self, epoch, logs=None):
        self._now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self._now, batch) in self._at:
            os.kill(os.getpid(), self._number)


def test_stopped_twice_in_one_epoch_and_in_validation(tmp_path, whole, capsys):
    """A signal saves, and leaves with 128 and its number; the shuffled rest of the epoch follows."""
    before = signal.getsignal(signal.SIGTERM)
    for step, number, code in ((0, signal.SIGTERM, 143), (2, signal.SIGINT, 130)):
        with pytest.raises(SystemExit) as left:
            train(tmp_path, Stop(1, [step], number), driver="loop")
        assert left.value.code == code
        assert f"(epoch 2, step {step + 1})" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before
    late = lm.callbacks.LambdaCallback(on_train_end=lambda logs=None: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as left:  # it comes when all is done
        network().fit(X, Y, verbose=0, callbacks=late, checkpoint=tmp_path / "late")
    assert left.value.code == 143
    validated = lm.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)
    validated.on_test_begin = lambda logs=None: os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(SystemExit):
        train(tmp_path, validated, checkpoint=lm.Checkpoint(tmp_path / "run", accept_changes=True))
    assert "(epoch 2, step 4)" in capsys.readouterr().err
    assert train(tmp_path, Stop(), checkpoint=lm.Checkpoint(tmp_path / "run", accept_changes=True)) == whole


def test_results_do_not_depend_on_how_steps_are_put_into_dispatches(tmp_path, whole, monkeypatch):
    real = Driver.__init__

    def cut(self, *args, **kwargs):
        real(self, *args, **kwargs)
        self.chunk = min(self.chunk, size)

    monkeypatch.setattr(Driver, "__init__", cut)
    for size in (3, 2):  # noqa: B007 - read above
        with pytest.MonkeyPatch.context() as patch:
            Faults(patch, 12, Killed)
            with pytest.raises(Killed):
                train(tmp_path, checkpoint=lm.Checkpoint(tmp_path / "run", every_seconds=0))
    size = 1
    assert train(tmp_path) == whole


def test_another_program_is_refused_with_the_differences(tmp_path):
    def fit(x=X, y=Y, model=None, **options):
        model = model or network()
        return model.fit(x, y, **{"epochs": 1, "verbose": 0, "checkpoint": tmp_path / "run"} | options)

    first = fit()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "__version__", "0.0")
        fit(checkpoint=tmp_path / "old")
    for expected, options in (
        (r"fit, epochs: 1 then, 2 now", {"epochs": 2}),
        (r"data, y: int32\[22\] \w+ then, int32\[22\] \w+ now", {"y": 1 - Y}),
        (r"data, examples: 22 then, 20 now; data, x: .*; data, y", {"x": X[:20], "y": Y[:20]}),
        (r"data, batch_size: 32 then, 4 now", {"batch_size": 4}),
        (r"rate: 0.5 then, 0.25 now", {"model": network(dropout=0.25)}),
        (r"learning_rate: 0.5 then, 0.1 now", {"model": network(rate=0.1)}),
        (r"callbacks: \[\] then, .*EarlyStopping", {"callbacks": lm.callbacks.EarlyStopping("loss")}),
        (r"versions, jax: 0.0 then", {"checkpoint": tmp_path / "old"}),
    ):
        with pytest.raises(lm.ConfigError, match=expected) as told:
            fit(**options)
        assert "accept_changes=True" in str(told.value)
    more = fit(epochs=2, checkpoint=lm.Checkpoint(tmp_path / "run", accept_changes=True))
    assert more.history["loss"][:1] == first.history["loss"]
    assert len(more.epoch) == 2
    slower = network(rate=0.1)
    fit(epochs=3, model=slower, checkpoint=lm.Checkpoint(tmp_path / "run", accept_changes=True))
    assert float(slower.optimizer.learning_rate) == pytest.approx(0.1)
    assert int(slower.optimizer.iterations) == 3
    wide = lm.Sequential([lm.Input((3,)), layers.Dense(5, "relu"), layers.Dense(2, "softmax")])
    wide.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    with pytest.raises(lm.FileError, match=r"'dense/kernel' is of shape \(3, 4\)"):
        fit(model=wide, checkpoint=lm.Checkpoint(tmp_path / "run", accept_changes=True))


def _read_or_told(folder):
    try:
        return folder.read()
    except lm.FileError as error:
        return str(error)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    network().fit(X, Y, verbose=0, checkpoint=tmp_path)
    folder = checkpoint.Folder(checkpoint.Checkpoint(tmp_path))
    good = folder.file.read_bytes()
    header = 8 + int.from_bytes(good[:8], "little")
    padding = range(header - 8, header)  # spaces, which may be there or not
    description, tensors = folder.read()
    for place in range(0, len(good), 37):
        if place not in padding:
            folder.file.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
            found = _read_or_told(folder)
            if isinstance(found, str):
                assert re.search(r"damaged|has format", found)
            else:  # the last of 17 digits may be another one of the same number
                assert (found[0], list(found[1])) == (description, list(tensors))
                assert all(found[1][name].tobytes() == tensors[name].tobytes() for name in tensors)
        folder.file.write_bytes(good[:place])
        with pytest.raises(lm.FileError, match="damaged"):
            folder.read()
    folder.close()
    with pytest.raises(lm.FileError, match="damaged"):
        network().fit(X, Y, verbose=0, checkpoint=tmp_path)


def test_a_second_run_in_the_same_folder_is_refused(tmp_path):
    def second(epoch, logs):
        with pytest.raises(lm.FileError, match=rf"is in use by another run \(process {os.getpid()}\)"):
            network().fit(X, Y, verbose=0, checkpoint=tmp_path)

    network().fit(X, Y, verbose=0, checkpoint=tmp_path, callbacks=lm.callbacks.LambdaCallback(on_epoch_end=second))
    holds = "import fcntl, sys; f = open(sys.argv[1], 'r+'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"
    command = [sys.executable, "-c", holds, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(lm.FileError, match="is in use by another run"):
            checkpoint.Folder(checkpoint.Checkpoint(tmp_path))
        other.kill()
    checkpoint.Folder(checkpoint.Checkpoint(tmp_path)).close()


class Positioned:
    """Batches of changing size from a generator that offers its position."""

    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)

    def __iter__(self):
        return self

    def __next__(self):
        index = self.rng.permutation(len(X))[: self.rng.integers(3, 5)]
        return X[index], Y[index].astype("float32")

    def state_dict(self):
        return {"rng": self.rng.bit_generator.state, "note": np.arange(2)}

    def load_state_dict(self, state):
        assert state["note"].tolist() == [0, 1]
        self.rng.bit_generator.state = state["rng"]


def replayed(seed=0):
    yield from Positioned(seed)


class Shuffled:
    """Epochs that are iterated anew, each in another order."""

    def __init__(self):
        self.rng = np.random.default_rng(2)

    def __iter__(self):
        order = self.rng.permutation(len(X))
        return ((X[order[i : i + 6]], Y[order[i : i + 6]].astype("float32")) for i in range(0, len(X), 6))


@pytest.mark.parametrize("source", [Positioned, replayed, Shuffled])
def test_streams_go_on_where_they_were_with_several_optimizers(tmp_path, source):
    def run(folder, *stops, **options):
        lm.set_random_seed(3)
        model = Duel()
        if folder is not None:
            options["checkpoint"] = lm.Checkpoint(folder, every_seconds=0)
        steps = {} if source is Shuffled else {"steps_per_epoch": 4}
        callbacks = [Stop(epoch, [step]) for epoch, step in stops or [(9, 9)]]
        history = model.fit(source(), epochs=3, verbose=0, callbacks=callbacks, **steps, **options)
        return {p: np.asarray(v.stored).tobytes() for p, v in model.named_variables().items()}, repr(history.history)

    expected = run(None)
    for stop in ((0, 1), (1, 0), (1, 2)):
        with pytest.raises(SystemExit):
            run(tmp_path, stop)
    assert run(tmp_path) == expected


def test_a_generator_that_gives_other_batches_is_refused(tmp_path):
    with pytest.raises(SystemExit):
        Duel().fit(replayed(), steps_per_epoch=3, verbose=0, callbacks=Stop(0, [1]), checkpoint=tmp_path)
    with pytest.raises(lm.DataError, match=r"did not give the batches again.*\n.*state_dict\(\) and load_state_dict"):
        Duel().fit(replayed(1), steps_per_epoch=3, verbose=0, callbacks=Stop(), checkpoint=tmp_path)


def test_a_loss_that_is_not_finite_names_step_and_layer(tmp_path, capsys):
    class Reciprocal(layers.Layer):
        def call(self, x):
            return 1 / x

    x = np.ones((24, 2), "float32")
    x[13] = 0
    model = lm.Sequential([lm.Input((2,)), Reciprocal(name="upside_down"), layers.Dense(1)])
    model.compile("sgd", "mse", learning_rate=1e-3)
    with pytest.raises(lm.StateError) as told:
        model.fit(x, x[:, 0], batch_size=4, epochs=2, shuffle=False, verbose=0, checkpoint=tmp_path)
    line = str(told.value).splitlines()[0]
    assert line.startswith("training stopped: the loss is ")
    assert "in step 4 of epoch 1, and appeared first in layer 'upside_down'" in line
    assert f"{tmp_path} holds the last finite state" in line
    assert "looking for the step" in capsys.readouterr().err

    class Root(layers.Layer):
        def call(self, x):
            return abs(x) ** 0.5

    model = lm.Sequential(
        [lm.Input((2,)), layers.Dense(1, name="before"), Root()]
    )  # sqrt(0) is 0, and its slope infinite
    model.compile("sgd", "mse")
    with pytest.raises(lm.StateError, match=r"'before/kernel' is nan in step 1 of epoch 1, .* first in the gradients"):
        model.fit(0 * x[:4], x[:4, 0], verbose=0, checkpoint=tmp_path / "root")


def test_a_loss_that_is_not_finite_in_a_generator_names_the_step(tmp_path):
    def batches():
        for step in itertools.count():
            yield X[:5] * np.float32(1 if step != 6 else np.nan), Y[:5].astype("float32")

    with pytest.raises(lm.StateError, match=r"'first_loss' is nan in step 3 of epoch 2\. .*last finite"):
        Duel().fit(batches(), steps_per_epoch=4, epochs=3, verbose=0, checkpoint=tmp_path)


def test_a_callback_that_cannot_be_kept_says_what_to_write(tmp_path):
    class Keeper(lm.callbacks.Callback):
        def __init__(self, function=len):
            self.function, self.other, self.kept = function, len, Counts("ab")

    with pytest.raises(lm.ConfigError, match=r"Keeper keeps a Counter in its attribute 'kept'.*\n.*get_state"):
        network().fit(X, Y, verbose=0, callbacks=Keeper(), checkpoint=tmp_path)


def test_layers_that_a_callback_freed_and_random_numbers_stay_so(tmp_path):
    def run(folder, stop=(), epochs=3):
        lm.set_random_seed(5)
        model = network()
        model.layers[0].trainable = False
        drawn = []

        def free(epoch, logs):
            drawn.append(float(lm.random.normal(())))
            model.layers[0].trainable, model.layers[-1].trainable = epoch == 0, epoch != 0

        model.fit(
            X,
            Y,
            epochs=epochs,
            verbose=0,
            callbacks=[lm.callbacks.LambdaCallback(on_epoch_end=free), Stop(2, stop)],
            checkpoint=folder,
        )
        return {p: np.asarray(v.stored).tobytes() for p, v in model.named_variables().items()}, drawn[-1], config.draws

    expected = run(None)
    with pytest.raises(SystemExit):
        run(tmp_path, [0])
    assert run(tmp_path) == expected
