"""Mistakes that a user makes, and what they read: one screen, no library internals, the line to write."""

import numpy as np
import pytest

import lamina as lm
from lamina import layers
from lamina.core.errors import ConfigError, DataError, LaminaError, ShapeError, StateError
from lamina.training.checks import check_values

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 4)).astype("float32")
THREE = np.arange(12) % 3
TWO = np.arange(12) % 2


def net(units=3, activation="softmax", loss="sparse_categorical_crossentropy", **options):
    model = lm.Sequential([lm.Input((4,)), layers.Dense(units, activation, name="head")])
    model.compile("sgd", loss, **options)
    return model


def nan_at_three():
    x = X.copy()
    x[3, 1] = np.nan
    return x


MISTAKES = {
    "wrong input shape": (
        lambda: net().fit(X[:, :3], THREE),
        ShapeError,
        [r"\(any, 4\)", r"\(12, 3\)", r"lm.Input\(\(3,\)\)"],
    ),
    "missing channel axis": (
        lambda: _image_net().predict(np.zeros((2, 8, 8))),
        ShapeError,
        [r"\(any, 8, 8, 1\)", r"x = x\[..., None\]"],
    ),
    "labels beyond n-1": (lambda: net().fit(X, THREE + 1), DataError, ["classes 1, 2, 3", "0 to 2", "np.unique"]),
    "too few neurons": (lambda: net(2).fit(X, THREE), DataError, ["classes 0, 1, 2", r"Dense\(3"]),
    "strings as labels": (lambda: net().fit(X, THREE.astype(str)), DataError, ["texts", "return_inverse=True"]),
    "one-hot with a sparse loss": (
        lambda: net().fit(X, np.eye(3)[THREE]),
        ShapeError,
        ["one-hot", 'loss="categorical_crossentropy"', "argmax"],
    ),
    "classes with a one-hot loss": (
        lambda: net(loss="categorical_crossentropy").fit(X, THREE),
        ShapeError,
        ["one class number", 'loss="sparse_categorical_crossentropy"', r"np.eye\(3\)"],
    ),
    "one neuron, three classes": (
        lambda: net(1, "sigmoid", "binary_crossentropy").fit(X, THREE),
        DataError,
        ["3 classes", "1 output", r"Dense\(3, activation=\"softmax\"\)"],
    ),
    "one softmax neuron": (
        lambda: net(1, "softmax", "binary_crossentropy").fit(X, TWO),
        ShapeError,
        ["always gives 1", "sigmoid"],
    ),
    "one neuron with a sparse loss": (lambda: net(1).fit(X, TWO), DataError, ["one neuron", "binary_crossentropy"]),
    "labels -1 and 1": (
        lambda: net(1, "sigmoid", "binary_crossentropy").fit(X, TWO * 2 - 1),
        DataError,
        ["takes 0 and 1", r"y == 1"],
    ),
    "probabilities from no softmax": (
        lambda: net(3, None).fit(X, THREE),
        ShapeError,
        ["ends in linear", "from_logits=True"],
    ),
    "softmax before logits": (
        lambda: net(3, "softmax", lm.losses.SparseCategoricalCrossentropy(from_logits=True)).fit(X, THREE),
        ShapeError,
        ["from_logits=True", r"Dense\(3\)"],
    ),
    "not one-hot": (
        lambda: net(loss="categorical_crossentropy").fit(X, np.ones((12, 3))),
        DataError,
        ["do not add up to 1", "sigmoid"],
    ),
    "one-hot of another width": (
        lambda: net(loss="categorical_crossentropy").fit(X, np.eye(4)[THREE]),
        ShapeError,
        [r"Dense\(4"],
    ),
    "numbers as classes": (lambda: net().fit(X, X[:, 0]), DataError, ["not whole", "mean_squared_error"]),
    "targets that would broadcast": (
        lambda: net(1, None, "mse").fit(X, X),
        ShapeError,
        [r"\(12, 4\)", r"Dense\(4\)"],
    ),
    "NaN in the data": (lambda: net().fit(nan_at_three(), THREE), DataError, ["NaN", r"x\[3, 1\]", "np.isfinite"]),
    "infinity in the targets": (
        lambda: net(1, None, "mse").fit(X, np.where(TWO, np.inf, 0.0)),
        DataError,
        ["infinity", "y"],
    ),
    "different lengths": (lambda: net().fit(X, THREE[:5]), DataError, ["12 examples", "y has 5"]),
    "empty data": (lambda: net().fit(X[:0], THREE[:0]), DataError, ["no examples"]),
    "ragged rows": (lambda: net().fit([[1, 2], [3]], [0, 1]), DataError, ["different lengths"]),
    "not compiled": (
        lambda: lm.Sequential([layers.Dense(2)]).fit(X, TWO),
        StateError,
        ["not compiled", "model.compile"],
    ),
    "an unbuilt model": (
        lambda: lm.Sequential([layers.Dense(2)]).save("x.safetensors"),
        StateError,
        ["not built", "lm.Input"],
    ),
    "an unbuilt model's size": (lambda: lm.Sequential([layers.Dense(2)]).count_params(), StateError, ["not built"]),
    "an unbuilt model's weights": (
        lambda: lm.Sequential([layers.Dense(2)]).set_weights([X]),
        StateError,
        ["not built", "lm.Input"],
    ),
    "an unbuilt model's file": (
        lambda: lm.Sequential([layers.Dense(2)]).load_weights("x.safetensors"),
        StateError,
        ["not built"],
    ),
    "a loss misspelt": (
        lambda: net(loss="sparse_categorical_crosentropy"),
        ConfigError,
        ["Did you mean 'sparse_categorical_crossentropy'"],
    ),
    "an optimizer misspelt": (lambda: _compile("adamm"), ConfigError, ["Did you mean 'adam'"]),
    "a metric misspelt": (lambda: net(metrics=["acuracy"]).fit(X, THREE), ConfigError, ["Did you mean 'accuracy'"]),
    "an activation misspelt": (lambda: layers.Dense(2, "rellu"), ConfigError, ["Did you mean 'relu"]),
    "a batch size of nothing": (lambda: net().fit(X, THREE, batch_size=0), DataError, ["batch_size"]),
    "all for validation": (lambda: net().fit(X, THREE, validation_split=1.0), ConfigError, ["between 0 and 1"]),
    "no targets": (lambda: net().fit(X), DataError, ["y is missing", r"model.fit\(x, y\)"]),
    "no targets to evaluate by": (lambda: net().evaluate(X), DataError, ["y is missing"]),
    "nothing to minimize": (lambda: net(loss=None).fit(X, THREE), ConfigError, ["no loss", "model.compile"]),
    "a loss for an output that is not there": (
        lambda: net(loss={"hed": "sparse_categorical_crossentropy"}).fit(X, THREE),
        ConfigError,
        ["'hed'", "Did you mean 'head'"],
    ),
    "more losses than outputs": (lambda: net(loss=["mse", "mse"]).fit(X, X[:, :3]), ConfigError, ["list of 2"]),
    "targets for an output that is not there": (
        lambda: net().fit(X, {"tail": THREE}),
        ShapeError,
        ["y names an output 'tail'", "'head'"],
    ),
    "a metric misspelt, before there are data": (
        lambda: net(metrics=["acuracy"]),
        ConfigError,
        ["Did you mean 'accuracy'"],
    ),
    "texts where numbers belong": (
        lambda: net().predict(np.full((2, 4), "a")),
        DataError,
        ["x holds texts", "StringLookup"],
    ),
    "complex numbers": (
        lambda: net().fit(X.astype(complex), THREE),
        DataError,
        ["float32", "received complex", "stack"],
    ),
    "complex targets": (lambda: net(loss="mse").fit(X, X[:, :3] * 1j), DataError, ["y holds complex", "y.real"]),
    "dates in a table": (
        lambda: net().fit(X.astype("datetime64[s]"), THREE),
        DataError,
        ["dates", "FCNNClassifier"],
    ),
    "numbers and texts in a table": (
        lambda: net().fit(np.array([[1, "a", 2, 3]] * 12, object), THREE),
        DataError,
        ["int, str", "FCNNClassifier"],
    ),
    "an index beyond the vocabulary": (
        lambda: _embedding_net().predict(np.array([[1, 9]])),
        DataError,
        ["0 to 4", r"Embedding\(10, 2\)"],
    ),
    "labels beyond n-1 in a stream": (lambda: net().fit([(X, THREE + 1)]), DataError, ["classes 1, 2, 3"]),
    "NaN in a stream": (lambda: net().fit([(nan_at_three(), THREE)]), DataError, ["NaN", r"\[3, 1\]"]),
    "different lengths in a stream": (lambda: net().fit([(X, THREE[:5])]), DataError, ["different numbers", "12"]),
    "single examples in a stream": (
        lambda: net().fit((x, y) for x, y in zip(X, THREE, strict=True)),
        DataError,
        ["single examples", "DataLoader"],
    ),
    "a layer's argument misspelt": (
        lambda: layers.Dense(2, activatoin="relu"),
        ConfigError,
        ["Did you mean 'activation"],
    ),
    "a shape given to a layer": (lambda: layers.Dense(2, input_shape=(4,)), ConfigError, [r"lm.Input\(shape\)"]),
    "shapes that do not add up": (lambda: lm.Input((3,)) + lm.Input((4,)), ShapeError, [r"\(None, 3\), \(None, 4\)"]),
    "no flattening": (
        lambda: _unflattened().fit(np.zeros((12, 4, 4)), THREE),
        ShapeError,
        [r"\(n, 4\)", r"Flatten\(\)"],
    ),
    "epochs that are no number": (lambda: net().fit(X, THREE, epochs="3"), ConfigError, ["epochs", "'3'"]),
    "no steps": (lambda: net().fit(X, THREE, steps_per_epoch=0), ConfigError, ["steps_per_epoch", "at least 1"]),
    "validation every 0 epochs": (lambda: net().fit(X, THREE, validation_freq=0), ConfigError, ["validation_freq"]),
    "an unknown driver": (lambda: net().fit(X, THREE, driver="skan"), ConfigError, ["'scan'"]),
    "class weights that are no dictionary": (
        lambda: net().fit(X, THREE, class_weight="balanced"),
        ConfigError,
        ["class -> weight", r"\{0: 1.0"],
    ),
    "a layer's number that is none": (lambda: net().get_layer(index=3), ConfigError, ["1 layers", "no layer 3"]),
    "Input without a tuple": (lambda: lm.Input(4), ConfigError, [r"Input\(\(4,\)\)"]),
    "a class for a layer": (lambda: lm.Sequential([layers.Flatten]), ConfigError, [r"Flatten\(\.\.\.\)"]),
}


