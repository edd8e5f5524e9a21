import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import pandas
import polars
import pytest

from lamina.core import registry
from lamina.core.errors import ConfigError, DataError, ShapeError, StateError
from lamina.core.symbolic import SymbolicTensor
from lamina.layers.lookup import IntegerLookup, StringLookup
from lamina.layers.text import HashedCrossing, Hashing, TextVectorization
from tests.layers.test_preprocessing import GOLDEN, close, restored

CONFIG = json.loads(str(GOLDEN["config"]))
WORDS, QUERIES = np.array(CONFIG["words"]), np.array(CONFIG["queries"])
NUMBERS, ASKED = np.array(CONFIG["numbers"]), np.array(CONFIG["asked"])
MODES = ["int", "one_hot", "multi_hot", "count", "tf_idf"]


# -- lookups -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_string_lookup_is_keras_s(mode, masked):
    layer, name = StringLookup(output_mode=mode, mask_token="" if masked else None), f"strings/{mode}/{masked}"
    layer.adapt(WORDS)
    assert layer.get_vocabulary() == CONFIG["vocabularies"][name]
    close(layer(QUERIES), name)
    close(restored(layer)(QUERIES), name)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_integer_lookup_is_keras_s(mode, masked):
    layer, name = IntegerLookup(output_mode=mode, mask_token=7 if masked else None), f"integers/{mode}/{masked}"
    layer.adapt(NUMBERS)
    assert layer.get_vocabulary() == CONFIG["vocabularies"][name]
    close(layer(ASKED), name)
    close(jax.jit(restored(layer))(ASKED), name)


def test_lookup_options():
    layer = StringLookup(max_tokens=4, output_mode="tf_idf", pad_to_max_tokens=True)
    layer.adapt([["a", "b"], ["a", "a"]])
    close(layer([["a", "z"], ["b", "b"]]), "strings/padded")
    layer = StringLookup(vocabulary=["x", "y"], idf_weights=[0.25, 0.75], output_mode="tf_idf")
    close(layer([["x", "q", "x"]]), "strings/weights")
    close(IntegerLookup(vocabulary=[3, 5], num_oov_indices=3)(np.arange(-4, 10)), "integers/oov")
    close(IntegerLookup(vocabulary=[3, 5], invert=True, mask_token=0)(np.arange(6)), "integers/invert")
    inverse = StringLookup(vocabulary=["x", "y"], invert=True, mask_token="")
    assert inverse(jnp.array([[0, 1], [3, 9]])).tolist() == [["", "[UNK]"], ["y", "[UNK]"]]


def test_unknown_terms_share_several_indices():
    strings = StringLookup(vocabulary=["x"], num_oov_indices=3)
    found = np.asarray(strings([f"word {i}" for i in range(300)]))
    assert set(found) == {0, 1, 2}
    salted = StringLookup(vocabulary=["x"], num_oov_indices=3, salt=[1, 2])
    assert (found != np.asarray(salted([f"word {i}" for i in range(300)]))).any()
    numbers = IntegerLookup(vocabulary=[4], num_oov_indices=4, oov_method="farmhash")
    even = np.arange(6, 600, 2)
    host = np.asarray(numbers(even))
    assert min(np.bincount(host)) > 50
    np.testing.assert_array_equal(host, jax.jit(numbers)(even))


def test_large_numbers_keep_their_64_bits():
    layer = IntegerLookup(vocabulary=[2**40, 2**40 + 1])
    assert layer(np.array([2**40 + 1, 2**40, 0])).tolist() == [2, 1, 0]
    with pytest.raises(DataError, match="call it on NumPy arrays"):
        layer(jnp.array([1]))


