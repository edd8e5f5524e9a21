"""Training programs killed, and disks that fail, at every change of a file: resumed, they leave the same bytes.

Each run is a process of its own, forked before JAX starts anything. ``_faults.c`` lies below every library in it (Linux and
a C compiler are needed): it counts every change below the folder ``disk``, whoever makes it, and kills the process or lets
the change fail. Run:  python -m torture.killed_training [--programs network,duel] [--thorough network] [--instants N]
"""

import argparse
import ctypes
import errno
import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(__file__).parents[1] / ".cache"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE / "programs"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")
os.environ.setdefault("OMP_NUM_THREADS", "1")
warnings.simplefilter("ignore")  # of forking

from lamina.training import checkpoint  # noqa: E402
from lamina.training.session import Session  # noqa: E402
from torture._programs import PROGRAMS  # noqa: E402

FAULTS = (errno.ENOSPC, errno.EIO, errno.EROFS)
#: epoch and step
Place = tuple[int, int]


def preload() -> None:
    """Start this program again with ``_faults.c`` below every library."""
    library = CACHE / "faults.so"
    if os.environ.get("LD_PRELOAD") != str(library):
        CACHE.mkdir(exist_ok=True)
        source, made = Path(__file__).with_name("_faults.c"), library.with_suffix(f".{os.getpid()}")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", made, source, "-ldl"], check=True)
        made.replace(library)
        os.environ["LD_PRELOAD"] = str(library)
        os.execv(sys.executable, [sys.executable, "-m", "torture.killed_training", *sys.argv[1:]])


@dataclass
class Fault:
    """What happens to a run.

    Attributes:
        at: at which change it is killed, or the disk fails; 0 for none.
        code: how the disk fails; 0 for being killed.
        lasting: whether all later changes fail too.
        step: the folder, epoch and step after which it is killed, as soon as what is being saved is saved.
        after: after how many seconds of the processor's work it is killed; 0 for never.
    """

    at: int = 0
    code: int = 0
    lasting: bool = False
    step: tuple[str, int, int] | None = None
    after: float = 0


class Run:
    """A program run in a process of its own.

    Args:
        name: which program.
        folder: where.
        fault: what happens to it.

    Attributes:
        status: its exit status, or minus the signal that killed it.
        seconds: how long the processor worked.
        error: what it wrote to standard error.
        changes: the kind and the path of each change that it made, or was about to make.
        notes: what training did, in order: "began", "stepped" or "saved", in which checkpoint's folder, and where.
    """

    def __init__(self, name: str, folder: Path, fault: Fault) -> None:
        child = os.fork()
        if not child:
            _child(name, folder, fault)
        _, raw, usage = os.wait4(child, 0)
        self.status, self.seconds = os.waitstatus_to_exitcode(raw), usage.ru_utime + usage.ru_stime
        self.error = (folder / "error").read_text(errors="replace")
        self.changes = [line.split(" ", 1) for line in (folder / "changes").read_text().splitlines()]
        lines = [line.split(" ") for line in (folder / "notes").read_text().splitlines()]
        self.notes = [(what, where, (int(epoch), int(step))) for what, where, epoch, step in lines]

    def last(self, *kinds: str) -> dict[str, Place]:
        """Where training last was, in each folder."""
        return {where: place for what, where, place in self.notes if what in kinds}

    @property
    def epoch(self) -> tuple[str, int] | None:
        """The folder and the epoch in which it ended."""
        places = [(where, place[0]) for what, where, place in self.notes if what != "saved"]
        return places[-1] if places else None


