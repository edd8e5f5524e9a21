"""Inputs of shapes that do not belong together are told in Lamina's words, not in those of the array library."""

import numpy as np
import pytest

from lamina import layers, ops
from lamina.core.errors import ShapeError


def f(*shape):
    return np.ones(shape, "float32")


MISTAKES = {
    "fewer values than keys": (
        lambda: ops.dot_product_attention(f(1, 3, 2, 4), f(1, 5, 2, 4), f(1, 4, 2, 4)),
        r"query \(1, 3, 2, 4\), key \(1, 5, 2, 4\) and value \(1, 4, 2, 4\)",
    ),
    "keys shorter than queries": (
        lambda: ops.dot_product_attention(f(1, 3, 2, 4), f(1, 5, 2, 3), f(1, 5, 2, 4)),
        "keys as long as queries",
    ),
    "a mask of other steps": (
        lambda: ops.dot_product_attention(f(1, 3, 2, 4), f(1, 5, 2, 4), f(1, 5, 2, 4), mask=f(3, 4)),
        r"keys\) = \(1, 2, 3, 5\); received \(3, 4\)",
    ),
    "a scale of another length": (
        lambda: ops.layer_normalization(f(2, 4), gamma=f(3)),
        r"gamma is expected to have shape \(4,\)",
    ),
    "a root mean square's": (lambda: ops.rms_normalization(f(2, 4), f(3)), r"scale is expected to have shape \(4,\)"),
    "means of other channels": (
        lambda: ops.batch_normalization(f(2, 4), f(3), f(4), -1),
        r"mean is expected to have shape \(4,\)",
    ),
    "a sequence's mask": (lambda: layers.LSTM(3)(f(2, 5, 4), mask=f(2, 6)), r"mask of 5 steps.*\(2, 6\)"),
    "a cell's state": (lambda: layers.GRUCell(3)(f(2, 4), [f(2, 4)]), r"1 of \(batch, 3\) as states"),
    "too few states": (lambda: layers.LSTMCell(3)(f(2, 4), [f(2, 3)]), r"2 of \(batch, 3\) as states"),
    "another key than value": (
        lambda: layers.Attention()([f(2, 3, 4), f(2, 5, 4), f(2, 6, 4)]),
        "a key for each value",
    ),
    "values of another length": (lambda: layers.AdditiveAttention()([f(2, 3, 4), f(2, 5, 6)]), r"Write:  Dense\(4\)"),
    "weights for other counts": (
        lambda: layers.CategoryEncoding(4, output_mode="count")(np.array([[1, 2]]), count_weights=f(1, 3)),
        r"count_weights of the shape of its input, \(1, 2\)",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_shapes_that_do_not_belong_together(mistake):
    make, words = MISTAKES[mistake]
    with pytest.raises(ShapeError, match=words):
        make()
