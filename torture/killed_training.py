"""Training programs killed at every change on the disk and at random instants: resumed, they leave the same bytes.

Each run is a process of its own, forked before JAX starts anything, and is killed by SIGKILL; the first program at every
place there is, the others at some. Run:  python -m torture.killed_training [--programs network,duel] [--instants N] [--seed N]
"""

import argparse
import contextlib
import errno
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".cache" / "programs"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")
os.environ.setdefault("OMP_NUM_THREADS", "1")
warnings.simplefilter("ignore")  # of forking

from lamina.saving import disk  # noqa: E402
from lamina.training import checkpoint  # noqa: E402
from torture._programs import PROGRAMS  # noqa: E402

CHANGES = ("write", "sync", "rename", "sync_folder", "truncate", "remove")
FAULTS = (errno.ENOSPC, errno.EIO, errno.EROFS)


def fail_at(at: int, code: int | None) -> None:
    """Let the ``at``-th change on the disk kill the process, or fail with ``code`` as all later ones of its kind."""
    count, broken = 0, False

    def wrapped(name, real):
        def change(*args):
            nonlocal count, broken
            count += 1
            if count == at and code is None:
                if name == "write":  # half of it arrives
                    real(args[0], args[1][: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            broken = broken or count == at
            if broken and name != "remove":  # what was begun can still be taken away
                raise OSError(code, os.strerror(code))
            return real(*args)

        return change

    for name in CHANGES:
        setattr(disk, name, wrapped(name, getattr(disk, name)))


def run(name: str, folder: Path, at: int | None = None, code: int | None = None, after: float | None = None):
    """Run a program in a process of its own.

    Args:
        name: which.
        folder: where.
        at: at which change on the disk it is killed, or the disk fails.
        code: how the disk fails.
        after: after how many seconds it is killed.

    Returns:
        Its exit status (minus the signal that killed it), and what it wrote to standard error.
    """
    log = folder / "stderr"
    child = os.fork()
    if not child:
        status = 1
        try:
            os.chdir(folder)
            with log.open("w") as file, open(os.devnull, "w") as nothing:
                os.dup2(file.fileno(), 2)
                os.dup2(nothing.fileno(), 1)
            if at is not None:
                fail_at(at, code)
            checkpoint.SHARE = float("inf")  # small programs are saved as often as large ones
            (folder / "out").mkdir(exist_ok=True)
            PROGRAMS[name](folder)
            status = 0
        except SystemExit as left:
            status = left.code or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    if after is not None:
        end = time.perf_counter() + after
        while time.perf_counter() < end and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            time.sleep(0.002)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    _, raw = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(raw), log.read_text(errors="replace")


def left(folder: Path) -> dict[str, bytes]:
    """The files under ``out``, but for pictures, and what a save by the program itself left when it was killed."""
    files = [path for path in sorted((folder / "out").rglob("*")) if path.is_file() and path.suffix != ".png"]
    mine = ".model.safetensors."
    return {str(p.relative_to(folder)): p.read_bytes() for p in files if not p.name.startswith(mine)}


class Torture:
    """One program and what it leaves when nothing happens to it."""

    def __init__(self, name: str, place: Path) -> None:
        self.name, self.place, self.count = name, place, 0
        whole = self.folder()
        status, text = run(name, whole)
        assert status == 0, text
        began = time.perf_counter()
        again = self.folder()
        status, text = run(name, again)
        self.seconds = time.perf_counter() - began
        assert status == 0, text
        self.expected = left(whole)
        assert left(again) == self.expected, f"{name} does not leave the same twice"
        assert run(name, whole)[0] == 0
        assert left(whole) == self.expected, f"{name}, run again when it is complete, leaves something else"
        shutil.rmtree(whole)
        shutil.rmtree(again)

    def folder(self) -> Path:
        self.count += 1
        path = self.place / f"{self.name}{self.count}"
        path.mkdir()
        return path

    def finish(self, folder: Path, what: str) -> None:
        """Run to the end, and compare."""
        status, text = run(self.name, folder)
        assert status == 0, f"{self.name}, {what}: {text}"
        found = left(folder)
        wrong = [name for name in {*found, *self.expected} if found.get(name) != self.expected.get(name)]
        assert not wrong, f"{self.name}, {what}: differs in {wrong}; kept in {folder}"
        shutil.rmtree(folder)

    def at_every_change(self) -> int:
        """Killed at the n-th change, for n = 1, 2, 3 ... until it finishes."""
        at = 1
        while True:
            folder = self.folder()
            status, text = run(self.name, folder, at)
            assert status in (0, -signal.SIGKILL), text
            self.finish(folder, f"killed at change {at}")
            if status == 0:
                return at - 1
            at += 1

    def twice(self, changes: int) -> int:
        """Killed at a change, and again soon afterwards."""
        for at in range(1, changes + 1, 3):
            folder = self.folder()
            run(self.name, folder, at)
            run(self.name, folder, 5)
            self.finish(folder, f"killed at change {at} and 5 changes later")
        return len(range(1, changes + 1, 3))

    def at_instants(self, instants: int, chance: random.Random) -> int:
        """Killed at random instants, some of them several times."""
        for _ in range(instants):
            folder = self.folder()
            after = []
            while not after or chance.random() < 0.3:
                after.append(chance.uniform(0, 1.05 * self.seconds))
                run(self.name, folder, after=after[-1])
            self.finish(folder, f"killed after {after} s")
        return instants

    def disk_fails(self, changes: int, every: int) -> int:
        """Each fault at the n-th change and ever after: one line, no success, and the checkpoint of before goes on."""
        count = 0
        for code in FAULTS:
            for at in range(1, changes + 1, every):
                folder = self.folder()
                status, text = run(self.name, folder, at, code)
                last = text.strip().splitlines()[-1] if text.strip() else ""
                assert status > 0, f"{self.name}: exit code {status} though the disk failed at change {at}: {text}"
                assert os.strerror(code) in last, text
                assert "FileError" in last or last.startswith("lamina: "), text
                self.finish(folder, f"{errno.errorcode[code]} at change {at}")
                count += 1
        return count


def main() -> None:
    """Torture each program in turn."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--programs", default=",".join(PROGRAMS), help="which; the first is tortured at every place")
    parser.add_argument(
        "--instants", type=int, default=100, help="random instants; a tenth for all but the first program"
    )
    parser.add_argument("--parts", default="changes,instants,faults", help="of the torture")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    folder = tempfile.mkdtemp()  # kept if something fails
    for number, name in enumerate(options.programs.split(",")):
        torture = Torture(name, Path(folder))
        thorough = number == 0
        changes = 16
        for part in options.parts.split(","):
            began = time.perf_counter()
            if part == "changes":
                if thorough:
                    changes = torture.at_every_change()
                count = torture.twice(changes)
                done = f"killed at {changes if thorough else count} changes on the disk, and {count} times twice"
            elif part == "instants":
                done = (
                    f"killed at {torture.at_instants(-(-options.instants // (1 if thorough else 10)), chance)} instants"
                )
            else:
                done = f"the disk failed {torture.disk_fails(changes, 1 if thorough else 6)} times"
            print(f"{name}: {done}; the same bytes every time ({time.perf_counter() - began:.0f} s)", flush=True)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
