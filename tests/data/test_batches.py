"""What becomes an array, and what is told of the rest."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from lamina.core.errors import DataError
from lamina.data.batches import is_stream, to_array


def test_frames_of_numbers_of_several_kinds_become_numbers():
    frame = pd.DataFrame({"a": [1, 2], "b": [True, False], "c": [0.5, 1.5]})
    np.testing.assert_array_equal(to_array(frame), [[1, 1, 0.5], [2, 0, 1.5]])
    assert to_array(frame).dtype.kind == "f"
    counts = to_array(pd.Series([1, 2], dtype="Int64"))
    np.testing.assert_array_equal(counts, [1, 2])
    assert counts.dtype.kind == "i"
    np.testing.assert_array_equal(to_array(pd.Series([1, None], dtype="Int64")), [1, np.nan])
    np.testing.assert_array_equal(to_array(pl.Series([1, None])), [1, np.nan])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (pd.DataFrame({"a": [1.0], "b": ["x"]}), "float, str"),
        (pd.Series(pd.to_datetime(["2024-01-01"])), "dates or times"),
        (pl.DataFrame({"a": ["x", None]}), "NoneType, str"),
        ([None, None], "NoneType"),
    ],
)
def test_what_is_neither_numbers_nor_texts_is_refused(given, words):
    with pytest.raises(DataError, match=words):
        to_array(given)


def test_a_list_of_pairs_of_arrays_is_batches_and_one_of_numbers_is_an_array():
    x = np.zeros((4, 2))
    assert is_stream([(x, x), (x, None)])
    assert not is_stream([x, x])
    assert not is_stream([(1, 2), (3, 4)])
    assert not is_stream([])
