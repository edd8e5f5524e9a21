"""Every published way in which a model file was made to run code, read a file or take memory, rebuilt against this format.

Each entry says what was done to Keras, PyTorch, NumPy or HDF5, by the number under which it was published; "huntr" stands for
reports without one. Those that have no meaning here (archives, compression, links, pickles) are offered as they are.
"""

# ruff: noqa: E501 - one attack a line

import base64
import io
import json
import marshal
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import lamina as lm
from lamina import families
from lamina.core.errors import FileError, LaminaError
from lamina.saving.model_file import NUMBERS
from tests.golden.make_models import FOLDER
from tests.saving.files import (
    altered,
    call,
    described,
    graph,
    header_of,
    joined,
    layer,
    memory_taken,
    model,
    most_memory,
    network,
    parts_of,
    watched,
    write,
)

X = {"value": ["input", 0]}
PICTURE = (None, 4, 4, 1)
DENSE = {"dense/kernel": np.zeros((4, 2), "float32"), "dense/bias": np.zeros(2, "float32")}
CODE = base64.b64encode(marshal.dumps(compile("open('stolen', 'w')", "x", "exec"))).decode()
COMPILED = {"optimizer": layer("optimizers.Adam"), "loss": "mse"}


class _Opens:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> Any:
        return open, ("stolen", "w")


class Attack(NamedTuple):
    """One attack.

    Attributes:
        source: where it was published.
        what: what the file did there.
        file: what stands in the file: a description, or bytes; or a function of the path of a secret that gives them.
        told: what the error says.
        tensors: the tensors beside a description.
    """

    source: str
    what: str
    file: Any
    told: str
    tensors: dict[str, np.ndarray] = {}  # noqa: RUF012 - never changed


def secret(made: Callable[[str], Any]) -> Callable[[Path], Any]:
    return lambda path: made(str(path))


def zipped(name: str, content: bytes, times: int = 1) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content * times)
    return buffer.getvalue()


def raw(change: Callable[[dict[str, Any]], Any], data: int = 40) -> bytes:
    """The bytes of a small file whose header was changed."""
    header, content = header_of(network(layer("Dense", units=2)), DENSE)
    changed = change(header)
    return joined(header if changed is None else changed, content[:data].ljust(data, b"\0"))


def entry(name: str = "dense/kernel", **changed: Any) -> bytes:
    return raw(lambda header: header[name].update(changed))


def doubled(depth: int) -> Any:
    """A network that calls a network twice, which calls one twice, ...: a short file, 2 ** depth calls."""
    inner = layer("Flatten")
    for _ in range(depth):
        calls = [call({"layer": "a"}, X), call({"layer": "a"}, {"value": [0, 0]})]
        start = {"shape": [None, 4], "dtype": "float32", "name": None}
        inner = model(
            {
                "inputs": [start],
                "input_structure": X,
                "layers": {"a": inner},
                "calls": calls,
                "outputs": {"value": [1, 0]},
            }
        )
    return described(inner)


def op(name: str, *args: Any) -> Any:
    return graph([call({"op": f"ops.{name}"}, *args)])


