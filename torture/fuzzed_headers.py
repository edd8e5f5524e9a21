"""Millions of mutated headers: each is read, or refused by an error of Lamina's, within a second of work and little memory.

With ``atheris`` (requirements/torture.txt) the mutations are guided by which lines of the reader they reach; without it they
are random. Run:  python -m torture.fuzzed_headers [--runs N] [--seed N]
"""

import argparse
import inspect
import json
import random
import re
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.golden.make_models import FOLDER
from tests.saving.files import CONSTANT, joined, parts_of

#: what a description is made of: mutations put these in
WORDS = (
    *("layers.Dense", "layers.Sequential", "layers.Model", "layers.Lambda", "ops.concatenate", "models.Transformer"),
    *(
        "class",
        "config",
        "function",
        "array",
        "dtype",
        "slice",
        "ellipsis",
        "graph",
        "calls",
        "operation",
        "op",
        "layer",
    ),
    *(
        "value",
        "tuple",
        "dict",
        "inputs",
        "outputs",
        "input_structure",
        "batch_shape",
        "vocabulary",
        "format",
        "lamina",
    ),
    *("architecture", "compile", "built_for", "task", "__metadata__", "data_offsets", "shape", "F32", "BOOL", "BF16"),
)
NUMBERS = (
    "0",
    "-1",
    "1e999",
    "NaN",
    "-Infinity",
    "1e-400",
    "18446744073709551616",
    "1000000000000",
    "true",
    "null",
    '""',
)
#: one in so many descriptions that pass the checks is built as well
BUILT = 200


class Reader:
    """Reads what it is given in three ways, and counts what came of it."""

    def __init__(self) -> None:
        from lamina import load_model
        from lamina.core.errors import LaminaError
        from lamina.saving.container import HeaderError, parse_header
        from lamina.saving.model_file import described

        self.error, self.damaged = LaminaError, HeaderError
        self.parse, self.described, self.load = parse_header, described, load_model
        self.counts, self.longest = Counter[str](), 0.0
        self.path = Path(tempfile.mkdtemp()) / "model.safetensors"
        self.first = self.held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def __call__(self, data: bytes) -> None:
        """The first byte says what the rest is: a file, the JSON of a header, or the JSON of a description."""
        way, rest = data[:1], data[1:]
        if way == b"h":
            content = len(rest).to_bytes(8, "little") + rest + bytes(64)
        elif way == b"d":
            content = joined({"__metadata__": {"lamina": rest.decode("utf-8", "replace")}})
        else:
            content = rest
        start = time.process_time()
        try:
            header = self.parse(content[:8], content[8:], len(content))
            self.counts["header"] += 1
            self.described(header, self.path)
            self.counts["description"] += 1
            if self.counts["description"] % BUILT == 0:
                self.path.write_bytes(content)
                self.load(self.path)
                self.counts["built"] += 1
        except (self.error, self.damaged) as error:
            named = isinstance(error, self.damaged) or str(self.path) in str(error)
            if not named or len(str(error)) > 10_000:
                raise AssertionError(f"not a short line that names the file: {error}") from error
            self.counts[type(error).__name__] += 1
        self.counts["read"] += 1
        spent, held = time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if held - self.held > 10 * len(content) + CONSTANT:
            raise AssertionError(f"it took {(held - self.held) / 1e6:,.0f} MB")
        self.held = held
        if spent > 1 and self.counts["built"] > 2:  # what is done once in a process takes its time
            raise AssertionError(f"it took {spent:.1f} s")
        self.longest = max(self.longest, spent)


def seeds() -> list[bytes]:
    """Good files to begin with, in each of the three ways."""
    found = []
    for path in sorted(FOLDER.glob("*.safetensors")):
        header, description, data = parts_of(path.read_bytes())
        found += [b"h" + json.dumps(header).encode(), b"d" + json.dumps(description).encode()]
        if len(data) < 4096:
            found.append(b"f" + path.read_bytes())
    small = {
        "a": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]},
        "__metadata__": {"lamina": '{"format": 1, "lamina": "0"}'},
    }
    return [*found, b"h" + json.dumps(small).encode()]


