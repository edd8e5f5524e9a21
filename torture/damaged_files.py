"""Model files and a checkpoint cut off at every byte and with every byte changed.

Each loads, or is refused by an error of Lamina's, within a second of work and with little memory.
Run:  python -m torture.damaged_files [--every N] [FILE ...]
"""

import argparse
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import lamina as lm
from lamina import families, layers
from lamina.core.errors import LaminaError
from lamina.training.checkpoint import FILE, Folder
from tests.golden.make_models import FOLDER
from tests.saving.files import most_memory


def checkpoint(folder: Path) -> Path:
    """The checkpoint of a small run, complete with an optimizer's slots, a metric and counters of callbacks."""
    model = lm.Sequential([lm.Input((3,)), layers.Dense(4, "relu"), layers.Dropout(0.5), layers.Dense(1, "sigmoid")])
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    x = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
    stops = lm.callbacks.EarlyStopping("loss", restore_best_weights=True)
    model.fit(x, (x.sum(1) > 0).astype(int), epochs=2, verbose=0, callbacks=[stops], checkpoint=folder)
    return folder / FILE


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
        if path.name == FILE:
            folder = Folder(lm.Checkpoint(path.parent))
            try:
                folder.read()
            finally:
                folder.close()
        elif path.name.startswith("model"):
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
    parser.add_argument("files", nargs="*", help="all golden ones and a checkpoint by default", type=Path)
    parser.add_argument("--every", type=int, default=1, help="look at every so many bytes only")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = options.files or [checkpoint(Path(folder) / "run"), *sorted(FOLDER.glob("*.safetensors"), key=_size)]
        for file in files:
            path = Path(folder) / file.name
            path.write_bytes(content := file.read_bytes())
            read(path)  # what is done once in a process takes its time
            counts, longest, first = Counter[str](), 0.0, _most_held()
            for what, changed in damaged(content, options.every):
                path.write_bytes(changed)
                start, held = time.process_time(), _most_held()
                try:
                    counts[read(path)] += 1
                except Exception as error:
                    raise SystemExit(f"{file}, {what}: {type(error).__name__}: {error}") from error
                longest = max(longest, time.process_time() - start)
                if longest > 1:
                    raise SystemExit(f"{file}, {what}: it took {longest:.1f} s")
                if _most_held() - held > most_memory(path):
                    raise SystemExit(f"{file}, {what}: it took {(_most_held() - held) / 1e6:,.0f} MB")
            more = (_most_held() - first) / 1e6
            told = f"{longest:.2f} s at most, {more:,.0f} MB more for all: {dict(counts)}"
            print(f"{file.name}, {len(content):,} bytes: {counts.total():,} damaged files, {told}", flush=True)


def _size(path: Path) -> int:
    return path.stat().st_size


def _most_held() -> int:
    """The most bytes that the process has held at once so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
