"""A model file cut off at every byte and with every byte changed: each loads, or is refused by an error of Lamina's.

Run:  python -m torture.damaged_files [--every N] [FILE ...]
"""

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import lamina as lm
from lamina import families
from lamina.core.errors import LaminaError
from tests.golden.make_models import FOLDER

FILES = ("model", "fcnn_classifier", "rnn_classifier")


def damaged(content: bytes, every: int = 1) -> Iterator[tuple[str, bytes]]:
    """The file cut off, and with a byte inverted, or one bit of it, at every so many bytes; and what was done."""
    for at in range(0, len(content), every):
        yield f"cut off at {at}", content[:at]
        for mask in (0xFF, 1 << at % 8):
            yield f"byte {at} ^ {mask:#x}", content[:at] + bytes([content[at] ^ mask]) + content[at + 1 :]


def read(path: Path) -> str:
    """What came of reading a damaged file: the kind of the error, or that there was none.

    Raises:
        Exception: if anything else happened than a model or an error of Lamina's.
    """
    try:
        if path.name.startswith("model"):
            lm.load_model(path)
        else:
            families.load(path)
    except LaminaError as error:
        if not str(error).startswith(str(path)):
            raise AssertionError(f"the error does not name the file: {error}") from error
        return type(error).__name__
    return "loaded"


def main() -> None:
    """Damage the files that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", default=[FOLDER / f"{name}.1.safetensors" for name in FILES], type=Path)
    parser.add_argument("--every", type=int, default=1, help="look at every so many bytes only")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for file in options.files:
            path = Path(folder) / file.name
            path.write_bytes(file.read_bytes())
            read(path)  # what is done once in a process takes its time
            counts, longest = Counter[str](), 0.0
            for what, content in damaged(file.read_bytes(), options.every):
                path.write_bytes(content)
                start = time.process_time()
                try:
                    counts[read(path)] += 1
                except Exception as error:
                    raise SystemExit(f"{file}, {what}: {type(error).__name__}: {error}") from error
                longest = max(longest, time.process_time() - start)
                if longest > 1:
                    raise SystemExit(f"{file}, {what}: it took {longest:.1f} s")
            print(f"{file.name}: {counts.total():,} damaged files, {longest:.2f} s at most: {dict(counts)}", flush=True)


if __name__ == "__main__":
    main()
