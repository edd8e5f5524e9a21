"""SIGINT and SIGTERM while a run is checkpointed: the first is noted, a second ends the process at once."""

import signal
import threading
from types import FrameType
from typing import Any, Self


class Signals:
    """Inside, the first signal is noted; the next one does what the system does by default. In the main thread only.

    Attributes:
        received: the signal that came, if one did.
    """

    received: signal.Signals | None = None

    def __enter__(self) -> Self:
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: Any) -> None:
        for number, handler in self._before.items():
            # None is a handler that was not set by Python, and cannot be set by it.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)
