"""From the workers' lines to one table."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.operations import operations
from benchmarks.works import CATALOGUE, Work

#: what the workers said, one entry a round: work -> framework -> lines
Lines = dict[str, dict[str, list[dict[str, Any]]]]

COLUMNS = {
    "work": "work",
    "framework": "framework",
    "milliseconds": "ms a step",
    "spread": "+-",
    "ratio": "ratio",
    "target": "target",
    "share_of_peak": "of peak",
    "first_step": "first step, s",
    "first_step_again": "again, s",
    "import_seconds": "import, s",
    "peak_memory_mib": "memory, MiB",
    "loss": "loss",
    "weights": "weights",
}
NOTES = """\
ms a step      the median over rounds of each process's median; a step of gpt_generate is one token, 1000 / ms of them a second
+-             half the distance between the quartiles of all calls, as a share of the median
ratio          Lamina's time over that of the framework; in Lamina's own row, over that of the best peer
target         what the ratio should be at most, and to whom, if not to the best peer
of peak        the step's products and convolutions, as a share of the fastest large product, measured in the same minutes
first step     from the start of the process, with no compiled programs kept from before; again: with them
memory         of the whole process; on a GPU, what the framework had in use there
loss           mean of the first call's steps, and of the last one's"""


@dataclass
class Row:
    """One framework at one work, over all rounds."""

    work: str
    framework: str
    milliseconds: float
    spread: float
    ratio: float | None
    target: str
    share_of_peak: float | None
    first_step: float
    first_step_again: float | None
    first_step_after_import: float
    import_seconds: float
    peak_memory_mib: float
    losses: list[float] | None
    weights: int


def rows_of(lines: Lines, device: str) -> list[Row]:
    """A row for each framework at each work."""
    catalogue = CATALOGUE[device]
    times = {
        work: {
            framework: statistics.median(statistics.median(line["milliseconds"]) for line in given)
            for framework, given in found.items()
        }
        for work, found in lines.items()
    }
    rows = []
    for work, found in lines.items():
        count, best, peak = operations(catalogue[work]), _best(times[work]), _peak(lines, catalogue["product"], work)
        for framework, given in found.items():
            own, other = times[work].get("lamina"), best if framework == "lamina" else times[work][framework]
            again = [line for line in given if line["process"] != given[0]["process"]]
            rows.append(
                Row(
                    work,
                    framework,
                    times[work][framework],
                    _spread([time for line in given for time in line["milliseconds"]]),
                    own / other if own and other else None,
                    _judged(catalogue[work], times[work]) if framework == "lamina" else "",
                    count / times[work][framework] / peak if count and peak else None,
                    given[0]["first_step_seconds_from_start"],
                    _median(again, "first_step_seconds_from_start") if again else None,
                    given[0]["first_step_seconds"],
                    _median(given, "import_seconds"),
                    max(line["peak_memory_mib"] for line in given),
                    given[-1]["losses"],
                    given[0]["weights"],
                )
            )
    return rows


def _peak(lines: Lines, product: Work, work: str) -> float | None:
    """Operations in a millisecond in a large product, where it was measured just before ``work``; else at its fastest."""
    given = [line for found in lines.get(product.name, {}).values() for line in found]
    beside = [line for line in given if line.get("beside") == work]
    rates = [(operations(product) or 0) / statistics.median(line["milliseconds"]) for line in beside or given]
    return (statistics.median(rates) if beside else max(rates)) if rates else None


def _median(lines: Sequence[dict[str, Any]], name: str) -> float:
    return statistics.median(line[name] for line in lines)


def _best(times: dict[str, float], frameworks: Sequence[str] = ()) -> float | None:
    """The shortest time among some peers; among all of them if none are named."""
    peers = [time for name, time in times.items() if name in frameworks or (not frameworks and name != "lamina")]
    return min(peers, default=None)


def _spread(times: Sequence[float]) -> float:
    low, middle, high = statistics.quantiles(times, n=4)
    return (high - low) / 2 / middle


def _judged(work: Work, times: dict[str, float]) -> str:
    """The targets, and of those that name frameworks also the ratio."""
    found = []
    for target in work.targets:
        best = _best(times, target.frameworks)
        if best is None:
            continue
        ratio = times["lamina"] / best
        named = f" of {target.frameworks[0].partition('_')[0]}: {ratio:.2f}" if target.frameworks else ""
        found.append(f"{target.ratio:.2f}{named} {'met' if ratio <= target.ratio else 'missed'}")
    return "; ".join(found)


def table_of(rows: Sequence[Row]) -> str:
    """The table as text, columns aligned."""
    cells = [list(COLUMNS.values())]
    for row in rows:
        cells.append([_cell(name, asdict(row)) for name in COLUMNS])
    widths = [max(len(line[i]) for line in cells) for i in range(len(COLUMNS))]
    left = ("work", "framework", "target")
    lines = [
        "  ".join(
            cell.ljust(width) if name in left else cell.rjust(width)
            for name, cell, width in zip(COLUMNS, line, widths, strict=True)
        ).rstrip()
        for line in cells
    ]
    for i in range(len(rows) - 1, 0, -1):  # a line between works
        if rows[i].work != rows[i - 1].work:
            lines.insert(i + 1, "")
    return "\n".join([*lines, "", NOTES])


def _cell(name: str, row: dict[str, Any]) -> str:
    if name == "loss":
        return " -> ".join(f"{loss:.3g}" for loss in row["losses"]) if row["losses"] else "-"
    value = row[name]
    if value is None or (name == "weights" and not value):
        return "-"
    if name in ("spread", "share_of_peak"):
        return f"{100 * value:.0f}%"
    if name == "milliseconds":
        return f"{value:.3g}" if value < 100 else f"{value:.0f}"
    if name in ("peak_memory_mib", "weights"):
        return f"{value:,.0f}"
    return value if isinstance(value, str) else f"{value:.2f}"


def remarks(rows: Sequence[Row]) -> list[str]:
    """What should not be: networks of different size, a loss that is no number or does not fall."""
    found = []
    for work in dict.fromkeys(row.work for row in rows):
        same = [row for row in rows if row.work == work]
        usual = next((row for row in same if row.framework == "lamina"), same[0])
        for row in same:
            if row.weights != usual.weights:
                more = row.weights - usual.weights
                found.append(
                    f"{work}: {row.framework} has {row.weights:,} weights, {more:+,} beside {usual.framework}'s."
                )
            if row.losses and not all(math.isfinite(loss) for loss in row.losses):
                found.append(f"{work}: the loss of {row.framework} is no number.")
            elif row.losses and work != "dcgan" and row.losses[1] >= row.losses[0]:
                found.append(f"{work}: the loss of {row.framework} does not fall.")
    return found
