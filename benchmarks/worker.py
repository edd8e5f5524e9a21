"""One framework at one work, in a process of its own; prints a line of JSON: ``python -m benchmarks.worker lamina mlp``.

The line is ``null`` where the framework does not do the work.
"""

import argparse
import importlib
import json
import os
import resource
import statistics
import sys
import time
from dataclasses import replace

from benchmarks.peers import FRAMEWORKS, Framework
from benchmarks.works import CATALOGUE, Work

BEGUN = time.perf_counter()
FEWEST_CALLS = 3


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.worker", description=__doc__.splitlines()[0])
    arguments.add_argument("framework", choices=FRAMEWORKS)
    arguments.add_argument("work", choices=CATALOGUE, metavar="work")
    arguments.add_argument("--seconds", type=float, default=2.0, help="how long to measure, at least")
    arguments.add_argument("--part", type=float, default=1.0, help="of the steps of each call, for a first look")
    arguments.add_argument("--threads", type=int, help="how many cores to use; all by default")
    arguments.add_argument("--started", type=float, default=BEGUN, help="when the process was started, by perf_counter")
    given = arguments.parse_args()
    work = CATALOGUE[given.work]
    work = replace(work, steps=max(1, round(given.part * work.steps)), threads=work.threads or given.threads)
    print(json.dumps(measure(FRAMEWORKS[given.framework], work, given.seconds, given.started)))


def measure(chosen: Framework, work: Work, seconds: float, started: float) -> dict[str, object] | None:
    """Do the work until the seconds are over."""
    if work.kind not in chosen.kinds:
        return None
    # These are measurements of a processor, also where there is a GPU.
    os.environ.update({"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"} | chosen.environment)
    sys.modules.update(dict.fromkeys(chosen.without))
    use_cores(work.threads)
    before = time.perf_counter()
    module = importlib.import_module(f"benchmarks.peers.{chosen.module}")
    imported = time.perf_counter()
    from benchmarks.data import arrays  # after NumPy was imported at the framework's expense

    data = arrays(work)
    made = time.perf_counter()
    job = module.prepare(work, data, chosen.way)
    if job is None:
        return None
    losses = [job.run()]
    first = time.perf_counter() - made
    job.run()  # what a second call may still have to do once
    calls: list[float] = []
    begun = time.perf_counter()
    while len(calls) < FEWEST_CALLS or time.perf_counter() - begun < seconds:
        at = time.perf_counter()
        losses.append(job.run())
        calls.append(time.perf_counter() - at)
    # The first call took many steps; of those, one counts.
    usual = statistics.median(calls)
    until_first = max(first - usual, 0.0) + usual / work.steps
    return {
        "milliseconds": [1e3 * call / work.steps for call in calls],
        "import_seconds": imported - before,
        "first_step_seconds": until_first,
        "first_step_seconds_from_start": imported - started + until_first,
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        / (1024 if sys.platform != "darwin" else 2**20),
        "losses": None if losses[0] is None else [losses[0], losses[-1]],
        "weights": job.weights(),
    }


def use_cores(number: int | None) -> None:
    """Keep this process to so many cores; every framework makes as many threads as it finds."""
    if number is not None:
        if not hasattr(os, "sched_setaffinity"):
            sys.exit("the number of cores can be set on Linux only; leave --threads out.")
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:number])


if __name__ == "__main__":
    main()