RUN = [
    Attack("CVE-2024-3660", "Keras ran the bytecode in a Lambda layer", network(layer("Lambda", function={"class_name": "__lambda__", "config": {"code": CODE}})), "Lambda expects a function of its input"),
    Attack("CVE-2024-3660", "the same, as source", network(layer("Lambda", function="lambda x: open('stolen', 'w')")), "is not one of Lamina's ops"),
    Attack("huntr", "Lambda.from_config with nothing said of safety", network(layer("Lambda", function={"function": "builtins.exec"}, arguments={"safe_mode": False})), "'builtins.exec' is not registered"),
    Attack("CVE-2025-1550", "Keras imported the module and class that the file names", network(layer("subprocess.Popen", args=["touch", "stolen"])), "'subprocess.Popen' is not registered"),
    Attack("CVE-2025-1550", "the same, as a function called with arguments", graph([call({"op": "os.system"}, X, "touch stolen")]), "'os.system' is not registered"),
    Attack("CVE-2025-1550", "the same, with Keras's own keys", described({"module": "builtins", "class_name": "exec", "config": "open('stolen')", "registered_name": None}), "architecture is not that of a model"),
    Attack("CVE-2025-8747", "Keras's own functions were called: utils.get_file fetched and unpacked an archive", graph([call({"op": "utils.get_file"}, X, "http://127.0.0.1:9/a")]), "'utils.get_file' is not registered"),
    Attack("CVE-2025-8747", "the same, as an activation", network(layer("Dense", units=2, activation={"function": "datasets.fetch"})), "'datasets.fetch' is not registered"),
    Attack("CVE-2025-8747", "a class called as if it were an operation, with arguments of the file's", secret(lambda path: graph([call({"op": "layers.StringLookup"}, X, vocabulary=path)])), "not one of Lamina's ops, which alone a file may call"),
    Attack("CVE-2025-9906", "the file switched safe mode off, then ran a Lambda layer", network(layer("config.enable_unsafe_deserialization"), layer("Lambda", function=CODE)), "enable_unsafe_deserialization' is not registered"),
    Attack("CVE-2025-9905", "safe mode did not reach HDF5 files", b"\x89HDF\r\n\x1a\n" + bytes(2000), "not a model file"),
    Attack("CVE-2025-49655", "TorchModuleWrapper unpickled a module", network(layer("TorchModuleWrapper", module=base64.b64encode(pickle.dumps(_Opens())).decode())), "'layers.TorchModuleWrapper' is not registered"),
    Attack("CVE-2026-1462", "TFSMLayer loaded a SavedModel from a path", network(layer("TFSMLayer", filepath="//127.0.0.1/share")), "'layers.TFSMLayer' is not registered"),
    Attack("CVE-2025-32434", "torch.load ran code although it was told to read weights only", zipped("archive/data.pkl", pickle.dumps(_Opens())), "not a model file"),
    Attack("CVE-2019-6446", "numpy.load unpickled objects", pickle.dumps(_Opens()), "not a model file"),
    Attack("CVE-2021-37678", "Keras built objects from YAML", joined("!!python/object/apply:os.system ['touch stolen']"), "header is not JSON"),
    Attack("CVE-2024-34997", "joblib unpickled an array of objects", network(layer("Rescaling", scale={"array": [base64.b64encode(pickle.dumps(_Opens())).decode()], "dtype": "object"})), "could not convert string to float"),
    Attack("CVE-2026-34445", "ONNX set whatever attributes the file names", network(layer("Dense", units=2, __class__="os.system")), "Dense has no argument '__class__'"),
    Attack("CVE-2026-34445", "the same, with an attribute of its own", network(layer("Dense", units=2, _built=True)), "Dense has no argument '_built'"),
    Attack("CVE-2022-45907", "torch evaluated a line of annotations", network(layer("EinsumDense", equation="__import__('os').system('touch stolen')", output_shape=2)), "EinsumDense"),
]  # fmt: skip

