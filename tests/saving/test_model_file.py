import json
import os
import struct
import subprocess
import sys

import numpy as np
import pytest

import lamina as lm
from lamina import layers
from lamina.core.errors import ConfigError, FileError
from lamina.saving import disk, read_description

X = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
Y = (X.sum(1) > 0).astype(int)


def trained():
    x = lm.Input((4,))
    h = layers.Dense(5, "relu", kernel_regularizer="l2")(x)
    h = layers.BatchNormalization()(h) + lm.ops.sum(x, axis=-1, keepdims=True)
    model = lm.Model(x, layers.Dense(1, "sigmoid")(h), name="mine")
    schedule = lm.schedules.ExponentialDecay(0.1, 10, 0.9)
    model.compile(lm.optimizers.Adam(schedule), "binary_crossentropy", metrics=["accuracy", lm.metrics.AUC()])
    model.fit(X, Y, epochs=2, batch_size=5, verbose=0)
    return model


def test_everything_comes_back(tmp_path):
    model, path = trained(), tmp_path / "model.safetensors"
    model.save(path)
    again = lm.load_model(path)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert again.name == "mine"
    assert again.evaluate(X, Y, verbose=0) == model.evaluate(X, Y, verbose=0)
    # With the optimizer's state, training goes on as if nothing had happened.
    for network in (model, again):
        network.fit(X, Y, epochs=2, batch_size=5, verbose=0)
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_sequential_subclass_and_half_precision_come_back(tmp_path):
    @lm.register("test_saving")
    class Mine(lm.Model):
        def __init__(self, width, **kwargs):
            super().__init__(**kwargs)
            self.width = width
            self.dense = layers.Dense(width)

        def call(self, x):
            return self.dense(x)

    half = lm.Sequential([lm.Input((4,)), layers.Dense(3, dtype="bfloat16")])
    for model in (lm.Sequential([layers.Dense(2), layers.Dense(3)]), Mine(3, name="own"), half):
        expected = model.predict(X)
        model.save(tmp_path / "m.safetensors")
        again = lm.load_model(tmp_path / "m.safetensors")
        assert type(again) is type(model)
        np.testing.assert_array_equal(again.predict(X), expected)


