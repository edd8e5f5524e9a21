"""Write row3_*.npz: what Keras 3 gives for activations, losses, regularizers, constraints, schedules, initializers.

Run with a Python that has Keras:  KERAS_BACKEND=jax python tests/golden/make_row3.py
Each file has ``cases``, JSON strings that say what was computed, and the results in order as ``out_0``, ``out_1``, ...
"""

import json
from pathlib import Path

import keras
import numpy as np

HERE = Path(__file__).parent
rng = np.random.default_rng(7)


def softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def write(name, cases, outputs, **more):
    arrays = {f"out_{i}": np.asarray(output) for i, output in enumerate(outputs)}
    np.savez_compressed(HERE / f"row3_{name}.npz", cases=[json.dumps(case) for case in cases], **arrays, **more)


# Keras 3.15 gives wrong values of sparsemax in rows that begin below zero, so one case of it is enough.

# -- activations ---------------------------------------------------------------------------------------------------

x = np.concatenate([np.linspace(-4, 4, 25), [-1, -0.5, 0.5, 1, 30, -30, 7]]).astype("float32").reshape(4, 8)
cases = [
    (name, {})
    for name in [
        "celu",
        "elu",
        "exponential",
        "gelu",
        "glu",
        "hard_shrink",
        "hard_sigmoid",
        "hard_silu",
        "hard_tanh",
        "leaky_relu",
        "linear",
        "log_sigmoid",
        "log_softmax",
        "mish",
        "relu",
        "relu6",
        "selu",
        "sigmoid",
        "silu",
        "soft_shrink",
        "softmax",
        "softplus",
        "softsign",
        "sparse_plus",
        "sparse_sigmoid",
        "squareplus",
        "tanh",
        "tanh_shrink",
    ]
] + [
    ("relu", {"negative_slope": 0.1, "max_value": 2.0, "threshold": 0.5}),
    ("relu", {"threshold": 1.5}),
    ("leaky_relu", {"negative_slope": 0.3}),
    ("softmax", {"axis": 0}),
    ("log_softmax", {"axis": 0}),
    ("sparsemax", {"axis": 0}),
    ("glu", {"axis": 0}),
    ("elu", {"alpha": 0.5}),
    ("celu", {"alpha": 2.0}),
    ("gelu", {"approximate": True}),
    ("squareplus", {"b": 1.0}),
    ("soft_shrink", {"threshold": 1.25}),
    ("hard_shrink", {"threshold": 1.25}),
    ("threshold", {"threshold": 0.25, "default_value": -3.0}),
]
write("activations", cases, [getattr(keras.activations, name)(x, **config) for name, config in cases], x=x)

# -- losses --------------------------------------------------------------------------------------------------------

