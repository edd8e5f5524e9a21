"""A table ten times larger than the memory that a process may have: refused on one line, and so is one that just does not fit.

Run:  python -m torture.large_table
"""

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

#: what a process may have beyond what it has when it begins to read, in bytes
ALLOWED = 400 << 20
ROW = "0.123,0.456,0.789,r,oak\n"

PROGRAM = """
import resource, sys
import lamina.cli, lamina.families.fcnn, polars
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + {allowed}, used + {allowed}))
sys.argv = ["lamina", "train", {table!r}, "--target", "kind", "--out", {out!r}, "--epochs", "1"]
lamina.cli.main()
"""


def trained(table: Path) -> tuple[int, str]:
    """The exit status and the errors of training on a table with little memory."""
    program = PROGRAM.format(allowed=ALLOWED, table=str(table), out=str(table.parent / "out"))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    return done.returncode, done.stderr


def main() -> None:
    """Make the tables and offer them."""
    if not hasattr(resource, "RLIMIT_AS") or not sys.platform.startswith("linux"):
        sys.exit("this needs Linux")
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "table.csv"
        for what, size, real in (
            ("ten times the memory", 10 * ALLOWED, 1 << 21),
            ("a fifth of it", ALLOWED // 5, ALLOWED // 5),
        ):
            with table.open("w") as file:
                file.write("a,b,c,color,kind\n" + ROW * (real // len(ROW)))
                file.truncate(
                    size if size > real else file.tell()
                )  # the rest is a hole, which takes no room on the disk
            status, told = trained(table)
            print(f"{what}: status {status}: {told.strip()}")
            if status != 2 or len(told.splitlines()) != 1 or "MB of memory, and there are" not in told:
                sys.exit("it was to be refused on one line")


if __name__ == "__main__":
    main()