def mutated(data: bytes, choose: random.Random) -> bytes:
    """``data`` with a few random changes."""
    for _ in range(choose.choice((1, 1, 1, 2, 4, 8))):
        at, kind = choose.randrange(1, max(len(data), 2)), choose.randrange(7)
        to = min(at + choose.choice((1, 2, 4, 16, 64, 256)), len(data))
        if kind == 0:
            data = data[:at] + bytes([choose.randrange(256)]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + data[to:]
        elif kind == 2:
            data = data[:to] + data[at:to] * choose.choice((1, 1, 30)) + data[to:]
        elif kind == 3:
            data = data[:at] + choose.choice((b"[", b"]", b"{", b"}", b",", b'"', b"\\", b":")) + data[at:]
        else:
            pattern, words = ((rb"-?\d[\d.e+-]*", NUMBERS), (rb'"[^"\\]*"', [json.dumps(w) for w in WORDS]))[kind % 2]
            found = re.search(pattern, data[at:])
            if found:
                place = at + found.start()
                data = data[:place] + choose.choice(words).encode() + data[at + found.end() :]
    return data


def at_random(read: Callable[[bytes], None], runs: int, seed: int) -> None:
    """Read so many mutations of the seeds."""
    choose, pool = random.Random(seed), seeds()
    for number in range(runs):
        data = mutated(choose.choice(pool), choose)
        try:
            read(data)
        except BaseException as error:
            raise SystemExit(f"mutation {number} of seed {seed}: {type(error).__name__}: {error}\n{data!r}") from error
        if len(pool) < 2000 and choose.random() < 0.001:
            pool.append(data)


def guided(reader_of: Callable[[], Reader], runs: int, seed: int) -> None:
    """Let atheris choose; ends the process."""
    import atheris

    from lamina.core import registry
    from lamina.saving import container, model_file

    for module in (container, model_file, registry):
        for function in vars(module).values():
            if inspect.isfunction(function) and function.__module__ == module.__name__:
                atheris.instrument_func(inspect.unwrap(function))
    reader = reader_of()
    folder = Path(tempfile.mkdtemp())
    for number, data in enumerate(seeds()):
        (folder / str(number)).write_bytes(data)
    words = folder.with_suffix(".dict")
    quoted = [json.dumps(json.dumps(word)) for word in WORDS] + [json.dumps(number) for number in NUMBERS]
    words.write_text("\n".join(quoted) + "\n")
    given = [
        f"-runs={runs}",
        f"-seed={seed + 1}",
        f"-dict={words}",
        "-max_len=40000",
        "-timeout=1200",
        "-rss_limit_mb=4096",
    ]

    def read(data: bytes) -> None:
        reader(data)
        if reader.counts["read"] % 100_000 == 0 or reader.counts["read"] == runs:
            tell(reader)

    kept = f"-artifact_prefix={tempfile.mkdtemp()}/"
    atheris.Setup([sys.argv[0], *given, kept, "-rss_limit_mb=4096", "-verbosity=0", str(folder)], read)
    atheris.Fuzz()


def tell(reader: Reader) -> None:
    """Print what came of it so far."""
    more = (reader.held - reader.first) / 1e6
    print(f"{reader.longest:.2f} s at most, {more:,.0f} MB more than at first: {dict(reader.counts)}", flush=True)


def main() -> None:
    """Mutate and read."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--random", action="store_true", help="without atheris, even where it is installed")
    options = parser.parse_args()
    found: Any = None
    if not options.random:
        try:
            import atheris as found
        except ImportError:
            print("atheris is not installed: the mutations are random")
    if found is not None:
        guided(Reader, options.runs, options.seed)
    else:
        reader = Reader()
        at_random(reader, options.runs, options.seed)
        tell(reader)


if __name__ == "__main__":
    main()
