"""What happened in training: one list of numbers for each thing logged."""

from typing import Any


class History:
    """The logs of every epoch, as ``fit`` returns them.

    Attributes:
        epoch: the epochs, counted from 0.
        history: name -> one number for each epoch.
        params: how ``fit`` was called.
    """

    def __init__(self, params: dict[str, Any] | None = None) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}
        self.params = params or {}

    def append(self, epoch: int, logs: dict[str, float]) -> None:
        """Add one epoch's logs."""
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)

    def plot(self, path: str | None = None) -> Any:
        """Draw the curves, training and validation together, one panel for each thing logged.

        Args:
            path: where to write a picture; shown by notebooks without one.

        Returns:
            A matplotlib figure.
        """
        from lamina.report import curves  # row 8, and slow to import: only where it is used

        return curves(self.history, path)

    def __repr__(self) -> str:
        last = ", ".join(f"{name}={values[-1]:.4g}" for name, values in self.history.items() if values)
        return f"<History of {len(self.epoch)} epochs: {last}>"