def test_weights_alone(tmp_path):
    model, other = trained(), trained()
    other.set_weights([w + 1 for w in other.get_weights()])
    model.save_weights(tmp_path / "w.safetensors")
    other.load_weights(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(other.predict(X), model.predict(X))
    with pytest.raises(FileError, match="without an architecture"):
        lm.load_model(tmp_path / "w.safetensors")
    small = lm.Sequential([lm.Input((4,)), layers.Dense(5)])
    with pytest.raises(FileError, match="which the model does not have"):
        small.load_weights(tmp_path / "w.safetensors")
    wide = lm.Sequential([lm.Input((4,)), layers.Dense(6)])
    wide.save_weights(tmp_path / "wide.safetensors")
    with pytest.raises(FileError, match=r"'dense/kernel' has shape \(4, 6\); the model's has \(4, 5\)"):
        small.load_weights(tmp_path / "wide.safetensors")


def test_the_file_is_safetensors_with_json_and_no_code(tmp_path):
    path = tmp_path / "model.safetensors"
    trained().save(path)
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    description = json.loads(header["__metadata__"]["lamina"])
    assert description["format"] == 1
    assert description["architecture"]["class"] == "layers.Model"
    assert header["dense/kernel"]["shape"] == [4, 5]
    assert "optimizer/slots/momentum/dense/kernel" in header
    assert read_description(path)["tensors"]["dense/kernel"] == ([4, 5], "float32")


def test_custom_functions_are_named_and_asked_for(tmp_path):
    def mine(x):
        return 2 * x

    model = lm.Sequential([lm.Input((4,)), layers.Dense(1, activation=mine)])
    model.save(tmp_path / "m.safetensors")
    with pytest.raises(ConfigError, match=r'custom_objects=\{"mine": mine\}'):
        lm.load_model(tmp_path / "m.safetensors")
    again = lm.load_model(tmp_path / "m.safetensors", custom_objects={"mine": mine})
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


def rewritten(path, change):
    """The file with its description changed."""
    from safetensors.numpy import load_file, save_file

    description = read_description(path)
    description.pop("tensors")
    change(description)
    save_file(load_file(path), path, metadata={"lamina": json.dumps(description)})


def test_bad_files_are_told_apart(tmp_path):
    path = tmp_path / "m.safetensors"
    with pytest.raises(FileError, match="there is no file"):
        lm.load_model(path)
    path.write_bytes(b"")
    with pytest.raises(FileError, match="not a model file, or is damaged"):
        lm.load_model(path)
    model = lm.Sequential([lm.Input((4,)), layers.Dense(1)])
    model.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    with pytest.raises(FileError, match="damaged"):
        lm.load_model(path)
    path.write_bytes(whole)
    with pytest.raises(FileError, match="is there already"):
        model.save(path, overwrite=False)
    rewritten(path, lambda d: d.update(format=99, lamina="9.9"))
    with pytest.raises(
        FileError, match=r"format 99, written by Lamina '9\.9'; this version, 0.1.0, reads formats up to 1"
    ):
        lm.load_model(path)
    path.write_bytes(whole)
    rewritten(path, lambda d: d["architecture"].update({"class": "os.system"}))
    with pytest.raises(ConfigError, match=r"'os\.system' is not registered"):
        lm.load_model(path)
    path.write_bytes(whole)
    rewritten(path, lambda d: d["architecture"]["config"]["layers"][0]["config"].update(units=7))
    with pytest.raises(FileError, match="shape"):
        lm.load_model(path)
    with pytest.raises(FileError, match="cannot be written"):
        model.save(tmp_path / "missing" / "m.safetensors")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.safetensors"]


def test_layers_frozen_after_training_come_back_with_their_optimizers_state(tmp_path):
    model = lm.Sequential([lm.Input((4,)), layers.Dense(3, "relu"), layers.Dense(1, "sigmoid")])
    model.compile("adam", "binary_crossentropy")
    model.fit(X, Y, verbose=0)
    model.layers[0].trainable = False
    model.save(tmp_path / "m.safetensors")
    again = lm.load_model(tmp_path / "m.safetensors")
    for network in (model, again):
        network.layers[0].trainable = True
        network.fit(X, Y, verbose=0)
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_model_that_is_trained_by_parts_can_be_saved(tmp_path):
    @lm.saving.register_keras_serializable("test_parts")
    class Pair(lm.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.a = lm.Sequential([lm.Input((4,)), layers.Dense(2)])
            self.b = lm.Sequential([layers.Dense(2)])

    pair = Pair()
    pair.a.set_weights([w + 1 for w in pair.a.get_weights()])
    pair.save(tmp_path / "pair.safetensors")
    again = lm.load_model(tmp_path / "pair.safetensors")
    np.testing.assert_array_equal(again.a.predict(X), pair.a.predict(X))
    pair.b.build((None, 4))
    pair.save(tmp_path / "pair.safetensors")
    with pytest.raises(FileError, match="'b/dense/bias', which the model does not have"):
        lm.load_model(tmp_path / "pair.safetensors")  # the part's input was never told


def test_saving_takes_away_what_killed_processes_left_and_nothing_else(tmp_path):
    path = tmp_path / "model[1].safetensors"
    names = ("abcdefgh", "zzzzzzz1", "zzzzzzz2", "zzzzzzz3", "bak.abcdefgh")
    dead, young, held, mine, other = (tmp_path / f".{path.name}.{name}" for name in names)
    for file in (dead, young, held, mine, other):
        file.write_bytes(b"part")
        if file is not young:
            os.utime(file, (0, 0))
    holds = "import fcntl, sys; f = open(sys.argv[1], 'r+'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"
    command = [sys.executable, "-c", holds, str(held)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process, mine.open("r+") as file:
        process.stdout.readline()
        assert disk._hold(file.fileno())
        disk.replace(path, [b"whole"])
        assert sorted(tmp_path.iterdir()) == sorted([path, young, held, mine, other])
        process.kill()
    disk.replace(path, [b"whole"])
    assert sorted(tmp_path.iterdir()) == sorted([path, young, other])
    disk.sweep(path)  # where nobody else writes
    assert sorted(tmp_path.iterdir()) == sorted([path, other])
