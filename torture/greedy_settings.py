"""Every setting of every layer, loss, metric, optimizer and schedule, made huge or senseless in a model file.

Each such file loads or is refused by an error of Lamina's, with little work and little memory.
Run:  python -m torture.greedy_settings [NAME ...]
"""

import argparse
import copy
import json
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import lamina as lm
from lamina.core import registry
from lamina.core.errors import LaminaError
from tests.catalogue import CASES, Case
from tests.saving.files import altered

#: what takes the place of each value
VALUES = (
    10**4,
    10**6,
    10**9,
    10**12,
    10**20,
    -1,
    0,
    0.5,
    1e308,
    True,
    None,
    "",
    "x" * 10_000,
    "zeros",
    [],
    [10**9] * 2,
    {},
)
#: seconds of work, and bytes of memory, that one file may take
WORK, MEMORY = 10.0, 1 << 30


def places(config: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in a description that is no dictionary."""
    for key, value in config.items() if isinstance(config, dict) else enumerate(config):
        if isinstance(value, dict | list) and value:
            yield from places(value, (*path, key))
        if not isinstance(value, dict) and key != "class":
            yield (*path, key)


def changed(description: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of the description with another value at the end of the way."""
    made = copy.deepcopy(description)
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return made


def saved(case: Case, path: Path) -> bool:
    """Write a model of this layer alone; whether it can be one."""
    layer = case.layer()
    try:
        inputs = [
            [lm.Input(np.shape(part)[1:], dtype=_dtype(part)) for part in x]
            if isinstance(x, list) and not isinstance(x[0], str)
            else lm.Input(np.shape(x)[1:], dtype=_dtype(x))
            for x in case.inputs()
        ]
        leaves = [leaf for x in inputs for leaf in (x if isinstance(x, list) else [x])]
        lm.Model(leaves, layer(*inputs, **case.kwargs)).save(path)
    except (LaminaError, TypeError, ValueError):
        return False
    return True


def _dtype(x: Any) -> str:
    kind = np.asarray(x).dtype
    return "string" if kind.kind in "OUST" else kind.name


def settings() -> Iterator[tuple[str, Any]]:
    """Compile settings with each loss, metric, optimizer and schedule once; and what each is called."""
    good = {"optimizer": {"class": "optimizers.Adam", "config": {}}, "loss": "mse", "metrics": None}
    for kind, name in (
        ("losses", "loss"),
        ("metrics", "metrics"),
        ("optimizers", "optimizer"),
        ("schedules", "schedule"),
    ):
        for key in registry.names(kind):
            try:
                made = registry.lookup(kind, key)
                config = registry.serialize(made(*[2, [0], 0.5][: _needed(made)]))
            except (LaminaError, TypeError, ValueError):
                continue
            if kind == "schedules":
                yield key, good | {"optimizer": {"class": "optimizers.Adam", "config": {"learning_rate": config}}}
            else:
                yield key, good | {name: [config] if kind == "metrics" else config}


def _needed(made: Any) -> int:
    import inspect

    parameters = inspect.signature(made).parameters.values()
    return sum(p.default is p.empty and p.kind == p.POSITIONAL_OR_KEYWORD for p in parameters)


def tried(path: Path) -> str:
    """What came of loading the file.

    Raises:
        AssertionError: if it took too much work or memory, or something else happened than a model or an error of Lamina's.
    """
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, time.process_time()
    signal.setitimer(signal.ITIMER_PROF, 6 * WORK)  # ends in an error, or ends the process
    try:
        lm.load_model(path)
        found = "loaded"
    except LaminaError as error:
        found = type(error).__name__
        if isinstance(error.__cause__, TimeoutError):
            raise error.__cause__ from None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    spent, grown = time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    if spent > WORK or grown > MEMORY:
        raise AssertionError(f"{found}, but it took {spent:.1f} s and {grown / 1e6:,.0f} MB")
    return found


def _endless(*_: Any) -> None:
    raise TimeoutError("it came to no end")


def main() -> None:
    """Make the files and load them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="the layers and others to look at; all by default")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGPROF, _endless)
    resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))  # what takes more fails, rather than the machine
    counts, wrong = Counter[str](), []

    def try_all(name: str, good: Path, part: str) -> None:
        description = json.loads(json.dumps(_described(good)))
        for place in places(description[part]):
            for value in VALUES:
                new = changed(description[part], place, value)
                altered(good, path, lambda d, new=new: d.update({part: new}))
                try:
                    counts[tried(path)] += 1
                except BaseException as error:
                    if isinstance(error, KeyboardInterrupt):
                        raise
                    where = f"{name}: {chr(47).join(map(str, place))} = {str(value)[:30]}"
                    what = f"{where}: {type(error).__name__}: {str(error)[:200]}"
                    wrong.append(what)
                    print(what, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        good, path = Path(folder) / "good.safetensors", Path(folder) / "model.safetensors"
        for case in CASES:
            if options.names and case.name.partition("-")[0] not in options.names:
                continue
            if saved(case, good):
                print(case.name, flush=True)
                try_all(case.name, good, "architecture")
        model = lm.Sequential([lm.Input((2,)), lm.layers.Dense(2)])
        for name, config in settings():
            if options.names and name not in options.names:
                continue
            model.save(good)
            altered(good, good, lambda d, config=config: d.update(compile=config))
            try_all(name, good, "compile")
    print(f"{counts.total():,} files: {dict(counts)}; {len(wrong)} went wrong")
    sys.exit(bool(wrong))


def _described(path: Path) -> Any:
    from lamina.saving import read_description

    found = read_description(path)
    del found["tensors"]
    return found


if __name__ == "__main__":
    main()
