"""One framework at one work, in a process of its own: ``python -m benchmarks.worker lamina mlp``.

It prints ``true`` once it is ready, or ``null`` where the framework does not do the work. Then it measures for each line
that it reads, and prints a line of JSON.
"""

import argparse
import importlib
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.peers import FRAMEWORKS, Framework
from benchmarks.works import CATALOGUE, Work

BEGUN = time.perf_counter()
FEWEST_CALLS = 3
# Processors are measured without what GPUs are there. On a GPU, several processes share its memory.
ENVIRONMENT = {
    "cpu": {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"},
    "gpu": {"JAX_PLATFORMS": "cuda", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
}


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.worker", description=__doc__.splitlines()[0])
    arguments.add_argument("framework", choices=FRAMEWORKS)
    arguments.add_argument("work")
    arguments.add_argument("--device", choices=CATALOGUE, default="cpu")
    arguments.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    arguments.add_argument("--seconds", type=float, default=2.0, help="how long to measure, at least")
    arguments.add_argument("--part", type=float, default=1.0, help="of the steps of each call, for a first look")
    arguments.add_argument("--threads", type=int, help="how many cores to use; all by default")
    arguments.add_argument("--started", type=float, default=BEGUN, help="when the process was started, by perf_counter")
    given = arguments.parse_args()
    if given.threads is not None and given.threads < 1:
        arguments.error(f"--threads is a whole number of at least 1; received {given.threads}")
    if given.work not in CATALOGUE[given.device]:
        arguments.error(f"there is no work {given.work!r}; there are {', '.join(CATALOGUE[given.device])}")
    work = CATALOGUE[given.device][given.work]
    steps, threads = max(1, round(given.part * work.steps)), work.threads or given.threads
    work = replace(work, steps=steps, threads=threads, precision=given.precision)
    for said in measured(FRAMEWORKS[given.framework], work, given.seconds, given.started):
        print(json.dumps(said), flush=True)


def measured(
    chosen: Framework, work: Work, seconds: float, started: float
) -> Iterator[dict[str, object] | bool | None]:
    """Make ready, say so, and for each line of the input do the work until the seconds are over."""
    if work.kind not in chosen.kinds or work.device not in chosen.devices:
        yield None
        return
    os.environ.update(ENVIRONMENT[work.device] | chosen.environment)
    sys.modules.update(dict.fromkeys(chosen.without))
    use_cores(work.threads)
    before = time.perf_counter()
    module = importlib.import_module(f"benchmarks.peers.{chosen.module}")
    imported = time.perf_counter()
    from benchmarks.data import arrays  # after NumPy was imported at the framework's expense

    data = arrays(work)
    with tempfile.TemporaryDirectory() as folder:
        path = module.trained(work, Path(folder)) if hasattr(module, "trained") else None
        made = time.perf_counter()
        job = module.prepare(work, data, chosen.way, *([] if path is None else [path]))
    if job is None:
        yield None
        return
    losses = [job.run()]
    first = time.perf_counter() - made
    job.run()  # what a second call may still have to do once
    yield True
    for _ in sys.stdin:
        calls: list[float] = []
        begun = time.perf_counter()
        while len(calls) < FEWEST_CALLS or time.perf_counter() - begun < seconds:
            at = time.perf_counter()
            losses.append(job.run())
            calls.append(time.perf_counter() - at)
        # The first call took many steps; of those, one counts.
        usual = statistics.median(calls)
        until_first = max(first - usual, 0.0) + usual / work.steps
        yield {
            "process": os.getpid(),
            "milliseconds": [1e3 * call / work.steps for call in calls],
            "import_seconds": imported - before,
            "first_step_seconds": until_first,
            "first_step_seconds_from_start": imported - started + until_first,
            "peak_memory_mib": (module.peak_memory() if work.device == "gpu" else memory_of_process()) / 2**20,
            "losses": None if losses[0] is None else [losses[0], losses[-1]],
            "weights": job.weights(),
        }


def memory_of_process() -> int:
    """How many bytes this process had in memory at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1024 if sys.platform != "darwin" else 1)


def use_cores(number: int | None) -> None:
    """Keep this process to so many cores; every framework makes as many threads as it finds."""
    if number is not None:
        if not hasattr(os, "sched_setaffinity"):
            sys.exit("the number of cores can be set on Linux only; leave --threads out.")
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:number])


if __name__ == "__main__":
    main()
