"""Predicting again and again: ``model.predict`` and ``model(x)``, from one thread and from four, without growth of memory.

Run:  python -m torture.repeated_predictions [--times 10000]
"""

import argparse
import ctypes
import gc
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import lamina as lm
from lamina import layers

#: bytes that a process may grow by after it has warmed up
MOST = 4 << 20
THREADS = 4


def memory() -> int:
    """The bytes of memory that this process uses now, without what is freed and merely kept."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def growth(use: Callable[[np.ndarray], object], threads: int, times: int) -> int:
    """By how many bytes the process grows over ``times`` uses, after a tenth as many."""
    several = [np.ones((1 + i % 3, 12, 12, 1), "float32") for i in range(30)]

    def repeat(count: int) -> None:
        for i in range(count):
            use(several[i % len(several)])

    with ThreadPoolExecutor(threads) as pool:
        for count in (times // 10, times):
            before = memory()
            list(pool.map(repeat, [count // threads] * threads))
    return memory() - before


def main() -> None:
    """Measure each way; the exit status tells whether any grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=10_000)
    times = parser.parse_args().times
    model = lm.Sequential(
        [
            lm.Input((12, 12, 1)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Flatten(),
            layers.Dense(10, "softmax"),
        ]
    )
    ways: dict[str, Callable[[np.ndarray], object]] = {"model.predict": model.predict, "model": model}
    grown = False
    for name, use in ways.items():
        for threads in (1, THREADS):
            started = time.perf_counter()
            more = growth(use, threads, times)
            grown |= more > MOST
            took = time.perf_counter() - started
            print(f"{name}, {times:,} times, {threads} threads: {more / 2**20:+.2f} MiB, {took:.0f} s", flush=True)
    if grown:
        sys.exit(f"memory grew by more than {MOST >> 20} MiB")


if __name__ == "__main__":
    main()
