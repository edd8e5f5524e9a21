"""What is looked at before the first step: the values of the data, and whether head, loss and labels belong together.

Every error says what was given, what was expected, and the line to write.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lamina import losses
from lamina.core.errors import DataError, ShapeError
from lamina.data.batches import ArrayData, length, unpack
from lamina.layers.core import Activation, Dense

#: how many numbers are looked at at once
AT_ONCE = 1 << 20


def check_data(model: Any, data: ArrayData) -> None:
    """Refuse data whose values, or whose targets' shape and labels, do not fit ``model``.

    Raises:
        DataError: for values.
        ShapeError: for shapes.
        ConfigError: for settings of ``compile`` that do not fit the outputs.
    """
    x, y, sample_weight = unpack(data.tree)
    takes_missing = any(getattr(module, "takes_missing", False) for module in model.modules().values())
    check_values(None if takes_missing else x, y, sample_weight)
    if model._graph is not None:
        model._graph.check_values(x)
    if model.objective is not None and not model.has_own_step and y is not None:
        if any(leaf.dtype.kind == "c" for leaf in jax.tree.leaves(y)):
            raise DataError("y holds complex numbers, and losses compare real ones.\nWrite:  y = y.real")
        first = unpack(model.prepare_batch(data.take(slice(0, 1))))[0]
        dtype_of = jax.dtypes.canonicalize_dtype  # of what JAX will make of it
        example = jax.tree.map(lambda a: jax.ShapeDtypeStruct((data.size, *a.shape[1:]), dtype_of(a.dtype)), first)
        check_head(model, model.objective, y, model.step("predict", example).results)


def check_batch(model: Any, batch: Any) -> None:
    """:func:`check_data` for a batch from a stream.

    Raises:
        DataError: also if it is a single example.
    """
    leaves = jax.tree.leaves(batch)
    size = max((np.shape(leaf)[0] for leaf in leaves if np.ndim(leaf)), default=0)
    if not model.has_own_step:
        if any(np.ndim(leaf) == 0 for leaf in leaves):
            raise DataError(
                "the data give single examples, and fit takes batches of them.\n"
                "Write:  torch.utils.data.DataLoader(data, batch_size=32)   or let each item be a batch (x, y)"
            )
        size = length(batch, "the batch")
    check_data(model, ArrayData(batch, size, size))


def check_values(x: Any, y: Any, sample_weight: Any = None) -> None:
    """Refuse data that hold NaN or infinity, and targets that are texts.

    Raises:
        DataError: naming the array, how many there are and where the first one is.
    """
    for what, tree in ("x", x), ("y", y), ("sample_weight", sample_weight):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            if isinstance(leaf, jax.Array) and bool(jnp.isfinite(leaf).all()):
                continue  # looked at where it is: copies from a GPU take their time
            array = np.asarray(leaf)
            if what == "y" and array.dtype.kind in "OSUT":
                seen = ", ".join(repr(str(v)) for v in np.unique(array.astype(str))[:4])
                raise DataError(
                    f"y holds texts ({seen}, ...), and a network counts classes from 0.\n"
                    "Write:  class_names, y = np.unique(y, return_inverse=True)"
                )
            if array.dtype.kind not in "fc" and array.dtype.name != "bfloat16":
                continue
            if not _all_finite(array):
                finite = np.isfinite(array)
                where = tuple(int(i) for i in np.argwhere(~finite)[0])
                kind = "NaN" if np.isnan(array[where]) else "infinity"
                name = what + jax.tree_util.keystr(path) if what != "x" or not isinstance(x, np.ndarray) else what
                raise DataError(
                    f"{name} holds {int((~finite).sum())} values that are NaN or infinite; the first is {kind} at "
                    f"{name}{list(where)}.\nFind the rows:  np.argwhere(~np.isfinite({what}))\n"
                    f"Leave them out, or replace them:  np.nan_to_num({what})"
                )


def _all_finite(array: np.ndarray) -> bool:
    """Whether no value is NaN or infinite; looks at a part at a time, as a mapped file may be larger than memory."""
    rows = max(1, AT_ONCE * len(array) // max(array.size, 1)) if array.ndim else 1
    parts = (array[i : i + rows] for i in range(0, len(array), rows)) if array.ndim else (array,)
    return all(_square_is_finite(part) or np.isfinite(part).all() for part in parts)


def _square_is_finite(array: np.ndarray) -> bool:
    """Whether the sum of the squares is finite, as it can only be if all values are: one look at memory, where it is quick."""
    if array.dtype.name not in ("float32", "float64") or not array.flags.c_contiguous:
        return False
    with np.errstate(all="ignore"):
        return bool(np.isfinite(np.vdot(array, array)))


def check_numbers(x: Any) -> None:
    """Refuse texts and objects where a network computes.

    Raises:
        DataError: with what turns them into numbers.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(x):
        if np.dtype(getattr(leaf, "dtype", float)).kind in "OSUT":
            raise DataError(
                f"x{jax.tree_util.keystr(path)} holds texts, and the model computes with numbers.\n"
                'Begin it with  lm.Input(shape, dtype="string")  and  layers.StringLookup  or  layers.TextVectorization.'
            )


