"""Runs every program of this folder, or those that are named: ``python -m torture NAME ...``."""

import pkgutil
import subprocess
import sys

import torture


def main() -> None:
    """Run them one after the other; the exit status tells whether any failed."""
    programs = [m.name for m in pkgutil.iter_modules(torture.__path__) if not m.name.startswith("_")]
    names, failed = sys.argv[1:] or programs, []
    if unknown := [name for name in names if name not in programs]:
        sys.exit(f"there is no program {unknown[0]!r}; there are {', '.join(programs)}")
    for name in names:
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"torture.{name}"]).returncode:
            failed.append(name)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
