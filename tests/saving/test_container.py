"""Reading takes no more than ten times a file's memory and a constant, and what is written can be read again."""

import json

import numpy as np
import pytest

import lamina as lm
from lamina.core.errors import ConfigError, FileError
from lamina.saving.container import COSTS, DTYPES, PER_CHARACTER, VALUES, WIDEST, HeaderError, parse_header
from lamina.saving.tensors import read_tensors, write_tensors
from lamina.saving.values import decode, encode
from tests.saving.files import CONSTANT, joined, memory_taken, most_memory


def test_all_that_a_checkpoint_may_hold_is_read_again(tmp_path):
    tensors: dict[str, np.ndarray] = {}
    arrays = {kind: np.arange(6).reshape(2, 3).astype(dtype) for kind, dtype in DTYPES.items()}
    state = {"a\nb": arrays, "a\rb": {"F32": np.zeros((0, 2), ">f4")}, "": np.float32(3)}
    text = json.dumps(encode(state, "state", tensors))
    write_tensors(tmp_path / "c.safetensors", tensors, {"text": text})
    again, texts = read_tensors(tmp_path / "c.safetensors")
    assert texts == {"text": text}
    assert {"state/a?b/F32", "state/a?b/F32'", "state/"} < set(again)
    found = decode(json.loads(text), again)
    assert found["a\rb"]["F32"].shape == (0, 2)
    assert found[""] == 3
    for kind, array in arrays.items():
        assert found["a\nb"][kind].dtype == array.dtype
        np.testing.assert_array_equal(found["a\nb"][kind], array)


@pytest.mark.parametrize(
    ("tensors", "texts", "told"),
    [
        ({"a\nb": np.ones(1)}, {}, r"a tensor is named 'a\\nb'"),
        ({"": np.ones(1)}, {}, "a tensor is named ''"),
        ({"a": np.zeros((1,) * 33)}, {}, "tensor 'a' has the shape"),
        ({}, {"state": "[]," * 1_000_000}, r"its values could take \d+ bytes, too many for \d+ characters"),
        ({}, {"state": "\\u005b\\u005d\\u002c" * 1_000_000}, "Expecting value"),
        ({}, {"state": "[" * 200 + "]" * 200}, "stand more than 100 deep"),
        ({}, {"state": "1" * 32_000_000}, r"its header is said to have 320000\d\d bytes; at most 32000000 are read"),
    ],
)
def test_what_could_not_be_read_again_is_not_written(tensors, texts, told, tmp_path):
    with pytest.raises(ConfigError, match=f"cannot be written, since it could not be read again: .*{told}"):
        write_tensors(tmp_path / "a.safetensors", tensors, texts)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("part", ["300,", "[],", '"ab",', '{"a":1},', "keys"])
@pytest.mark.parametrize("inside", [False, True], ids=["header", "description"])
def test_the_values_of_a_header_take_ten_times_its_size_at_most(part, inside, tmp_path):
    one = '"ffff":1,' if part == "keys" else part
    needed = sum(one.count(mark) * cost for mark, cost in COSTS.items())
    number = int(VALUES / (needed - PER_CHARACTER * len(one)))
    for times, told in ((number * 97 // 100, r"described by|no number of a format"), (number * 11 // 10, "could take")):
        text = part * times if part != "keys" else "".join(f'"{name:x}":1,' for name in range(times))
        text = '{"a":[' + text + "0]}" if part != "keys" else "{" + text + '"":0}'
        path = tmp_path / "m.safetensors"
        path.write_bytes(joined({"__metadata__": {"lamina": text}} if inside else text))
        with memory_taken() as taken, pytest.raises(FileError, match=told):
            lm.load_model(path)
        assert taken() <= most_memory(path)


@pytest.mark.parametrize("inside", [False, True], ids=["header", "description"])
def test_a_long_text_takes_ten_times_its_size_at_most(inside, tmp_path):
    # Four bytes for each character, and memory that grows piece by piece, since line breaks are written otherwise.
    text = json.dumps({"format": "\U0001f600" + "aaaaaaa\n" * 500_000}, ensure_ascii=False)
    path = tmp_path / "m.safetensors"
    path.write_bytes(joined(json.dumps({"__metadata__": {"lamina": text}}, ensure_ascii=False) if inside else text))
    with memory_taken() as taken, pytest.raises(FileError, match=r"described by|no number of a format"):
        lm.load_model(path)
    longest = WIDEST / 4
    assert taken() / path.stat().st_size <= 10 + CONSTANT / longest  # so it is ten times and the constant at any length


def test_of_wide_characters_fewer_are_read():
    content = ('{"a":"\U0001f600' + "a" * (WIDEST // 4) + '"}').encode()
    with pytest.raises(HeaderError, match=r"its 75000\d\d characters take 30000\d+ bytes; at most 30000000 are read"):
        parse_header(len(content).to_bytes(8, "little"), content, 8 + len(content))


def test_arrays_are_held_once_while_they_are_written_and_read(tmp_path):
    tensors = {name: np.ones((2500, 1000), "float32") for name in "abcd"}
    path, size = tmp_path / "m.safetensors", 40_000_000
    with memory_taken() as taken:
        write_tensors(path, tensors, {})
    assert taken() < size / 4
    with memory_taken() as taken:
        again, _ = read_tensors(path)
    assert 0.99 * size < taken() < 1.25 * size  # some pages were the process's before
    np.testing.assert_array_equal(again["d"], tensors["d"])
