"""Run the works in every framework, in turn, each in a process of its own; print one table.

    make bench                                                the scripts beside this file, then everything: hours
    .venv/bin/python -m benchmarks --works mlp --quick        one comparison, a first look: a minute
    .venv/bin/python -m benchmarks --growth --frameworks lamina,pytorch

A round goes through all works, and at each work through all frameworks; so what changes on the machine in the course of
time changes for all of them. Before each work a large product is measured anew, in the framework that was the fastest at it
when the round began, since the shares of it that are told are those of the same minutes. On a GPU (--device gpu) all
frameworks make ready for a work together, and are then measured in turn, several times. Written are table.txt,
results.json (the rows, and all that the workers said), times.png and, with --growth, growth.png.
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.peers import FRAMEWORKS
from benchmarks.plots import plot_growth, plot_times
from benchmarks.report import Lines, remarks, rows_of, table_of
from benchmarks.works import ALL_GROWTH, CATALOGUE, GPU_WORKS, WORKS, Work
from lamina import __version__

ROOT = Path(__file__).parents[1]
WORKER_SECONDS = 1200  # after which a worker is given up


def main() -> None:
    given = arguments()
    known = [name for name, framework in FRAMEWORKS.items() if given.device in framework.devices]
    works = [CATALOGUE[given.device]["product"], *chosen_works(given)]
    frameworks = given.frameworks.split(",") if given.frameworks else known
    refuse_unknown("framework", frameworks, known)
    if not given.peers.exists() and any(not FRAMEWORKS[name].own for name in frameworks):
        sys.exit(f"the peers' environment is not there: {given.peers}\nWrite:  make bench   or   --frameworks lamina")
    options = ["--device", given.device, "--precision", given.precision]
    options += ["--threads", str(given.threads)] if given.threads else []
    options += ["--seconds", "0.5", "--part", "0.2"] if given.quick else ["--seconds", str(given.seconds)]
    rounds = 1 if given.quick else given.repeats
    lines, failures = measured(works, frameworks, rounds, options, given.peers, given.device)
    if not lines.keys() - {"product"}:
        sys.exit("nothing was measured.")
    rows = rows_of(lines, given.device)
    notes = [*remarks(rows), *failures]
    on = machine(given.device, given.precision)
    text = "\n".join([f"{key}: {value}" for key, value in on.items()] + ["", table_of(rows), "", *notes])
    print(text)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "table.txt").write_text(text + "\n")
    kept = {"machine": on, "rows": [asdict(row) for row in rows], "remarks": notes, "lines": lines}
    (given.out / "results.json").write_text(json.dumps(kept, indent=1) + "\n")
    if "lamina" in frameworks:
        plot_times(rows, given.out / "times.png", next(iter(on.values())))
    if given.growth:
        plot_growth(rows, given.out / "growth.png")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--works", help="names with commas between them; all by default")
    parser.add_argument("--frameworks", help=f"some of {','.join(FRAMEWORKS)}; all by default")
    parser.add_argument("--repeats", type=at_least_one, default=3, help="rounds, each in new processes (%(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="to measure in each process (%(default)s)")
    parser.add_argument(
        "--device", choices=CATALOGUE, default="cpu", help="a processor or a GPU by NVIDIA (%(default)s)"
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of the arithmetic on a GPU, where float32 has products of TensorFloat-32 everywhere (%(default)s)",
    )
    parser.add_argument("--quick", action="store_true", help="one round with fewer and shorter calls: a first look")
    parser.add_argument("--growth", action="store_true", help="how cost grows, instead of the usual works")
    parser.add_argument("--threads", type=at_least_one, help="how many cores to use; all by default (Linux only)")
    parser.add_argument("--out", type=Path, default=ROOT / ".cache/bench", help="a folder for what is written")
    parser.add_argument(
        "--peers", type=Path, default=ROOT / ".cache/peers/bin/python", help="the Python of the peers' environment"
    )
    given = parser.parse_args()
    if given.device == "cpu" and given.precision != "float32":
        parser.error("--precision is for GPUs: add  --device gpu")
    if given.device == "gpu" and given.growth:
        parser.error("--growth is measured on processors: leave  --device gpu  out")
    return given


def at_least_one(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, received {text!r}")
    return int(text)


def chosen_works(given: argparse.Namespace) -> Sequence[Work]:
    """The works that are named; all of the usual ones, or all that tell of growth, if none are."""
    usual = GPU_WORKS if given.device == "gpu" else WORKS
    offered = {work.name: work for work in (ALL_GROWTH if given.growth else usual)}
    wanted = given.works.split(",") if given.works else list(offered)
    refuse_unknown("work", wanted, offered)
    return [offered[name] for name in wanted]


def refuse_unknown(kind: str, names: Sequence[str], known: Sequence[str] | dict[str, Any]) -> None:
    """End with a message if there is a name that is not known."""
    for name in names:
        if name not in known:
            sys.exit(f"there is no {kind} {name!r}; there are {', '.join(known)}.")


def sittings(
    works: Sequence[Work], frameworks: Sequence[str], rounds: int, device: str, lines: Lines
) -> Iterator[tuple[Work, list[str], int]]:
    """Which frameworks are ready at a time for which work, and how often they are measured in turn; ``lines`` are filled.

    On a processor one at a time, as they would take it from each other. On a GPU all of them, which make ready together.
    """
    if device == "gpu":
        yield from ((work, list(frameworks), rounds) for work in works)
        return
    product, *others = works
    for _ in range(rounds):
        yield from ((product, [name], 1) for name in frameworks)
        known = lines.get("product", {})
        fastest = min(known, key=lambda name: statistics.median(known[name][-1]["milliseconds"]), default=None)
        for work in others:
            if fastest:
                before = len(known[fastest])
                yield product, [fastest], 1
                for line in known[fastest][before:]:
                    line["beside"] = work.name
            yield from ((work, [name], 1) for name in frameworks)


def measured(
    works: Sequence[Work], frameworks: Sequence[str], rounds: int, options: Sequence[str], peers: Path, device: str
) -> tuple[Lines, list[str]]:
    """What all workers said, and what went wrong. Stopped by Ctrl-C, what there is so far."""
    lines: Lines = {}
    failures: dict[tuple[str, str], str] = {}
    absent: set[tuple[str, str]] = set()
    stopped = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:

        def start(name: str, work: Work) -> Worker:
            return Worker(Path(sys.executable) if FRAMEWORKS[name].own else peers, name, work.name, options, cache)

        try:
            for work, names, turns in sittings(works, frameworks, rounds, device, lines):
                wanted = [name for name in names if (work.name, name) not in absent | failures.keys()]
                for name, line in sitting(work, wanted, turns, start):
                    if line is None:
                        absent.add((work.name, name))
                    elif isinstance(line, RuntimeError):
                        failures[work.name, name] = f"{work.name}: {name} failed: {line}"
                        print(failures[work.name, name], file=sys.stderr, flush=True)
                    else:
                        lines.setdefault(work.name, {}).setdefault(name, []).append(line)
                        times = sorted(line["milliseconds"])
                        told = f"{len(lines[work.name][name]):2}  {work.name:18} {name:22}"
                        print(f"{told} {times[len(times) // 2]:9.3f} ms", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            stopped = ["stopped before the end."]
    return lines, [*failures.values(), *stopped]


def sitting(
    work: Work, names: Sequence[str], turns: int, start: Callable[[str, Work], "Worker"]
) -> Iterator[tuple[str, Any]]:
    """What each framework says, in turn: a line, ``None`` where it does not do the work, or an error."""
    with contextlib.ExitStack() as stack:
        workers = {name: stack.enter_context(start(name, work)) for name in names}
        for turn in range(turns + 1):
            for name, worker in list(workers.items()):
                try:
                    line = worker.measured() if turn else worker.said()
                except RuntimeError as error:
                    line = error
                if line is None or isinstance(line, RuntimeError):
                    del workers[name]
                if line is not True:
                    yield name, line


class Worker:
    """A process that does one work in one framework; see :mod:`benchmarks.worker`. It ends with the ``with`` block."""

    def __init__(self, python: Path, framework: str, work: str, options: Sequence[str], cache: str) -> None:
        # Compiled programs are kept in this run only, so that the first round begins without any.
        kept = {"XDG_CACHE_HOME": cache, "TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor", "KERAS_HOME": f"{cache}/keras"}
        command = [python, "-m", "benchmarks.worker", framework, work, *options, "--started", str(time.perf_counter())]
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | kept,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        self.timer = threading.Timer(WORKER_SECONDS, self.process.kill)
        self.timer.start()

    def measured(self) -> Any:
        """What it says when it is asked to measure."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended; then so has what it says
            self.process.stdin.write("measure\n")
            self.process.stdin.flush()
        return self.said()

    def said(self) -> Any:
        """The next thing it says.

        Raises:
            RuntimeError: with its last words, if it failed.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        while line and not line.startswith(("{", "null", "true")):  # what a framework has to say
            line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        code = self.process.wait()
        self.errors.seek(0)
        words = self.errors.read().strip().splitlines() or [f"exit code {code}, or more than {WORKER_SECONDS} s"]
        raise RuntimeError(next((said for said in reversed(words) if "Error" in said), words[-1]))

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *error: object) -> None:
        if any(error):
            self.process.kill()
        with contextlib.suppress(BrokenPipeError):
            self.process.communicate()
        self.timer.cancel()
        self.errors.close()


def machine(device: str, precision: str) -> dict[str, str]:
    """What the numbers hold for."""
    name = platform.processor() or platform.machine()
    described = Path("/proc/cpuinfo")
    if described.exists():
        name = next(
            (line.partition(":")[2].strip() for line in described.open() if line.startswith("model name")), name
        )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = {
        "processor": f"{name}, {cores} cores",
        "system": platform.platform(),
        "lamina": f"{__version__}, JAX {version('jax')}, Python {platform.python_version()}",
    }
    if device == "gpu":
        asked = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        card = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
        found = {"GPU": f"{card}, arithmetic in {precision}"} | found
    return found


if __name__ == "__main__":
    main()