def check_head(model: Any, objective: Any, y: Any, outputs: Any) -> None:
    """Refuse targets that the model's output layer and loss do not belong to.

    Args:
        model: the model.
        objective: its loss.
        y: the targets, as NumPy arrays.
        outputs: shapes of the model's outputs, for one example or many.

    Raises:
        ShapeError: if shapes of targets and outputs differ.
        DataError: if the labels are not what the loss counts on.
        ConfigError: if loss, metrics or weights are named for outputs that the model does not have.
    """
    objective.check(y, outputs)
    names = model._named_layers()
    for place, (name, target, output) in enumerate(objective.pairs(y, outputs)):
        loss = objective.losses
        if isinstance(loss, Mapping):
            loss = loss.get(name)
        elif isinstance(loss, list):
            loss = loss[place]
        layer = _last_layer(model, place)
        label = next((n for n, found in names.items() if found is layer), None)
        _check_one(np.asarray(target), output.shape, loss, layer, label)


def _last_layer(model: Any, place: int) -> Any:
    """The layer that gives an output, where the model's graph tells."""
    graph = model._graph
    if graph is None:
        return None
    call = graph.output_list[place].call
    return call.operation if call is not None else None


def _check_one(y: np.ndarray, output: tuple[int, ...], loss: Any, layer: Any, label: str | None) -> None:
    width = output[-1] if len(output) > 1 else 1
    where = (
        f"output layer {label!r} ({type(layer).__name__}, {width} output{'s' * (width != 1)})"
        if label
        else (f"the model's output (shape {_words(output)})")
    )
    activation = _activation(layer)
    sparse = isinstance(loss, losses.SparseCategoricalCrossentropy)
    categorical = isinstance(loss, losses.CategoricalCrossentropy)
    binary = isinstance(loss, losses.BinaryCrossentropy)
    if sparse:
        _check_sparse(y, output, width, where, loss)
    elif categorical:
        _check_categorical(y, output, width, where)
    elif binary:
        _check_binary(y, output, width, where)
    elif isinstance(loss, losses.Loss) and not isinstance(loss, losses.CTC):
        _check_same(y, output, where, loss)
    if sparse or categorical or binary:
        _check_activation(loss, activation, width, where, binary)


def _check_sparse(y: np.ndarray, output: tuple[int, ...], width: int, where: str, loss: Any) -> None:
    rows = y[..., 0] if y.ndim == len(output) and y.shape[-1] == 1 else y
    if y.ndim == len(output) and y.shape[-1] == width and width > 1:
        raise ShapeError(
            f"y has shape {y.shape}: one-hot rows, but the loss is sparse_categorical_crossentropy, which takes one "
            'class number for each example.\nWrite:  loss="categorical_crossentropy"   or   y = y.argmax(-1)'
        )
    if rows.ndim != len(output) - 1 or rows.shape[1:] != tuple(output[1:-1]):
        raise ShapeError(
            f"y has shape {y.shape}, but {where} with sparse_categorical_crossentropy needs one class number for each "
            f"prediction: shape {_words(('n', *output[1:-1]))}."
            + ("\nWrite:  layers.Flatten()  before the output layer." if rows.ndim == 1 and len(output) > 2 else "")
        )
    if rows.dtype.kind == "f" and not np.equal(rows, np.round(rows)).all():
        raise DataError(
            f"y holds numbers that are not whole ({_seen(rows)}), so they are not classes.\n"
            'For predicting numbers write:  Dense(1)  and  loss="mean_squared_error"'
        )
    if width > 1 and rows.size and rows.min() >= 0 and rows.max() < width:
        return  # without sorting all of them
    ignored = getattr(loss, "ignore_class", None)
    labels = np.unique(rows)
    labels = labels[labels != ignored] if ignored is not None else labels
    if not len(labels):
        return
    if width == 1 and len(labels) >= 2:
        _refuse_single(labels, where, "sparse_categorical_crossentropy")
    if labels[0] < 0 or labels[-1] >= width:
        highest = int(labels[-1])
        fix = (
            f'Write:  Dense({highest + 1}, activation="softmax")'
            if labels[0] >= 0 and highest < 10 * max(len(labels), 2) and labels[0] == 0
            else "Write:  class_values, y = np.unique(y, return_inverse=True)"
        )
        raise DataError(f"y holds classes {_seen(labels)}, but {where} counts classes 0 to {width - 1}.\n{fix}")


def _check_categorical(y: np.ndarray, output: tuple[int, ...], width: int, where: str) -> None:
    if y.ndim == len(output) - 1 or (y.ndim == len(output) and y.shape[-1] == 1 and width > 1):
        raise ShapeError(
            f"y has shape {y.shape}: one class number for each example, but the loss is categorical_crossentropy, which "
            f'takes one-hot rows of {width}.\nWrite:  loss="sparse_categorical_crossentropy"   or   '
            f"y = np.eye({width})[y]"
        )
    if width == 1:
        _refuse_single(np.unique(y), where, "categorical_crossentropy")
    if y.shape[1:] != tuple(output[1:]):
        raise ShapeError(
            f"y has shape {y.shape}: {y.shape[-1]} classes, but {where} gives {width}.\n"
            f'Write:  Dense({y.shape[-1]}, activation="softmax")'
        )
    total = y.sum(-1)
    if (y < 0).any() or not np.allclose(total, 1, atol=1e-3):
        raise DataError(
            f"rows of y do not add up to 1 (the first gives {float(np.ravel(total)[0]):g}), so they are not one-hot "
            'classes.\nFor several labels at once write:  Dense(n, activation="sigmoid")  and  '
            'loss="binary_crossentropy"'
        )