READ = [
    Attack("CVE-2025-12058", "StringLookup read the file that its vocabulary names", secret(lambda path: network(layer("StringLookup", vocabulary=path), dtype="string")), "holds a vocabulary as a list"),
    Attack("CVE-2025-12058", "the same, at an address in a network", network(layer("StringLookup", vocabulary="http://127.0.0.1:9/"), dtype="string"), "holds a vocabulary as a list"),
    Attack("CVE-2025-12058", "IntegerLookup likewise", secret(lambda path: network(layer("IntegerLookup", vocabulary=path), dtype="int32")), "holds a vocabulary as a list"),
    Attack("CVE-2025-12058", "TextVectorization likewise", secret(lambda path: network(layer("TextVectorization", vocabulary=path), dtype="string")), "holds a vocabulary as a list"),
    Attack("CVE-2025-12058", "the path wrapped in an array", secret(lambda path: network(layer("StringLookup", vocabulary={"array": path, "dtype": "str"}), dtype="string")), "vocabulary"),
    Attack("CVE-2025-12060", "an archive wrote outside of its folder", joined(*header_of(network(layer("Dense", units=2)), DENSE | {"../../stolen": np.zeros(1, "uint8")})), "holds '../../stolen', which the model does not have"),
    Attack("CVE-2026-1669", "an HDF5 dataset kept its bytes in another file", secret(lambda path: entry(external=path)), "described by something else than dtype, shape and data_offsets"),
    Attack("CVE-2026-1669", "the same, in the place of the offsets", secret(lambda path: entry(data_offsets=[path, 0])), "has the offsets"),
    Attack("CVE-2022-25882", "an ONNX tensor kept its bytes in a file outside of the folder; CVE-2024-27318 and CVE-2026-27489 alike", secret(lambda path: entry(data_location="EXTERNAL", external_data=[{"key": "location", "value": path}])), "described by something else than dtype, shape and data_offsets"),
    Attack("CVE-2025-51480", "ONNX wrote a tensor where the file says", joined(*header_of(network(layer("Dense", units=2)), DENSE | {"../stolen": np.zeros(1, "uint8")})), "holds '../stolen', which the model does not have"),
    Attack("CVE-2024-55459", "Keras unpacked an archive outside of its folder", zipped("../stolen", b"x"), "not a model file"),
    Attack("CVE-2026-7482", "Ollama read past the end of the file into its own memory", entry(data_offsets=[16, 48]), "its tensors need|overlaps|leaves a hole"),
    Attack("huntr", "a virtual dataset was mapped from others: two tensors share bytes", entry("dense/bias", data_offsets=[24, 32]), "overlaps the one before it"),
    Attack("huntr", "a name in an archive was a link", zipped("model.weights.h5", b"/etc/passwd"), "not a model file"),
]  # fmt: skip

