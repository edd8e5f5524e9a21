"""The checkpoint folder of a run: one process at a time, one file that is whole at every instant, written beside training."""

import errno
import json
import math
import os
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lamina.core import __version__
from lamina.core.errors import ConfigError, FileError
from lamina.saving import disk
from lamina.saving.container import parse_json
from lamina.saving.tensors import bytes_of, read_tensors, write_tensors

#: the share of a run's time that saving may take
SHARE = 0.03
#: goes up with every change of what a checkpoint holds
FORMAT = 1
#: the checkpoint's name in its folder
FILE = "checkpoint.safetensors"


class ChangedProgramError(ConfigError):
    """A checkpoint was made by another program than the one that wants to go on."""


@dataclass(frozen=True)
class Checkpoint:
    """Where ``fit(checkpoint=...)`` keeps its state, and how often it saves; a path stands for one with the defaults.

    Args:
        folder: the folder; every ``fit`` of a program has its own. It is made if it is not there.
        every_seconds: how long to train between two saves within an epoch. Epochs' ends are saved too. Saving never takes
            more than 3 % of the time: where it would, the next save comes later.
        accept_changes: whether to go on though data, settings or versions are not those that the checkpoint was made with.

    Raises:
        ConfigError: for a time that is not a number of at least 0.

    >>> Checkpoint("runs/digits", every_seconds=300).folder
    PosixPath('runs/digits')
    """

    folder: str | Path
    every_seconds: float = 60.0
    accept_changes: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.folder, str | os.PathLike):
            raise ConfigError(f"checkpoint is a folder or lm.Checkpoint(folder); received {self.folder!r}")
        seconds = self.every_seconds
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
            raise ConfigError(f"every_seconds is a number of at least 0; received {seconds!r}")
        object.__setattr__(self, "folder", Path(self.folder))

    @classmethod
    def get(cls, given: "str | Path | Checkpoint") -> "Checkpoint":
        """``given`` itself, or the checkpoint in the folder ``given``."""
        return given if isinstance(given, Checkpoint) else cls(given)