classes = rng.integers(0, 4, 6)
steps = rng.integers(0, 4, (3, 5))
binary = rng.integers(0, 2, (6, 3)).astype("float32")
logits = rng.normal(size=(6, 4)).astype("float32") * 2
step_logits = rng.normal(size=(3, 5, 4)).astype("float32") * 2
embeddings = rng.normal(size=(6, 4)).astype("float32")
soft = softmax(rng.normal(size=(6, 4)).astype("float32"))
data = {
    "real": (rng.normal(size=(6, 3)).astype("float32"), rng.normal(size=(6, 3)).astype("float32") * 2),
    "flat": (rng.normal(size=(6,)).astype("float32"), rng.normal(size=(6, 1)).astype("float32")),
    "steps": (rng.normal(size=(3, 5, 2)).astype("float32"), rng.normal(size=(3, 5, 2)).astype("float32")),
    "positive": (rng.poisson(3.0, (6, 3)).astype("float32"), rng.gamma(2.0, 1.5, (6, 3)).astype("float32")),
    "soft": (soft, softmax(logits)),
    "binary": (binary, 1 / (1 + np.exp(-2 * rng.normal(size=(6, 3)).astype("float32")))),
    "extreme": (binary, rng.integers(0, 2, (6, 3)).astype("float32")),
    "binary_logits": (binary, rng.normal(size=(6, 3)).astype("float32") * 20),
    "signs": (2 * binary - 1, rng.normal(size=(6, 3)).astype("float32")),
    "onehot": (np.eye(4, dtype="float32")[classes], softmax(logits)),
    "onehot_logits": (np.eye(4, dtype="float32")[classes], logits),
    "onehot_axis1": (np.eye(4, dtype="float32")[steps].transpose(0, 2, 1), step_logits.transpose(0, 2, 1)),
    "sparse": (classes, softmax(logits)),
    "sparse_column": (classes[:, None], softmax(logits)),
    "sparse_logits": (classes, logits),
    "sparse_steps": (steps, step_logits),
    "circle": (classes // 2, embeddings / np.linalg.norm(embeddings, axis=-1, keepdims=True)),
    "ctc": (np.array([[1, 2, 2, 0], [3, 0, 0, 0], [1, 2, 3, 4]]), rng.normal(size=(3, 8, 5)).astype("float32")),
    "images": (rng.integers(0, 2, (6, 3, 2)).astype("float32"), rng.uniform(size=(6, 3, 2)).astype("float32")),
}
cases = [
    *[
        (name, {}, kind)
        for name in ("MeanSquaredError", "MeanAbsoluteError", "MeanAbsolutePercentageError", "Huber", "LogCosh")
        for kind in ("real", "steps")
    ],
    ("MeanSquaredError", {}, "flat"),
    ("Huber", {"delta": 0.3}, "real"),
    ("MeanSquaredLogarithmicError", {}, "positive"),
    ("Poisson", {}, "positive"),
    ("KLDivergence", {}, "soft"),
    ("CosineSimilarity", {}, "real"),
    ("CosineSimilarity", {"axis": 1}, "steps"),
    ("BinaryCrossentropy", {}, "binary"),
    ("BinaryCrossentropy", {"label_smoothing": 0.2}, "binary"),
    ("BinaryCrossentropy", {}, "extreme"),
    ("BinaryCrossentropy", {"from_logits": True}, "binary_logits"),
    ("BinaryFocalCrossentropy", {}, "binary"),
    ("BinaryFocalCrossentropy", {"apply_class_balancing": True, "alpha": 0.3, "gamma": 1.5}, "binary"),
    ("BinaryFocalCrossentropy", {"from_logits": True, "label_smoothing": 0.1}, "signs"),
    ("CategoricalCrossentropy", {}, "onehot"),
    ("CategoricalCrossentropy", {}, "soft"),
    ("CategoricalCrossentropy", {"from_logits": True, "label_smoothing": 0.1}, "onehot_logits"),
    ("CategoricalCrossentropy", {"from_logits": True, "axis": 1}, "onehot_axis1"),
    ("CategoricalFocalCrossentropy", {}, "onehot"),
    ("CategoricalFocalCrossentropy", {"from_logits": True, "gamma": 1.0, "alpha": 0.7}, "onehot_logits"),
    ("SparseCategoricalCrossentropy", {}, "sparse"),
    ("SparseCategoricalCrossentropy", {}, "sparse_column"),
    ("SparseCategoricalCrossentropy", {"from_logits": True}, "sparse_logits"),
    ("SparseCategoricalCrossentropy", {"from_logits": True}, "sparse_steps"),
    ("SparseCategoricalCrossentropy", {"from_logits": True, "ignore_class": 2}, "sparse_steps"),
    ("CategoricalGeneralizedCrossEntropy", {}, "sparse"),
    ("CategoricalGeneralizedCrossEntropy", {"q": 0.8}, "sparse"),
    ("Hinge", {}, "binary"),
    ("Hinge", {}, "signs"),
    ("SquaredHinge", {}, "signs"),
    ("CategoricalHinge", {}, "onehot_logits"),
    ("Dice", {}, "images"),
    ("Dice", {"axis": [1, 2]}, "images"),
    ("Tversky", {"alpha": 0.3, "beta": 0.7}, "images"),
    ("Tversky", {"axis": [1, 2]}, "images"),
    ("Circle", {}, "circle"),
    ("Circle", {"gamma": 5.0, "margin": 0.2, "remove_diagonal": False}, "circle"),
    ("CTC", {}, "ctc"),
]
REDUCTIONS = ("sum_over_batch_size", "sum", "mean_with_sample_weight")
weights = np.array([0.5, 2.0, 0.0, 1.0, 3.0, 1.5], "float32")
outputs = []
for name, config, kind in cases:
    y_true, y_pred = data[kind]
    loss = getattr(keras.losses, name)
    values = np.asarray(loss(**config, reduction="none")(y_true, y_pred))
    weight = weights[: len(y_true)].reshape(-1, *[1] * max(0, values.ndim - 1))
    weight = np.broadcast_to(weight, values.shape) if values.ndim else weight  # each reduction then agrees on the count
    row = [loss(**config, reduction=r)(y_true, y_pred) for r in REDUCTIONS]
    row += [loss(**config, reduction=r)(y_true, y_pred, sample_weight=weight) for r in REDUCTIONS]
    outputs.append(np.concatenate([np.asarray(row), values.ravel()]))
flat = {
    f"{kind}_{side}": value for kind, pair in data.items() for side, value in zip(("true", "pred"), pair, strict=True)
}

# masks: the predictions carry them
mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]], bool)
y_true, y_pred = data["steps"]
masked = []
for reduction in REDUCTIONS:
    for weight in (None, np.broadcast_to(weights[:3, None], (3, 5))):
        pred = keras.ops.convert_to_tensor(y_pred)
        pred._keras_mask = keras.ops.convert_to_tensor(mask)
        masked.append(keras.losses.MeanSquaredError(reduction)(y_true, pred, sample_weight=weight))
