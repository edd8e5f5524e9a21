"""The progress of training on a screen: a live bar in a terminal or notebook, one plain line an epoch in a log file."""

import importlib.util
import sys
import time
from typing import Any

from lamina.training.callbacks import Callback, Logs


def shown(value: float) -> str:
    """A number in four significant digits, without needless zeros.

    >>> shown(0.123456), shown(1e-5), shown(12345.678), shown(1.0)
    ('0.1235', '1e-05', '1.235e+04', '1.0000')
    """
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e3 or value == 0 else f"{value:.4g}"


def described(logs: Logs) -> str:
    """The logs in one line."""
    return "  ".join(f"{name} {shown(value)}" for name, value in logs.items())


class ProgressBar(Callback):
    """Shows how far the epoch is and what was logged.

    Args:
        verbose: 1 for a bar where there is a terminal or notebook, 2 for one line an epoch.
        epochs: the number of epochs.
        steps: the steps in an epoch, if known.
    """

    def __init__(self, verbose: int, epochs: int, steps: int | None) -> None:
        self.epochs, self.steps = epochs, steps
        self.live = verbose == 1 and (_in_notebook() or sys.stdout.isatty())
        self._bar: Any = None
        self._task: Any = None

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self.epoch, self.started = epoch, time.perf_counter()
        if not self.live:
            return
        if self._bar is not None:
            self._bar.reset(self._task, description=self._title(), total=self.steps, logs="")
            return
        from rich import progress

        self._bar = progress.Progress(
            progress.TextColumn("[bold]{task.description}"),
            progress.BarColumn(bar_width=24),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[logs]}"),
            progress.TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            transient=True,
            refresh_per_second=4,
        )
        self._bar.start()
        self._task = self._bar.add_task(self._title(), total=self.steps, logs="")

    def on_steps(self, done: int, logs: Logs) -> None:
        """Called a few times a second with the steps done and the logs so far."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, logs=described(logs))

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        seconds = time.perf_counter() - self.started
        line = f"{self._title()}  {seconds:5.1f}s  {described(logs or {})}"
        if self._bar is None:
            print(line, flush=True)
        else:  # above the bar
            self._bar.console.print(line, soft_wrap=True, markup=False, highlight=False)

    def close(self) -> None:
        """Take the bar off the screen."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _title(self) -> str:
        width = len(str(self.epochs))
        return f"Epoch {self.epoch + 1:>{width}}/{self.epochs}"


def _in_notebook() -> bool:
    """Whether this is a notebook in which ``rich`` can draw; without ``ipywidgets`` there is a line an epoch."""
    shell = sys.modules.get("IPython")
    instance = shell.get_ipython() if shell is not None else None
    return type(instance).__name__ == "ZMQInteractiveShell" and importlib.util.find_spec("ipywidgets") is not None