def _child(name: str, folder: Path, fault: Fault) -> None:
    status = 1
    try:
        os.chdir(folder)
        for part in ("disk", "left"):
            (folder / part).mkdir(exist_ok=True)
        changes, notes, error = (
            os.open(folder / part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
            for part in ("changes", "notes", "error")
        )
        os.dup2(error, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        checkpoint.SHARE = float("inf")  # small programs are saved as often as large ones
        _watch(notes, fault.step)
        faults = ctypes.CDLL(None)
        if fault.after:
            faults.faults_after(ctypes.c_double(fault.after))
        path = str(folder / "disk").encode()
        faults.faults_begin(path, ctypes.c_long(fault.at), fault.code, int(fault.lasting), changes)
        PROGRAMS[name](Path())
        status = 0
    except SystemExit as left:
        status = left.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _watch(notes: int, kill: tuple[str, int, int] | None) -> None:
    """Note what training does, and kill the process at a step."""
    write, begin, after_step, after_epoch = (
        *(checkpoint.write_tensors, Session.begin),
        *(Session.after_step, Session.after_epoch),
    )

    def note(what, folder, epoch, step):
        os.write(notes, f"{what} {folder.name} {epoch} {step}\n".encode())

    def write_tensors(path, tensors, metadata):
        write(path, tensors, metadata)
        state = json.loads(metadata["lamina"])["state"]
        note("saved", path.parent, state["epoch"], state["step"])

    def begun(self, first_epoch):
        start = begin(self, first_epoch)
        note("began", self.folder.path, start.epoch, start.done)
        return start

    def stepped(self, epoch, done):
        note("stepped", self.folder.path, epoch, done)
        after_step(self, epoch, done)
        if kill == (self.folder.path.name, epoch, done):
            self.folder.wait()
            os.kill(os.getpid(), signal.SIGKILL)

    def ended(self, epoch, logs):
        after_epoch(self, epoch, logs)
        note("stepped", self.folder.path, epoch + 1, 0)

    checkpoint.write_tensors = write_tensors
    Session.begin, Session.after_step, Session.after_epoch = begun, stepped, ended


def held(folder: Path) -> dict[str, Place]:
    """Where training was when each checkpoint was saved; all of them have to load."""
    found = {}
    for file in (folder / "disk").glob(f"*/{checkpoint.FILE}"):
        with tempfile.TemporaryDirectory() as copy:
            shutil.copy(file, copy)
            opened = checkpoint.Folder(checkpoint.Checkpoint(copy))
            saved = opened.read()
            opened.close()
        assert saved is not None
        found[file.parent.name] = (saved[0]["state"]["epoch"], saved[0]["state"]["step"])
    return found


def left(folder: Path) -> dict[str, bytes]:
    """All files, but for checkpoints (``held`` is for them), locks, and what the program's own saving left half-written."""
    files = [path for part in ("disk", "left") for path in sorted((folder / part).rglob("*")) if path.is_file()]
    kept = [path for path in files if path.name not in (checkpoint.FILE, "lock")]
    kept = [path for path in kept if not path.name.startswith(".model.safetensors.")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept}


class Torture:
    """One program and what it leaves when nothing happens to it."""

    def __init__(self, name: str, place: Path) -> None:
        self.name, self.place, self.count = name, place, 0
        whole, again = self.folder(), self.folder()
        self.run(whole)
        self.whole = self.run(again)
        self.expected = left(whole)
        assert left(again) == self.expected, f"{name} does not leave the same twice"
        self.run(whole)
        assert left(whole) == self.expected, f"{name}, run again when it is complete, leaves something else"
        shutil.rmtree(whole)
        shutil.rmtree(again)

    def folder(self) -> Path:
        self.count += 1
        path = self.place / f"{self.name}{self.count}"
        path.mkdir()
        return path

    def run(self, folder: Path) -> Run:
        """Run it undisturbed."""
        run = Run(self.name, folder, Fault())
        assert run.status == 0, f"{self.name}: {run.error}"
        return run

    def hit(self, folder: Path, fault: Fault) -> Run:
        """Run it until something happens; afterwards no checkpoint may be older than what was saved last."""
        run = Run(self.name, folder, fault)
        found = held(folder)
        older = [where for where, place in run.last("saved").items() if found.get(where, (-1, -1)) < place]
        assert not older, f"{self.name}, {fault}: {older} lost what was saved; kept in {folder}"
        return run

    def killed(self, folder: Path, fault: Fault) -> Run:
        run = self.hit(folder, fault)
        assert run.status in (0, -signal.SIGKILL), f"{self.name}, {fault}: {run.error}"
        return run

    def finish(self, folder: Path, what: object) -> None:
        """Run to the end: it has to begin where the checkpoints were, and leave the expected bytes."""
        before = held(folder)
        run = self.run(folder)
        for kind, where, place in run.notes:
            if kind == "began":
                assert place == before.get(where, (0, 0)), f"{self.name}, {what}: began at {place}, not {before}"
        found = left(folder)
        wrong = [name for name in {*found, *self.expected} if found.get(name) != self.expected.get(name)]
        assert not wrong, f"{self.name}, {what}: differs in {wrong}; kept in {folder}"
        shutil.rmtree(folder)

    def at_every_change(self, every: int) -> int:
        """Killed at the n-th change, for n = 1, 2, 3 ... until it finishes."""
        count = 0
        while True:
            folder, fault = self.folder(), Fault(at=1 + count * every)
            run = self.killed(folder, fault)
            self.finish(folder, fault)
            if run.status == 0:
                return count
            count += 1

    def at_two_steps(self, every: int) -> int:
        """Killed after two steps of one epoch, for all pairs in which what was run before the second is in the checkpoint."""
        steps = [(where, *place) for what, where, place in self.whole.notes if what == "stepped" and place[1]]
        pairs = [(one, two) for one in steps for two in steps if one[:2] == two[:2] and one[2] < two[2]][::every]
        for pair in pairs:
            folder = self.folder()
            for step in pair:
                assert self.killed(folder, Fault(step=step)).status == -signal.SIGKILL, pair
            self.finish(folder, pair)
        return len(pairs)

    def at_two_changes(self, every: int, chance: random.Random) -> int:
        """Killed at a change, and at another one while training is still in the same epoch."""
        count = 0
        for at in range(1, len(self.whole.changes), every):
            folder, again = self.folder(), chance.randint(1, 20)
            first = self.killed(folder, Fault(at=at))
            began = first.epoch or (None, 0)
            while again:
                copy = self.folder()
                shutil.copytree(folder, copy, dirs_exist_ok=True)
                second = self.killed(copy, Fault(at=again))
                same = second.status and (second.epoch is None or began[0] is None or second.epoch == began)
                if same:
                    self.finish(copy, f"killed at change {at}, and in the same epoch at change {again}")
                    count += 1
                    break
                shutil.rmtree(copy)
                again //= 2
            shutil.rmtree(folder)
        return count

    def at_instants(self, instants: int, chance: random.Random) -> tuple[int, int]:
        """Killed at random instants, some of them several times; counts runs and kills."""
        kills = 0
        for _ in range(instants):
            folder, after = self.folder(), []
            while not after or chance.random() < 0.3:
                after.append(chance.uniform(0, 1.05 * self.whole.seconds))
                kills += self.killed(folder, Fault(after=after[-1])).status != 0
            self.finish(folder, f"killed after {after} s")
        return instants, kills

    def disk_fails(self, every: int) -> int:
        """Each fault at the n-th change, once or from then on: one line, no success, and the checkpoint of before loads.

        Every fourth goes on to the end: what it leaves is what a kill at the same change does.
        """
        count = 0
        for number, code in enumerate(FAULTS):
            for at in range(1, len(self.whole.changes) + 1, every):
                folder, fault = self.folder(), Fault(at=at, code=code, lasting=bool((at // every + number) % 2))
                run = self.hit(folder, fault)
                if len(run.changes) < at and run.status == 0:  # saves come when they come: this time there were fewer
                    self.finish(folder, fault)
                    continue
                lines = run.error.strip().splitlines() or [""]
                about = f"{self.name}, {fault}, {run.changes[at - 1]}: exit code {run.status}: {run.error}"
                assert run.status > 0, about
                assert os.strerror(code) in lines[-1], about
                if self.name == "command":
                    assert (len(lines), run.status) == (1, 2), about
                    assert lines[0].startswith("lamina: "), about
                else:
                    assert lines[-1].startswith("lamina.core.errors.FileError: "), about
                    assert sum(line.startswith("Traceback") for line in lines) == 1, about
                if count % 4 == 0:
                    self.finish(folder, fault)
                else:
                    shutil.rmtree(folder)
                count += 1
        return count


def main() -> None:
    """Torture each program in turn."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--programs", default=",".join(PROGRAMS), help="which")
    parser.add_argument("--thorough", default="network", help="those that are tortured at every change")
    parser.add_argument("--every", type=int, default=5, help="at each how-manieth change the others are tortured")
    parser.add_argument(
        "--instants", type=int, default=100, help="random instants; a fifth for all but the thorough ones"
    )
    parser.add_argument("--parts", default="changes,twice,instants,faults", help="of the torture")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    preload()
    for module in ("lamina.cli.work", "matplotlib.backends.backend_agg"):  # once, and not in every process
        importlib.import_module(module)
    chance = random.Random(options.seed)
    folder = tempfile.mkdtemp()  # kept if something fails
    for name in options.programs.split(","):
        torture = Torture(name, Path(folder))
        kinds = Counter(kind for kind, _ in torture.whole.changes)
        told = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        print(f"{name}: {len(torture.whole.changes)} changes ({told}), {torture.whole.seconds:.1f} s a run", flush=True)
        thorough = name in options.thorough.split(",")
        every, instants = (1, options.instants) if thorough else (options.every, -(-options.instants // 5))
        for part in options.parts.split(","):
            began = time.perf_counter()
            if part == "changes":
                done = f"killed at {torture.at_every_change(every)} changes"
            elif part == "twice":
                steps, changes = torture.at_two_steps(every), torture.at_two_changes(3 * every, chance)
                done = f"killed twice in one epoch, {steps} times at two steps and {changes} times at two changes"
            elif part == "instants":
                done = "killed at random instants: {} runs, {} kills".format(*torture.at_instants(instants, chance))
            else:
                done = f"the disk failed {torture.disk_fails(every)} times"
            print(f"{name}: {done}; the same bytes every time ({time.perf_counter() - began:.0f} s)", flush=True)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
