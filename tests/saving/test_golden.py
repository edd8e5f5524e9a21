"""Files of every format that was ever written are read by every later version."""

import numpy as np
import pytest

import lamina as lm
from lamina import families
from lamina.core.errors import FileError
from lamina.saving.model_file import FORMAT
from tests.golden.make_models import FOLDER, MODELS
from tests.saving.files import layer, network, write

FORMATS = range(1, FORMAT + 1)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("written", FORMATS)
def test_a_file_of_this_or_an_older_version_predicts_what_it_did(written, name):
    path = FOLDER / f"{name}.{written}.safetensors"
    again = lm.load_model(path) if name == "model" else families.load(path)
    expected = np.load(FOLDER / f"answers.{written}.npz")[name]
    np.testing.assert_allclose(
        MODELS[name][1](again), expected, rtol=1e-4, atol=1 if expected.dtype == np.uint8 else 1e-5
    )


def test_every_format_has_its_files():
    assert {path.name.split(".")[1] for path in FOLDER.glob("*.safetensors")} == {str(written) for written in FORMATS}


def test_a_file_of_a_newer_version_is_refused_with_both_versions(tmp_path):
    description = network(layer("Dense", units=1)) | {"format": FORMAT + 1, "lamina": "7.2"}
    path = write(tmp_path / "m.safetensors", description | {"architecture": "written otherwise"})
    message = f"has format {FORMAT + 1}, written by Lamina '7.2'; this version, {lm.__version__}, reads formats up to {FORMAT}"
    for read in (lm.load_model, families.load, lm.Sequential([lm.Input((4,)), lm.layers.Dense(1)]).load_weights):
        with pytest.raises(FileError, match=message):
            read(path)
    for wrong in (0, -1, True, 1.0, "1", None, [1]):
        with pytest.raises(FileError, match="no number of a format"):
            lm.load_model(write(path, description | {"format": wrong}))