def _check_binary(y: np.ndarray, output: tuple[int, ...], width: int, where: str) -> None:
    labels = np.unique(y)
    outside = labels[(labels < 0) | (labels > 1)]
    if len(outside):
        whole = np.equal(labels, np.round(labels)).all()
        if whole and len(labels) > 2:
            n = int(labels[-1]) + 1
            raise DataError(
                f"y holds {len(labels)} classes ({_seen(labels)}), but {where} with binary_crossentropy tells two apart.\n"
                f'Write:  Dense({n}, activation="softmax")  and  loss="sparse_categorical_crossentropy"'
            )
        raise DataError(
            f"y holds {_seen(labels)}, but binary_crossentropy takes 0 and 1.\n"
            + (f"Write:  y = (y == {labels[-1]:g}).astype(int)" if len(labels) == 2 else "Scale y to between 0 and 1.")
        )
    if y.ndim == len(output) - 1 and width == 1:
        return
    if y.shape[1:] != tuple(output[1:]):
        if y.ndim == 1 and width > 1:
            raise ShapeError(
                f"y has shape {y.shape}: one label for each example, but {where} with binary_crossentropy takes {width} "
                f'for each.\nWrite:  Dense(1, activation="sigmoid")   or   loss="sparse_categorical_crossentropy"'
            )
        raise ShapeError(
            f"y has shape {y.shape}, but {where} gives {_words(('n', *output[1:]))}.\n"
            f'Write:  Dense({y.shape[-1]}, activation="sigmoid")'
        )


def _check_same(y: np.ndarray, output: tuple[int, ...], where: str, loss: Any) -> None:
    have, want = y.shape[1:], tuple(output[1:])
    if have == want or (len(have) + 1 == len(want) and want[-1] == 1 and have == want[:-1]):
        return
    if want == have[:-1] and have and have[-1] == 1:
        return
    units = have[-1] if have else 1
    raise ShapeError(
        f"y has shape {y.shape}, but {where} gives {_words(('n', *want))}; {type(loss).__name__} compares them number by "
        f"number.\nWrite:  Dense({units})   or give y the shape {_words(('n', *want))}."
    )


def _refuse_single(labels: np.ndarray, where: str, loss: str) -> None:
    n = max(len(labels), int(labels[-1]) + 1) if len(labels) else 2
    fix = (
        'Dense(1, activation="sigmoid")  and  loss="binary_crossentropy"'
        if n == 2
        else f'Dense({n}, activation="softmax")  and  loss="{loss}"'
    )
    raise DataError(
        f"y holds {len(labels)} classes ({_seen(labels)}), but {where} has one neuron, which cannot tell them apart with "
        f"{loss}.\nWrite:  {fix}"
    )


def _activation(layer: Any) -> str | None:
    """The name of the activation that a head ends in; ``None`` where it cannot be told."""
    if isinstance(layer, Dense | Activation):
        return "linear" if layer.activation is None else getattr(layer.activation, "__name__", None)
    name = type(layer).__name__
    return name.lower() if name in ("Softmax", "Sigmoid") else None


def _check_activation(loss: Any, activation: str | None, width: int, where: str, binary: bool) -> None:
    wanted = "sigmoid" if binary else "softmax"
    name = "binary_crossentropy" if binary else "a categorical cross-entropy"
    if activation == "softmax" and width == 1:
        raise ShapeError(
            f"{where} has a softmax over one neuron, which always gives 1.\n"
            'Write:  Dense(1, activation="sigmoid")  and  loss="binary_crossentropy"'
        )
    if loss.from_logits and activation in ("sigmoid", "softmax"):
        raise ShapeError(
            f"{where} ends in {activation}, but the loss has from_logits=True and takes the numbers before it.\n"
            f"Write:  Dense({width})   or   loss without from_logits"
        )
    if not loss.from_logits and activation in ("linear", "relu", "tanh", "leaky_relu", "elu", "gelu", "silu"):
        raise ShapeError(
            f"{where} ends in {activation}, but {name} takes probabilities.\n"
            f'Write:  Dense({width}, activation="{wanted}")   or   a loss with from_logits=True'
        )


def _seen(labels: np.ndarray) -> str:
    values = np.unique(labels)
    shown = ", ".join(f"{value:g}" for value in values[:5])
    return shown if len(values) <= 5 else f"{shown}, ... {values[-1]:g}"


def _words(shape: tuple[Any, ...]) -> str:
    return "(" + ", ".join(str(n) for n in shape) + ("," if len(shape) == 1 else "") + ")"
