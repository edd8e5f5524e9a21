"""Runs every program of this folder, or those that are named: ``python -m torture NAME ...``."""

import pkgutil
import subprocess
import sys

import torture


def main() -> None:
    """Run them one after the other; the exit status tells whether any failed."""
    names = sys.argv[1:] or [m.name for m in pkgutil.iter_modules(torture.__path__) if not m.name.startswith("_")]
    failed = []
    for name in names:
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"torture.{name}"]).returncode:
            failed.append(name)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