TAKE = [
    Attack("CVE-2026-0897", "an HDF5 dataset declared a shape of petabytes", entry(shape=[2**24, 2**24]), "needs 1125899906842624 bytes; its offsets are 0, 32"),
    Attack("CVE-2026-0897", "the same, past 64 bits", entry(shape=[2**32, 2**32]), "needs 73786976294838206464 bytes"),
    Attack("CVE-2026-0897", "the same, with as large offsets", entry(shape=[2**24, 2**14], data_offsets=[0, 2**40]), "its tensors need|overlaps"),
    Attack("CVE-2026-24747", "torch took a storage for larger than it is", entry(dtype="F64"), "of shape \\[4, 2\\] needs 64 bytes; its offsets are 0, 32"),
    Attack("CVE-2026-33298", "llama.cpp's size of a tensor overflowed to a small one", entry(shape=[2**33, 2**29]), "needs 18446744073709551616 bytes; its offsets are 0, 32"),
    Attack("CVE-2026-0897", "a negative length", entry(shape=[-4, -2]), r"has the shape \[-4, -2\]"),
    Attack("huntr", "an npz member declared more than is stored", raw(lambda header: None, data=39), "its tensors need 40 bytes; 39 follow"),
    Attack("huntr", "an archive's member grew a thousandfold", zipped("config.json", bytes(1000), 1000), "not a model file"),
    Attack("", "a header of 2**63 bytes", joined({}, length=2**63), "at most 32000000 are read"),
    Attack("", "a header longer than the file", joined({}, length=3000), "is said to have 3000 bytes"),
    Attack("", "bytes that belong to no tensor", raw(lambda header: None, data=48), "its tensors need 40 bytes; 48 follow"),
    Attack("", "a hole between two tensors", entry("dense/bias", data_offsets=[36, 44]), "leaves a hole of 4 bytes"),
    Attack("", "a tensor twice under one name", raw(lambda header: json.dumps(header)[:-1] + ', "dense/bias": {}}'), "the name 'dense/bias' stands twice"),
    Attack("", "a setting twice under one name", raw(lambda header: header["__metadata__"].update(lamina='{"format": 1, "format": 1}')), "the name 'format' stands twice"),
    Attack("", "JSON as deep as the stack", joined("[" * 100_000), "header is not JSON"),
    Attack("", "a deep description", described({"a": json.loads("[" * 120 + "]" * 120)}), "more than 100 deep"),
    Attack("", "a million empty lists", joined('{"a": [' + "[]," * 1_000_000 + "[]]}"), "its values could take 152000370 bytes, too many for 3000011 characters"),
    Attack("", "a number of 10,000 digits", joined('{"a": ' + "9" * 10_000 + "}"), "header is not JSON"),
    Attack("", "an unknown dtype", entry(dtype="O"), "has the dtype 'O'; known are"),
    Attack("", "another dtype than the architecture's", network(layer("Dense", units=2)), "has dtype int32; the model's has float32", DENSE | {"dense/bias": np.zeros(2, "int32")}),
    Attack("", "another shape than the architecture's", network(layer("Dense", units=2)), r"'dense/bias' has shape \(3,\); the model's has \(2,\)", DENSE | {"dense/bias": np.zeros(3, "float32")}),
    Attack("", "a tensor is missing", network(layer("Dense", units=2)), "has no weights for 'dense/kernel'", {"dense/bias": DENSE["dense/bias"]}),
    Attack("", "a tensor more", network(layer("Dense", units=2)), "holds 'more', which the model does not have", DENSE | {"more": DENSE["dense/bias"]}),
    Attack("", "truth values that are neither", network(layer("Dense", units=2)), "has dtype bool", DENSE | {"dense/bias": np.ones(2, "bool")}),
    Attack("", "a version that is none", described(None) | {"lamina": None}, "no version of Lamina"),
    Attack("", "an architecture that is none", described([1, 2]), r"architecture is \[1, 2\]"),
    Attack("", "a task that is none", described(None, task="x"), "task is 'x'"),
    Attack("", "no format", described(None) | {"format": None}, "no number of a format"),
    Attack("", "an infinite setting", network(layer("LeakyReLU", negative_slope=float("inf"))), "negative_slope' is inf, and has to be a finite number"),
    Attack("", "a setting that is no number", network(layer("Dropout", rate=float("nan"))), "rate' is nan, and has to be a finite number"),
    Attack("", "a setting that becomes infinite", raw(lambda header: header["__metadata__"].update(lamina='{"format": 1, "lamina": "0", "architecture": {"a": 1e999}}')), "'architecture/a' is inf"),
    Attack("", "a layer of a billion units", network(layer("Dense", units=10**9)), r"has shape \(4, 2\); the model's has \(4, 1000000000\)", DENSE),
    Attack("", "an embedding of a trillion rows", network(layer("Embedding", input_dim=10**12, output_dim=8)), "not one that can be built"),
    Attack("", "networks in networks that call each other twice", doubled(11), "takes too many steps for a file of its size"),
    Attack("", "a value repeated", network(layer("RepeatVector", n=10**9)), r"makes 4e\+09 numbers of one example"),
    Attack("", "a picture enlarged", network(layer("UpSampling2D", size=[10**6, 10**6]), shape=PICTURE), "numbers of one example, too many for a file of its size"),
    Attack("", "a picture of any size enlarged", network(layer("UpSampling2D", size=[10**4, 10**4]), shape=(None, None, None, 1)), "numbers of one example, too many"),
    Attack("", "a picture in a wide frame", network(layer("ZeroPadding2D", padding=10**8), shape=PICTURE), "numbers of one example, too many"),
    Attack("", "the mean of a billion steps", network(layer("AveragePooling1D"), shape=(None, 10**9, 4)), "numbers of one example, too many"),
    Attack("", "the largest of a billion windows", network(layer("AdaptiveMaxPooling1D", output_size=10**9), shape=(None, 5, 4)), r"memory of 1.28e\+11 numbers"),
    Attack("", "the mean of ten million windows", network(layer("AdaptiveAveragePooling1D", output_size=10**7), shape=(None, 5, 4)), r"memory of 1.48e\+09 numbers"),
    Attack("", "a picture resized", network(layer("Resizing", height=10**6, width=10**6), shape=PICTURE), "numbers of one example, too many"),
    Attack("", "a class among a trillion", network(layer("CategoryEncoding", num_tokens=10**12, output_mode="one_hot"), dtype="int32"), "numbers of one example, too many"),
    Attack("", "a bin among a trillion, of texts", network(layer("Hashing", num_bins=10**12, output_mode="one_hot"), dtype="string"), "numbers of one example, too many"),
    Attack("", "a vocabulary filled up", network(layer("StringLookup", vocabulary=["a"], max_tokens=10**12, pad_to_max_tokens=True, output_mode="count"), dtype="string"), "numbers of one example, too many"),
    Attack("", "texts filled up", network(layer("TextVectorization", vocabulary=["a"], output_sequence_length=10**12), shape=(None, 1), dtype="string"), "numbers of one example, too many"),
    Attack("", "a trillion indices of unknown words", network(layer("StringLookup", vocabulary=["a"], num_oov_indices=10**12), dtype="string"), r"memory of 4e\+12 numbers"),
    Attack("", "a truth value of a billion", network(layer("StringLookup", vocabulary=["a"], invert=10**9), dtype="string"), "cannot be run for one example"),
    Attack("", "runs of a trillion words", network(layer("TextVectorization", vocabulary=["a"], ngrams=10**12), dtype="string"), r"memory of 3.2e\+13 numbers"),
    Attack("", "an array whose entries have a gigabyte each", network(layer("Rescaling", scale={"array": ["x"], "dtype": "S1000000000"})), "a saved array has dtype 'S1000000000'"),
    Attack("", "a million steps written out", network(layer("SimpleRNN", units=2, unroll=True), shape=(None, 10**6, 4)), "has no weights|too many steps"),
    Attack("", "states kept for a billion sequences", network(layer("SimpleRNN", units=2, stateful=True), shape=(10**9, 5, 4)), r"memory of 2e\+09 numbers"),
    Attack("", "an array made while the file is read", op("zeros", [10**10]), "takes nothing from the inputs"),
    Attack("", "an array tiled", op("tile", X, [1, 10**9]), "numbers of one example, too many"),
    Attack("", "an array cut into ten million", op("array_split", X, 10**7), "takes too many steps"),
    Attack("", "a metric with ten billion thresholds", network(layer("Dense", units=2), compile=COMPILED | {"metrics": [layer("metrics.AUC", num_thresholds=10**10)]}), r"memory of 8e\+10 numbers", DENSE),
    Attack("", "a metric of a hundred thousand classes", network(layer("Dense", units=2), compile=COMPILED | {"metrics": [layer("metrics.MeanIoU", num_classes=10**5)]}), r"memory of 1e\+10 numbers", DENSE),
    Attack("", "a metric of a billion classes", network(layer("Dense", units=2), compile=COMPILED | {"metrics": [layer("metrics.MeanIoU", num_classes=10**9)]}), r"memory of 9e\+09 numbers", DENSE),
    Attack("", "a pattern that backtracks for ever", network(layer("Dense", units=2), compile={"optimizer": layer("optimizers.Muon", exclude_layers=["(a+)+$"]), "loss": "mse"}), "in a file repeats once at most", DENSE),
]  # fmt: skip


