"""``lm.config.deterministic()``: the same seed gives the same bytes, whatever the process, its hash seed and its threads."""

import json
import os
import subprocess
import sys

import pytest

import lamina as lm

#: trains one network of each family, and prints a digest of its weights and its history
PROGRAM = """
import hashlib, json, os, sys

if sys.argv[1] == "one core":
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])

import numpy as np
import lamina as lm
import lamina.families.transformer_network
from lamina import families, layers

lm.config.deterministic()
found, rng = {}, np.random.default_rng(0)


def keep(name, model, history):
    values = {path: np.asarray(variable.stored).tobytes() for path, variable in model.named_variables().items()}
    found[name] = hashlib.sha256(b"".join(values[path] for path in sorted(values))).hexdigest(), repr(history)


def network(name, x, *parts):
    model = lm.Sequential([lm.Input(x.shape[1:], dtype=x.dtype.name), *parts, layers.Dense(3, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    keep(name, model, model.fit(x, np.arange(len(x)) % 3, batch_size=len(x) // 2, verbose=0).history)


def family(name, estimator, *data):
    estimator.fit(*data)
    keep(name, estimator.model, estimator.history_)


rows, ids = rng.normal(size=(600, 40)).astype("float32"), rng.integers(0, 50, (48, 12), dtype="int32")
texts = ["the cat sat on the mat", "a dog ran in the park", "cats purr and sleep", "dogs bark and run"] * 6
# its kernel's gradient is a product of XLA's own, which is split by threads
network("sums", rng.normal(size=(4000, 64)).astype("float32"), layers.EinsumDense("ab,bc->ac", 64, activation="relu"))
network(
    "pictures",
    rng.normal(size=(32, 12, 12, 1)).astype("float32"),
    layers.Conv2D(16, 3, activation="relu"),
    layers.Conv2D(16, 3),  # by Winograd's filtering
    layers.BatchNormalization(),
    layers.MaxPooling2D(),
    layers.Flatten(),
)
network("lstm", ids, layers.Embedding(50, 16, mask_zero=True), layers.LSTM(20))
network("gru", ids, layers.Embedding(50, 16), layers.GRU(20, return_sequences=True), layers.GRU(7))
writer = families.transformer_network.Transformer(50, 32, depth=2, width=64, heads=4, causal=True)
writer.build((None, 12))
_, caches = lm.jit(writer.write)(writer.empty_caches(), ids[0], np.zeros(1, "float32"), length=12)
found["writer"] = hashlib.sha256(np.asarray(caches).tobytes()).hexdigest(), ""
if sys.argv[1] == "few networks":
    print(json.dumps(found))
    sys.exit()
settings = {"epochs": 1, "batch_size": 16}
family("fcnn", families.FCNNClassifier(hidden=(16,), members=1, **settings), rows[:60], np.array(["no", "yes", "maybe"] * 20))
family("rnn", families.RNNClassifier(units=4, embedding=4, **settings), texts, np.arange(24) % 2)
family("autoencoder", families.Autoencoder(n_components=2, hidden=(16,), **settings), rows)
family("gan", families.GAN(latent=2, filters=2, **settings), rng.integers(0, 255, (32, 8, 8), dtype="uint8"))
sizes = {"layers": 1, "width": 16, "heads": 2, "context": 16, "vocabulary_size": 300}
family("transformer", families.TransformerClassifier(**sizes, pretrain_epochs=0, **settings), texts, np.arange(24) % 2)
print(json.dumps(found))
"""


def run(how, **environment):
    command = [sys.executable, "-c", PROGRAM, how]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_same_seed_gives_the_same_bytes_whatever_the_hash_seed_and_the_threads():
    expected = run("one core", PYTHONHASHSEED="1", PJRT_NPROC="1")
    assert len(expected) == 10
    assert run("all cores", PYTHONHASHSEED="2", PJRT_NPROC="3") == expected
    again = run("few networks", PYTHONHASHSEED="2", PJRT_NPROC="3")
    assert len(again) == 5
    assert again.items() <= expected.items()


def test_it_comes_before_the_first_array():
    lm.random.normal(())
    with pytest.raises(lm.StateError, match=r"before the first array.*\n.*import lamina as lm; lm.config.determ"):
        lm.config.deterministic()
