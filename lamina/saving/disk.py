"""Files that are whole at every instant, whatever stops the program; all that training changes goes through here."""

import contextlib
import glob
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from lamina.core.errors import FileError

#: seconds within which a temporary file may have been made and not yet marked as being written
YOUNG = 60.0

# -- what is done to the disk; errors are the system's own -------------------------------------------------------------


def write(handle: int, data: bytes | memoryview) -> None:
    """Write all of ``data``."""
    rest = memoryview(data).cast("B")
    while rest:
        rest = rest[os.write(handle, rest) :]


def sync(handle: int) -> None:
    """Wait until what was written is on the disk."""
    os.fsync(handle)


def rename(source: str | Path, target: str | Path) -> None:
    """Give a file another name, in place of what has it."""
    os.replace(source, target)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk. Systems that cannot open a folder keep them without."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def truncate(handle: int, length: int) -> None:
    """Cut a file off."""
    os.ftruncate(handle, length)


def remove(path: str | Path) -> None:
    """Remove a file."""
    os.unlink(path)


# -- what the library does with files ----------------------------------------------------------------------------------


@contextlib.contextmanager
def told(path: str | Path) -> Iterator[None]:
    """Errors of the system as one line that names the file.

    Raises:
        FileError: for every ``OSError`` inside.
    """
    try:
        yield
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror or error}") from None


def replace(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Write a file so that at every instant either the old or the new one is there, whole.

    Args:
        path: the file.
        parts: its bytes, in pieces.

    Raises:
        FileError: if the folder is not there or cannot be written to, or the disk is full.
    """
    with told(path):
        _remove_left(path)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            try:
                _hold(handle)
                for part in parts:
                    write(handle, part)
                sync(handle)
            finally:
                os.close(handle)
            os.chmod(temporary, 0o666 & ~_umask())
            rename(temporary, path)
        except BaseException:
            remove(temporary)
            raise
        sync_folder(path.parent)


def sweep(path: Path) -> None:
    """Remove what a killed :func:`replace` of this file left; nobody else may be writing it."""
    with told(path.parent):
        for left in _temporary(path):
            remove(left)


def _temporary(path: Path) -> list[Path]:
    """The temporary files of :func:`replace` that there are."""
    return list(path.parent.glob(f".{glob.escape(path.name)}.{'[a-z0-9_]' * 8}"))


def _hold(handle: int) -> bool:
    """Mark a file as one that is being written, until it is closed or the process ends; tell whether it was free."""
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # somebody writes it, or the file system has no such marks
        return False
    return True


def _remove_left(path: Path) -> None:
    """Remove temporary files that killed processes left: old ones that nobody is writing. Others stay, without a word."""
    for left in _temporary(path):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime < YOUNG:
                continue
            handle = os.open(left, os.O_WRONLY)
            try:
                if _hold(handle):
                    remove(left)
            finally:
                os.close(handle)


def append(path: Path, text: str) -> None:
    """Write ``text`` at the end of a file, which is made if it is not there.

    Raises:
        FileError: if it cannot be written.
    """
    _changed(path, os.O_APPEND, lambda handle: write(handle, text.encode()))


def shorten(path: Path, length: int) -> None:
    """Cut a file off at ``length`` bytes; it is made if it is not there and the length is 0.

    Raises:
        FileError: if it is shorter, or cannot be written.
    """
    have = path.stat().st_size if path.exists() else 0
    if have < length:
        raise FileError(f"{path} has {have} bytes, and had {length} when the checkpoint was made. Was it changed?")
    _changed(path, 0, lambda handle: truncate(handle, length))


def flush(path: Path) -> int:
    """Wait until a file is on the disk; gives its length in bytes."""
    _changed(path, 0, sync)
    return path.stat().st_size


def _changed(path: Path, flags: int, change: Callable[[int], None]) -> None:
    with told(path):
        # Windows would write "\r\n" for "\n", and lengths would not be those that checkpoints keep
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0) | flags, 0o666)
        try:
            change(handle)
        finally:
            os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
