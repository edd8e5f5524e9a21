"""A model file cut off or with a byte changed loads or is refused; ``torture/damaged_files.py`` tries every byte."""

import pytest

from tests.golden.make_models import FOLDER
from torture.damaged_files import damaged, read


@pytest.mark.parametrize(("name", "every"), [("model", 61), ("fcnn_classifier", 211)])
def test_a_damaged_file_loads_or_is_refused(name, every, tmp_path):
    content = (FOLDER / f"{name}.1.safetensors").read_bytes()
    path = tmp_path / f"{name}.safetensors"
    found = set()
    for what, changed in damaged(content, every):
        path.write_bytes(changed)
        found.add(result := read(path))
        assert result != "loaded" or "cut off" not in what
    assert {"loaded", "FileError"} <= found <= {"loaded", "FileError", "ConfigError", "ShapeError"}