@pytest.mark.parametrize("column", [pandas.Series, polars.Series, np.array, list])
def test_lookups_take_columns_and_batches(column):
    values = ["b", "a", "b", "c"]
    layer = StringLookup()
    layer.adapt(column(values))
    assert layer.get_vocabulary() == ["[UNK]", "b", "c", "a"]
    assert layer(column(values)).tolist() == [1, 3, 1, 2]
    layer.adapt((np.array([word]) for word in "xyx"), steps=2)
    assert layer.get_vocabulary() == ["[UNK]", "y", "x"]
    assert layer(np.array([b"y", b"q"])).tolist() == [1, 0]


def test_vocabulary_from_a_file_travels_as_a_list(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("cat\ndög\n", "utf-8")
    layer = StringLookup(vocabulary=str(path))
    assert registry.serialize(layer)["config"]["vocabulary"] == ["cat", "dög"]
    config = layer.get_config() | {"vocabulary": str(path)}
    for cls in (StringLookup, IntegerLookup, TextVectorization):
        with pytest.raises(ConfigError, match="received the path of a file"):
            cls.from_config(config)


def test_bad_lookups():
    with pytest.raises(StateError, match="has no vocabulary yet"):
        StringLookup()(["a"])
    with pytest.raises(ConfigError, match=r"occur twice: \['a'\]"):
        StringLookup(vocabulary=["a", "b", "a"])
    with pytest.raises(ConfigError, match="among the terms"):
        StringLookup(vocabulary=["a", "m"], mask_token="m")
    with pytest.raises(ConfigError, match="3 tokens at most; received a vocabulary of 4"):
        StringLookup(max_tokens=3, vocabulary=["a", "b", "c"])
    with pytest.raises(ConfigError, match="takes idf_weights with"):
        StringLookup(vocabulary=["a"], output_mode="tf_idf")
    with pytest.raises(ConfigError, match="needs max_tokens"):
        StringLookup(pad_to_max_tokens=True)
    with pytest.raises(ConfigError, match="write output_mode='int'"):
        StringLookup(invert=True, output_mode="count")
    with pytest.raises(DataError, match=r"not in its vocabulary: \['q'\]"):
        StringLookup(vocabulary=["a"], num_oov_indices=0)(["a", "q"])
    with pytest.raises(DataError, match=r"not in its vocabulary: \[9\]"):
        IntegerLookup(vocabulary=[1], num_oov_indices=0)([1, 9])
    with pytest.raises(DataError, match="IntegerLookup"):
        StringLookup(vocabulary=["a"])(np.array([1, 2]))
    with pytest.raises(DataError, match="StringLookup"):
        IntegerLookup(vocabulary=[1])(np.array(["a"]))
    with pytest.raises(DataError, match=r"received None"):
        StringLookup(vocabulary=["a"])(np.array(["a", None], object))
    with pytest.raises(ConfigError, match="vocabulary of whole numbers"):
        IntegerLookup(vocabulary=[1.5])
    with pytest.raises(StateError, match="cannot run inside jit"):
        jax.jit(StringLookup(vocabulary=["a"], invert=True))(jnp.array([1]))


# -- texts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIG["texts_cases"])
def test_text_vectorization_is_keras_s(name):
    layer = TextVectorization(**CONFIG["texts_cases"][name])
    layer.adapt(CONFIG["texts"])
    assert layer.get_vocabulary() == CONFIG["vocabularies"][f"texts/{name}"]
    close(layer(CONFIG["fresh"]), f"texts/{name}")
    again = restored(layer)
    close(again(np.array(CONFIG["fresh"])[:, None]), f"texts/{name}")
    assert again.vocabulary_size() == layer.vocabulary_size()


def test_functions_that_clean_and_split():
    layer = TextVectorization(
        standardize=lambda texts: np.char.upper(texts.astype(str)),
        split=lambda texts: [text.split("-") for text in texts],
    )
    layer.adapt(["a-b", "b"])
    assert layer.get_vocabulary() == ["", "[UNK]", "B", "A"]
    assert layer(["b-a-c"]).tolist() == [[2, 3, 1]]
    assert layer("b-a").tolist() == [2, 3]


def test_entries_as_terms():
    layer = TextVectorization(split=None, standardize="lower")
    layer.adapt([["New York", "Rome"], ["rome", "Bonn"]])
    assert layer([["Rome", "Oslo"]]).tolist() == [[2, 1]]


def test_ten_thousand_mails_take_about_a_second():
    rng = np.random.default_rng(0)
    words = np.array([f"word{i}," for i in range(3000)])
    mails = [" ".join(row) for row in words[rng.integers(0, 3000, (10_000, 30))]]
    layer = TextVectorization(max_tokens=2000, output_sequence_length=30)
    start = time.process_time()
    layer.adapt(mails)
    out = layer(mails)
    assert time.process_time() - start < 3  # 0.2 seconds on an idle machine
    assert out.shape == (10_000, 30)
    assert int(out[5, 7]) == layer.get_vocabulary().index(mails[5].replace(",", "").split()[7]) or int(out[5, 7]) == 1


def test_symbolic_texts():
    texts = SymbolicTensor((None, 1), "string")
    layer = TextVectorization(vocabulary=["a", "b"], output_sequence_length=5)
    symbol = layer(texts)
    assert symbol.shape == (None, 5)
    assert symbol.call.operation is layer
    assert symbol.call.inputs() == [texts]
    assert layer.on_host
    assert TextVectorization(vocabulary=["a"], output_mode="count")(texts).shape == (None, 2)
    assert StringLookup(vocabulary=["a"], output_mode="one_hot").compute_output_shape((None, 1)) == (None, 2)
    assert HashedCrossing(4)([texts, texts]).shape == (None, 1)


def test_bad_texts():
    with pytest.raises(ConfigError, match="Did you mean 'whitespace'"):
        TextVectorization(split="whitespaces")
    with pytest.raises(ConfigError, match="output_sequence_length"):
        TextVectorization(output_mode="count", output_sequence_length=4)
    with pytest.raises(ConfigError, match="ragged=False"):
        TextVectorization(ragged=True)
    with pytest.raises(ConfigError, match="ngrams"):
        TextVectorization(ngrams=0)
    with pytest.raises(ShapeError, match=r"expected texts of shape \(batch,\)"):
        TextVectorization(vocabulary=["a"])([["a", "b"]])
    with pytest.raises(DataError, match="found no terms"):
        TextVectorization().adapt(["...", ""])


# -- hashes ------------------------------------------------------------------------------------------------------------


def test_hashing():
    layer = Hashing(4, mask_value="")
    bins = layer([["a", ""], ["b", "a"]])
    assert bins[0, 1] == 0
    assert bins[0, 0] == bins[1, 1] > 0
    assert Hashing(7)([12]).tolist() == Hashing(7)(["12"]).tolist()
    spread = np.bincount(np.asarray(Hashing(4)(np.arange(2000))), minlength=4)
    assert np.all(abs(spread - 500) < 100)
    assert (np.asarray(Hashing(4, salt=3)(np.arange(50))) != np.asarray(Hashing(4)(np.arange(50)))).any()
    assert Hashing(3, output_mode="count")([["a", "a"]]).sum() == 2
    with pytest.raises(ConfigError, match="num_bins of at least 1"):
        Hashing(0)
    with pytest.raises(ConfigError, match="salt of one or two whole numbers"):
        Hashing(3, salt=(1, 2, 3))


def test_the_hash_never_changes():
    assert Hashing(1000)(["lamina", "layer", "42"]).tolist() == [615, 69, 983]
    assert HashedCrossing(1000)([["a", "b"], [1, 2]]).tolist() == [241, 611]


def test_hashed_crossing_keeps_columns_apart():
    layer = HashedCrossing(10**6)
    a, b = layer([["ab", "a"], ["c", "bc"]]).tolist()
    assert a != b
    with pytest.raises(ShapeError, match="two or more arrays of one shape"):
        layer([["a", "b"], ["c"]])
