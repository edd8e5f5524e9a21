"""A checkpoint's folder without training: its lock, and how often it is saved to."""

import contextlib
import errno
import os
import sys
import threading
import weakref

import numpy as np
import pytest

import lamina as lm
from lamina.training import checkpoint


class Msvcrt:
    """Locks as Windows has them: of bytes from where the file stands, and gone with the handle."""

    LK_NBLCK = 2

    def __init__(self):
        self.handles = set()

    def locking(self, handle, mode, count):
        assert (mode, count, os.lseek(handle, 0, os.SEEK_CUR)) == (self.LK_NBLCK, 1, 0)

        def same(other):
            with contextlib.suppress(OSError):  # that was closed, and locks nothing any more
                return os.path.samestat(os.fstat(other), os.fstat(handle))
            return False

        if any(map(same, self.handles - {handle})):
            raise PermissionError(errno.EACCES, "Permission denied")
        self.handles.add(handle)


def test_windows_locks_by_its_own_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", Msvcrt())
    monkeypatch.delattr(os, "pread")
    folder = checkpoint.Folder(checkpoint.Checkpoint(tmp_path))
    monkeypatch.setattr(checkpoint._Lock, "_held", {})  # as in another process
    with pytest.raises(lm.FileError, match=r"is in use by another run\. Wait for it"):
        checkpoint.Folder(checkpoint.Checkpoint(tmp_path))
    assert (tmp_path / "lock").read_text() == str(os.getpid())
    folder.close()
    checkpoint.Folder(checkpoint.Checkpoint(tmp_path)).close()


def test_a_folder_that_cannot_be_locked_says_why(tmp_path, monkeypatch):
    def locking(*arguments):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.lockf", locking)
    with pytest.raises(lm.FileError, match=f"lock cannot be written: {os.strerror(errno.ENOLCK)}"):
        checkpoint.Folder(checkpoint.Checkpoint(tmp_path))


def test_saving_takes_at_most_its_share_of_the_time_and_holds_one_copy(tmp_path, monkeypatch):
    """By a clock that moves only when something is done: steps of a second, copies of two, files that take four."""
    clock, held, most = [0.0], set(), []
    monkeypatch.setattr(checkpoint.time, "perf_counter", lambda: clock[0])
    folder = checkpoint.Folder(checkpoint.Checkpoint(tmp_path, every_seconds=0))

    def spend(seconds):
        clock[0] += seconds

    def gather():
        spend(2)
        array = np.zeros(1)
        held.add(id(array))
        weakref.finalize(array, held.discard, id(array))
        most.append(len(held))
        return {}, {"array": array}

    written = threading.Event()

    def write(path, tensors, metadata):
        assert written.wait(10)
        spend(4)

    monkeypatch.setattr(checkpoint, "write_tensors", write)
    saves, steps = 0, 5000
    for step in range(steps):
        spend(1)
        if folder.due(epoch_ended=step % 7 == 0):
            written.clear()
            folder.save(gather, lambda *given: None, wait=False)
            assert not folder.due(epoch_ended=True)  # it is being written
            written.set()
            folder.wait()
            saves += 1
    folder.close()
    assert (saves - 1) * 6 <= 0.03 * clock[0] <= (saves + 1) * 6  # all but the first one wait for their turn
    assert max(most) == 1