def _image_net():
    return lm.Sequential([lm.Input((8, 8, 1)), layers.Flatten(), layers.Dense(2)])


def _embedding_net():
    return lm.Sequential([lm.Input((2,), dtype="int32"), layers.Embedding(5, 2)])


def _unflattened():
    model = lm.Sequential([lm.Input((4, 4)), layers.Dense(3, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def _compile(optimizer):
    lm.Sequential([lm.Input((4,)), layers.Dense(2)]).compile(optimizer, "mse")


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_in_one_screen(name):
    import re

    mistake, kind, words = MISTAKES[name]
    with pytest.raises(kind) as caught:
        mistake()
    message = str(caught.value)
    assert isinstance(caught.value, LaminaError)
    for word in words:
        assert re.search(word, message), f"{word!r} is not in:\n{message}"
    assert len(message.splitlines()) <= 5
    assert not re.search(r"Traceback|jaxlib|DynamicJaxprTracer|ShapeDtypeStruct|dot_general", message)


@pytest.mark.parametrize(
    ("y", "units", "activation", "loss"),
    [
        (TWO, 1, "sigmoid", "binary_crossentropy"),
        (TWO.astype(bool), 1, "sigmoid", "binary_crossentropy"),
        (TWO.reshape(-1, 1), 1, "sigmoid", "binary_crossentropy"),
        (THREE, 3, "softmax", "sparse_categorical_crossentropy"),
        (np.eye(3)[THREE], 3, "softmax", "categorical_crossentropy"),
        (np.array([[0, 1, 1], [0, 0, 0]] * 6), 3, "sigmoid", "binary_crossentropy"),
        (X[:, 0], 1, "linear", "mean_squared_error"),
        (X[:, :2], 2, "linear", "mean_squared_error"),
    ],
)
def test_head_for_fits_its_targets(y, units, activation, loss):
    head = lm.head_for(y)
    assert (head.layer.units, head.loss) == (units, loss)
    assert getattr(head.layer.activation, "__name__", "linear") == activation
    model = lm.Sequential([lm.Input((4,)), head.layer])
    model.compile("adam", head.loss, metrics=head.metrics)
    assert np.isfinite(model.fit(X, y, verbose=0).history["loss"][0])


@pytest.mark.parametrize(
    ("y", "words"),
    [
        ([], "empty"),
        (["a", "b"], "return_inverse"),
        ([1, 1, 1], "at least two classes"),
        ([-1, 0, 2], "counted from 0"),
    ],
)
def test_head_for_refuses(y, words):
    with pytest.raises(DataError, match=words):
        lm.head_for(y)


def test_a_mistake_shows_the_users_lines_and_not_the_librarys():
    class Outer(layers.Layer):
        def call(self, x):
            return layers.Dense(2)(lm.ops.sum(x))  # the mistake: a single number has no last axis

    with pytest.raises(ShapeError) as caught:
        lm.Model(x := lm.Input((4,)), Outer()(x))
    files = [entry.path.name for entry in caught.traceback]
    assert files == ["test_checks.py", "errors.py", "test_checks.py"]
    assert not getattr(caught.value, "__notes__", [])
    with pytest.raises(ShapeError) as caught:
        net().fit(X[:, :3], THREE)
    assert [entry.path.name for entry in caught.traceback] == ["test_checks.py", "errors.py"]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_numbers_whose_squares_are_too_large_are_finite_all_the_same(dtype):
    x = np.full((40, 3), np.finfo(dtype).max, dtype)
    for array in (x, x[:, ::2], x[0, 0], x[:0]):
        check_values(array, None)
    x[39, 2] = -np.inf
    with pytest.raises(DataError, match=r"1 values .* infinity at x\[39, 2\]"):
        check_values(x, None)