def bad(family: str, told: str, change: Callable[[dict[str, Any]], Any]) -> Any:
    return pytest.param(family, change, told, id=f"{family}: {told[:40]}")


def fitted(name: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    """Sets an attribute that the estimator in a file was given by fit."""
    return lambda task: task["fitted"]["pairs"].append([name, value])


def setting(name: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda task: task["parameters"]["pairs"].append([name, value])


ESTIMATORS = [
    bad("transformer_classifier", "cannot name a folder to read", setting("encoder", "/etc")),
    bad("fcnn_classifier", "unexpected keyword argument 'other'", setting("other", 1)),
    bad("fcnn_classifier", "it keeps nothing called 'predict'", fitted("predict", 1)),
    bad("fcnn_classifier", "it keeps nothing called '__class__'", fitted("__class__", 1)),
    bad("fcnn_classifier", "classes_ cannot be", fitted("classes_", {"array": [[1, 2]], "dtype": "<i8"})),
    bad("fcnn_classifier", "a saved array has dtype 'V1000000000'", fitted("classes_", {"array": [1], "dtype": "V1000000000"})),
    bad("fcnn_classifier", "not a table's schema", fitted("schema_", {"pairs": [["columns", 1]]})),
    bad("fcnn_regressor", "mean_ cannot be", fitted("mean_", {"array": [float("nan")], "dtype": "<f8"})),
    bad("rnn_classifier", "steps_ cannot be 1000000000000", fitted("steps_", 10**12)),
    bad("rnn_forecaster", "window_ cannot be -1", fitted("window_", -1)),
    bad("cnn_classifier", r"shape_ cannot be \(1000000, 1000000, 1\)", fitted("shape_", {"tuple": [10**6, 10**6, 1]})),
    bad("cnn_classifier", "dtype_ cannot be 'S1000000000'", fitted("dtype_", "S1000000000")),
    bad("gan", "history_ cannot be", fitted("history_", "a")),
    bad("gan", "settings of this GAN cannot be read", lambda task: task.update(parameters=3)),
    bad("gan", "not one of a family", lambda task: task.update(estimator="os.system")),
    bad("gan", "not one of a family", lambda task: task.update(estimator=["GAN"])),
]  # fmt: skip


@pytest.fixture
def prize(tmp_path, monkeypatch):
    """A file that nobody may read, in another folder than the one that we are in."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    path = tmp_path / "secret.txt"
    path.write_text("a\nb\n")
    return path


def refused(read: Callable[[Path], Any], path: Path, told: str) -> str:
    """The error of reading a file, which has read nothing else, made nothing and taken little memory."""
    with memory_taken() as taken, watched() as seen, pytest.raises(LaminaError, match=told) as caught:
        read(path)
    assert taken() <= most_memory(path)
    own = path.parent.parent
    touched = {name for name in seen if str(own) in name or "stolen" in name or "/" not in name}
    assert touched <= {str(path)}
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    message = str(caught.value)
    assert message.startswith(str(path))
    assert message.splitlines()[0].isprintable()
    return message


@pytest.mark.parametrize("attack", [pytest.param(a, id=f"{a.source} {a.what}"[:70]) for a in RUN + READ + TAKE])
def test_a_published_or_likely_attack_is_refused(attack, prize):
    path = Path.cwd() / "model.safetensors"
    content = attack.file(prize) if callable(attack.file) else attack.file
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        write(path, content, attack.tensors)
    refused(lm.load_model, path, attack.told)


@pytest.mark.parametrize(("family", "change", "told"), ESTIMATORS)
def test_an_estimators_file_is_checked_too(family, change, told, prize):
    source = FOLDER / f"{family}.1.safetensors"
    path = altered(source, Path.cwd() / "model.safetensors", lambda description: change(description["task"]))
    refused(families.load, path, told)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}),
        lambda d: d.update(normalizer={"type": "Prepend", "content": "x" * 1000, "prepend": "x"}),
        lambda d: d.update(model={"type": "BPE", "vocab": {"a": 0}, "merges": ["b c"]}),
        lambda d: d.update(model=None),
        lambda d: d.update(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
    ],
)  # fmt: skip
def test_a_tokenizer_from_a_file_is_checked_too(change, prize):
    def of_bytes(description):
        tokenizer = json.loads(SUBWORDS)
        change(tokenizer)
        kept = description["task"]["fitted"]["pairs"]
        next(pair for pair in kept if pair[0] == "vocabulary_")[1] = json.dumps(tokenizer)

    source = FOLDER / "transformer_classifier.1.safetensors"
    path = altered(source, Path.cwd() / "model.safetensors", of_bytes)
    with watched() as seen, pytest.raises(LaminaError, match="tokenizer"):
        families.load(path).predict(["good film"])
    assert str(prize) not in seen


SUBWORDS = json.dumps(
    {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": None,
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]},
    }
)


def test_what_a_file_may_say_is_read(tmp_path):
    path = write(tmp_path / "m.safetensors", network(layer("Dense", units=2)), DENSE)
    assert lm.load_model(path).predict(np.ones((1, 4), "float32")).tolist() == [[0.0, 0.0]]
    inside = graph([call({"op": "ops.where"}, {"value": ["input", 0]}, {"value": ["input", 0]}, -float("inf"))])
    assert lm.load_model(write(path, inside)).predict(np.eye(4, dtype="float32")[:1])[0, 1] == -np.inf
    assert parts_of(path.read_bytes())[1]["format"] == 1


@pytest.mark.parametrize(
    "most",
    [
        network(layer("StringLookup", vocabulary=["a"], num_oov_indices=NUMBERS // 4 - 1), dtype="string"),
        network(layer("TextVectorization", vocabulary=["a"], ngrams=NUMBERS // 32 - 1), dtype="string"),
        network(layer("AdaptiveMaxPooling1D", output_size=NUMBERS // 500), shape=(None, 5, 4)),
        network(layer("AdaptiveAveragePooling1D", output_size=NUMBERS // 500), shape=(None, 5, 4)),
    ],
)
def test_the_most_that_a_small_file_may_ask_for_is_little(most, tmp_path):
    path = write(tmp_path / "m.safetensors", most)
    with memory_taken() as taken:
        lm.load_model(path)
    assert taken() <= most_memory(path)


def _with_metric(metric):
    model = lm.Sequential([lm.Input((4,)), lm.layers.Dense(2)])
    model.compile("adam", "mse", metrics=[metric])
    return model


def test_a_large_metric_is_read_again(tmp_path):
    path = tmp_path / "m.safetensors"
    for metric in (lm.metrics.MeanIoU(2_890), lm.metrics.AUC(NUMBERS // 18)):
        _with_metric(metric).save(path)
        with memory_taken() as taken:
            found = lm.load_model(path)
        assert metric.get_config() in [some.get_config() for some in found.metrics]
        assert taken() <= most_memory(path)


def test_a_metric_that_is_too_large_to_be_read_can_be_left_out(tmp_path):
    path = tmp_path / "m.safetensors"
    model = _with_metric(lm.metrics.MeanIoU(3_000))
    model.save(path)
    with pytest.raises(FileError, match=r"memory of 9e\+06 numbers(.|\n)*compile=False"):
        lm.load_model(path)
    x = np.ones((1, 4), "float32")
    np.testing.assert_array_equal(lm.load_model(path, compile=False).predict(x), model.predict(x))


def test_the_writer_refuses_what_the_reader_would(tmp_path):
    net = lm.Sequential([lm.Input((4,)), lm.layers.Rescaling(float("inf"))])
    with pytest.raises(LaminaError, match="scale' is inf, and has to be a finite number"):
        net.save(tmp_path / "m.safetensors")
    with pytest.raises(LaminaError, match=r"could not be read again: a tensor is named 'a\\nb/bias'"):
        lm.Sequential([lm.Input((4,)), lm.layers.Dense(2, name="a\nb")]).save(tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


def test_weights_of_another_width_can_be_loaded_but_not_of_another_kind(tmp_path):
    path = tmp_path / "w.safetensors"
    half = lm.Sequential([lm.Input((4,)), lm.layers.Dense(2, dtype="bfloat16")])
    half.save_weights(path)
    full = lm.Sequential([lm.Input((4,)), lm.layers.Dense(2)])
    full.load_weights(path)
    np.testing.assert_array_equal(full.get_weights()[0], half.get_weights()[0].astype("float32"))
    header, data = header_of(
        {"format": 1, "lamina": "0"}, {"dense/kernel": np.zeros((4, 2), "int32"), "dense/bias": np.zeros(2, "int32")}
    )
    path.write_bytes(joined(header, data))
    with pytest.raises(LaminaError, match="has dtype int32; the model's has float32"):
        full.load_weights(path)


def test_a_strangers_words_cannot_steer_a_terminal(tmp_path):
    description = network(layer("Dense", units=2)) | {"format": 9, "lamina": "\x1b[2J" + "x" * 10_000}
    path = tmp_path / "m.safetensors"
    path.write_bytes(joined({"__metadata__": {"lamina": json.dumps(description)}}))
    with pytest.raises(LaminaError) as caught:
        lm.load_model(path)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 500