class Folder:
    """A checkpoint folder in use; nobody else may use it until it is closed or the process ends.

    Args:
        settings: where, and how often.

    Raises:
        FileError: if another run uses it, or it cannot be made.
    """

    def __init__(self, settings: Checkpoint) -> None:
        self.settings, self.path = settings, Path(settings.folder)
        self.file = self.path / FILE
        with disk.told(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        self._lock = _Lock(self.path)
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._ended, self._cost = -math.inf, 0.0
        self._began = time.perf_counter()
        try:
            disk.sweep(self.file)
        except FileError:
            self._lock.release()
            raise

    def close(self) -> None:
        """Wait for what is being written, and let others use the folder."""
        self.wait()
        self._lock.release()

    def wait(self) -> None:
        """Wait for what is being written."""
        if self._thread is not None:
            self._thread.join()

    def read(self) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
        """The JSON and the arrays of the checkpoint; ``None`` if there is none yet.

        Raises:
            FileError: if it is damaged, or of a newer format.
        """
        if not self.file.exists():
            return None
        tensors, metadata = read_tensors(self.file)
        try:
            description = parse_json(metadata["lamina"])
            written, version, checksum = (description[name] for name in ("checkpoint", "lamina", "checksum"))
        except (ValueError, KeyError, TypeError, RecursionError):
            raise FileError(f"{self.file} is damaged, or is not a checkpoint: it has no state of training.") from None
        if written != FORMAT:
            raise FileError(
                f"{self.file} has format {written}, written by Lamina {version}; this is {__version__}, whose checkpoints "
                f"have format {FORMAT}. Finish the run with that version, or give another folder."
            )
        if not all(isinstance(description.get(name), dict) for name in ("program", "state")):
            raise FileError(f"{self.file} is damaged, or is not a checkpoint: it has no state of training.")
        if checksum != _checksum(tensors, description):
            raise FileError(f"{self.file} is damaged: its checksum is not that of what it holds.")
        return description, tensors

    def due(self, epoch_ended: bool) -> bool:
        """Whether it is time for the next save."""
        self.raise_failure()
        if self._thread is not None and self._thread.is_alive():
            return False  # one at a time: so no more than one copy of the state is held
        now = time.perf_counter()
        if now - self._ended < self._cost / SHARE:
            return False
        return epoch_ended or now - self._began >= self.settings.every_seconds

    def save(
        self, gather: Callable[[], tuple[dict[str, Any], dict[str, np.ndarray]]], check: Callable[..., None], wait: bool
    ) -> None:
        """Write what ``gather`` returns, by a thread.

        Args:
            gather: copies the state, as JSON and arrays.
            check: called with both by the thread before writing; raises if they shall not be written.
            wait: whether to come back only when it is on the disk.

        Raises:
            FileError: if it, or what was written before, could not be written.
        """
        self.wait()
        self.raise_failure()
        self._began = time.perf_counter()
        description, tensors = gather()
        gathered = time.perf_counter() - self._began

        def write() -> None:
            start = time.perf_counter()
            try:
                check(description, tensors)
                told = {"checkpoint": FORMAT, "lamina": __version__, **description}
                told["checksum"] = _checksum(tensors, told)
                write_tensors(self.file, tensors, {"lamina": json.dumps(told)})
            except BaseException as failure:  # told to the thread that trains
                self._failure = failure
            self._ended = time.perf_counter()
            self._cost = gathered + self._ended - start

        self._thread = threading.Thread(target=write, name="lamina-checkpoint")
        self._thread.start()
        if wait:
            self.wait()
            self.raise_failure()

    def raise_failure(self) -> None:
        """Tell what went wrong in writing.

        Raises:
            FileError: if the disk is full, or cannot be written to.
        """
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure


def _checksum(tensors: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> int:
    """A sum over the arrays, their names and shapes, and the JSON without the sum itself."""
    kept = {key: value for key, value in description.items() if key != "checksum"}
    found = zlib.crc32(json.dumps(kept, sort_keys=True).encode())
    for name, array in sorted(tensors.items()):
        found = zlib.crc32(f"{name} {array.dtype.name} {array.shape}".encode(), found)
        found = zlib.crc32(bytes_of(array), found)
    return found


class _Lock:
    """The right to use a folder; it ends with the process, however that ends.

    It belongs to the process alone, not to those that it has forked: a worker that outlives it holds nothing.
    """

    _held: dict[Path, int] = {}  # noqa: RUF012 - all that this process holds

    def __init__(self, folder: Path) -> None:
        self.path = folder.resolve() / "lock"
        if self._held.get(self.path) == os.getpid():
            raise _in_use(folder, str(os.getpid()))
        with disk.told(self.path):
            self.handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                if not _lock(self.handle):
                    holder = os.pread(self.handle, 20, 0).decode(errors="replace") if hasattr(os, "pread") else ""
                    raise _in_use(folder, holder)
                disk.truncate(self.handle, 0)
                disk.write(self.handle, str(os.getpid()).encode())
            except BaseException:
                os.close(self.handle)
                raise
        self._held[self.path] = os.getpid()

    def release(self) -> None:
        self._held.pop(self.path, None)
        os.close(self.handle)


def _lock(handle: int) -> bool:
    """Lock a file; ``False`` if another process has done so. Systems that cannot lock files raise an ``OSError``."""
    try:
        try:
            import fcntl
        except ImportError:  # Windows
            import msvcrt

            windows: Any = msvcrt
            windows.locking(handle, windows.LK_NBLCK, 1)
        else:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True


def _in_use(folder: Path, process: str) -> FileError:
    by = f" (process {process.strip()})" if process.strip() else ""
    return FileError(f"{folder} is in use by another run{by}. Wait for it, or give another folder.")
