"""Run the works in every framework, in turn, each in a process of its own; print one table.

    make bench                                                the scripts beside this file, then everything: hours
    .venv/bin/python -m benchmarks --works mlp --quick        one comparison, a first look: a minute
    .venv/bin/python -m benchmarks --growth --frameworks lamina,pytorch

A round goes through all works, and at each work through all frameworks; so what changes on the machine in the course of
time changes for all of them. Written are table.txt, results.json (the rows, and all that the workers said), times.png
and, with --growth, growth.png.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.peers import FRAMEWORKS
from benchmarks.plots import plot_growth, plot_times
from benchmarks.report import Lines, remarks, rows_of, table_of
from benchmarks.works import ALL_GROWTH, PRODUCT, WORKS, Work

ROOT = Path(__file__).parents[1]
WORKER_SECONDS = 1200  # after which a worker is given up


def main() -> None:
    given = arguments()
    works = [PRODUCT, *chosen_works(given.works, given.growth)]
    frameworks = given.frameworks.split(",") if given.frameworks else list(FRAMEWORKS)
    refuse_unknown("framework", frameworks, FRAMEWORKS)
    if not given.peers.exists() and any(not FRAMEWORKS[name].own for name in frameworks):
        sys.exit(f"the peers' environment is not there: {given.peers}\nWrite:  make bench   or   --frameworks lamina")
    options = ["--threads", str(given.threads)] if given.threads else []
    options += ["--seconds", "0.5", "--part", "0.2"] if given.quick else ["--seconds", str(given.seconds)]
    lines, failures = measured(works, frameworks, 1 if given.quick else given.repeats, options, given.peers)
    if not lines.keys() - {PRODUCT.name}:
        sys.exit("nothing was measured.")
    rows = rows_of(lines)
    notes = [*remarks(rows), *failures]
    text = "\n".join([f"{key}: {value}" for key, value in machine().items()] + ["", table_of(rows), "", *notes])
    print(text)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "table.txt").write_text(text + "\n")
    kept = {"machine": machine(), "rows": [asdict(row) for row in rows], "remarks": notes, "lines": lines}
    (given.out / "results.json").write_text(json.dumps(kept, indent=1) + "\n")
    if "lamina" in frameworks:
        plot_times(rows, given.out / "times.png")
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
    parser.add_argument("--quick", action="store_true", help="one round with fewer and shorter calls: a first look")
    parser.add_argument("--growth", action="store_true", help="how cost grows, instead of the usual works")
    parser.add_argument("--threads", type=at_least_one, help="how many cores to use; all by default (Linux only)")
    parser.add_argument("--out", type=Path, default=ROOT / ".cache/bench", help="a folder for what is written")
    parser.add_argument(
        "--peers", type=Path, default=ROOT / ".cache/peers/bin/python", help="the Python of the peers' environment"
    )
    return parser.parse_args()


def at_least_one(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, received {text!r}")
    return int(text)


def chosen_works(names: str | None, growth: bool) -> Sequence[Work]:
    """The works of these names; all of the usual ones, or all that tell of growth, if there are no names."""
    offered = {work.name: work for work in (ALL_GROWTH if growth else WORKS)}
    wanted = names.split(",") if names else list(offered)
    refuse_unknown("work", wanted, offered)
    return [offered[name] for name in wanted]


def refuse_unknown(kind: str, names: Sequence[str], known: Sequence[str] | dict[str, Any]) -> None:
    """End with a message if there is a name that is not known."""
    for name in names:
        if name not in known:
            sys.exit(f"there is no {kind} {name!r}; there are {', '.join(known)}.")


def measured(
    works: Sequence[Work], frameworks: Sequence[str], rounds: int, options: Sequence[str], peers: Path
) -> tuple[Lines, list[str]]:
    """What all workers said, and what went wrong."""
    lines: Lines = {}
    failures: dict[tuple[str, str], str] = {}
    absent: set[tuple[str, str]] = set()
    with tempfile.TemporaryDirectory() as cache:
        for number in range(rounds):
            for work in works:
                for name in frameworks:
                    if (work.name, name) in absent or (work.name, name) in failures:
                        continue
                    python = Path(sys.executable) if FRAMEWORKS[name].own else peers
                    try:
                        line = worker(python, name, work.name, options, cache)
                    except RuntimeError as error:
                        failures[work.name, name] = f"{work.name}: {name} failed: {error}"
                        print(failures[work.name, name], file=sys.stderr)
                        continue
                    if line is None:
                        absent.add((work.name, name))
                        continue
                    lines.setdefault(work.name, {}).setdefault(name, []).append(line)
                    times = sorted(line["milliseconds"])
                    told = f"round {number + 1} of {rounds}  {work.name:18} {name:22} {times[len(times) // 2]:9.3f} ms"
                    print(told, file=sys.stderr, flush=True)
    return lines, list(failures.values())


def worker(python: Path, framework: str, work: str, options: Sequence[str], cache: str) -> Any:
    """What :mod:`benchmarks.worker` said.

    Raises:
        RuntimeError: with its last words, if it failed.
    """
    # Compiled programs are kept in this run only, so that the first round begins without any.
    kept = {"XDG_CACHE_HOME": cache, "TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor", "KERAS_HOME": f"{cache}/keras"}
    command = [python, "-m", "benchmarks.worker", framework, work, *options, "--started", str(time.perf_counter())]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | kept,
            capture_output=True,
            text=True,
            timeout=WORKER_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"it took more than {WORKER_SECONDS} s") from None
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    return json.loads(done.stdout.strip().splitlines()[-1])


def machine() -> dict[str, str]:
    """What the numbers hold for."""
    name = platform.processor() or platform.machine()
    described = Path("/proc/cpuinfo")
    if described.exists():
        name = next(
            (line.partition(":")[2].strip() for line in described.open() if line.startswith("model name")), name
        )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": f"{name}, {cores} cores",
        "system": platform.platform(),
        "lamina": f"{version('lamina')}, JAX {version('jax')}, Python {platform.python_version()}",
    }


if __name__ == "__main__":
    main()