write("losses", cases, outputs, weights=weights, mask=mask, masked=np.asarray(masked), **flat)

# -- regularizers and constraints ----------------------------------------------------------------------------------

w = rng.normal(size=(4, 3)).astype("float32")
w[:, 2] = 0
kernel = rng.normal(size=(2, 2, 3, 2)).astype("float32")
cases = [
    ("L1", {}, "w"),
    ("L1", {"l1": 0.3}, "kernel"),
    ("L2", {}, "w"),
    ("L2", {"l2": 0.3}, "kernel"),
    ("L1L2", {"l1": 0.1, "l2": 0.2}, "w"),
    ("OrthogonalRegularizer", {}, "w"),
    ("OrthogonalRegularizer", {"factor": 0.5, "mode": "columns"}, "w"),
]
inputs = {"w": keras.ops.convert_to_tensor(w), "kernel": keras.ops.convert_to_tensor(kernel)}
write("regularizers", cases, [getattr(keras.regularizers, n)(**c)(inputs[k]) for n, c, k in cases], **inputs)
cases = [
    ("MaxNorm", {}, "w"),
    ("MaxNorm", {"max_value": 0.7, "axis": 1}, "w"),
    ("MaxNorm", {"max_value": 1.0, "axis": [0, 1, 2]}, "kernel"),
    ("NonNeg", {}, "w"),
    ("UnitNorm", {}, "w"),
    ("UnitNorm", {"axis": [0, 1, 2]}, "kernel"),
    ("MinMaxNorm", {"min_value": 1.0, "max_value": 1.2}, "w"),
    ("MinMaxNorm", {"min_value": 1.0, "max_value": 1.2, "rate": 0.3, "axis": 1}, "w"),
]
write("constraints", cases, [getattr(keras.constraints, n)(**c)(inputs[k]) for n, c, k in cases], **inputs)

# -- schedules -----------------------------------------------------------------------------------------------------

steps = np.array([0, 1, 5, 9, 10, 11, 15, 20, 25, 35, 50, 69, 71, 100, 1000])
cases = [
    ("ExponentialDecay", {"initial_learning_rate": 0.1, "decay_steps": 10, "decay_rate": 0.9}),
    ("ExponentialDecay", {"initial_learning_rate": 0.1, "decay_steps": 10, "decay_rate": 0.9, "staircase": True}),
    ("InverseTimeDecay", {"initial_learning_rate": 0.1, "decay_steps": 10, "decay_rate": 0.5}),
    ("InverseTimeDecay", {"initial_learning_rate": 0.1, "decay_steps": 10, "decay_rate": 0.5, "staircase": True}),
    ("PiecewiseConstantDecay", {"boundaries": [5, 10, 50], "values": [1.0, 0.5, 0.25, 0.125]}),
    ("PolynomialDecay", {"initial_learning_rate": 0.1, "decay_steps": 20}),
    ("PolynomialDecay", {"initial_learning_rate": 0.1, "decay_steps": 20, "power": 2.0, "end_learning_rate": 0.01}),
    ("PolynomialDecay", {"initial_learning_rate": 0.1, "decay_steps": 20, "cycle": True}),
    ("CosineDecay", {"initial_learning_rate": 0.1, "decay_steps": 50, "alpha": 0.1}),
    ("CosineDecay", {"initial_learning_rate": 0.01, "decay_steps": 50, "warmup_target": 0.1, "warmup_steps": 10}),
    ("CosineDecayRestarts", {"initial_learning_rate": 0.1, "first_decay_steps": 15}),
    ("CosineDecayRestarts", {"initial_learning_rate": 0.1, "first_decay_steps": 10, "t_mul": 1.0, "m_mul": 0.8}),
    ("CosineDecayRestarts", {"initial_learning_rate": 0.1, "first_decay_steps": 8, "t_mul": 1.5, "alpha": 0.2}),
]
outputs = [[getattr(keras.optimizers.schedules, name)(**config)(step) for step in steps] for name, config in cases]
write("schedules", cases, outputs, steps=steps)

# -- initializers that draw nothing --------------------------------------------------------------------------------

cases = [
    ("Identity", {"gain": 1.5}, [3, 4]),
    ("STFT", {}, [8, 1, 6]),
    ("STFT", {"side": "imag", "window": "hamming", "scaling": "spectrum", "periodic": True}, [8, 1, 6]),
    ("STFT", {"window": None}, [8, 1, 6]),
    ("STFT", {"scaling": None}, [8, 1, 6]),
]
write("initializers", cases, [getattr(keras.initializers, n)(**c)(tuple(s)) for n, c, s in cases])
