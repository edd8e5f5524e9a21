"""What a callback is."""

from typing import Any

import numpy as np

from lamina.core.module import Module
from lamina.core.state import Variable

Logs = dict[str, float]


class Callback:
    """The base of all callbacks: override what is needed.

    Attributes:
        model: the model that is trained.
        params: ``epochs``, ``steps`` and ``verbose`` of the run, whether it ``validates``, and whether it was
            ``resumed`` from a checkpoint.

    A callback that overrides a ``batch`` method is called after every step, which takes the numbers off the device each
    time; the others cost nothing.
    """

    model: Any = None
    params: dict[str, Any] = {}  # noqa: RUF012 - replaced, never changed

    def set_model(self, model: Any) -> None:
        """Called before training, with the model."""
        self.model = model

    def set_params(self, params: dict[str, Any]) -> None:
        """Called before training, with what is known of the run."""
        self.params = params

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """After the last epoch."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Before each epoch, counted from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """After each epoch and its validation."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before each step."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After each step."""

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Before evaluation."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """After evaluation."""

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Before prediction."""

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """After prediction."""

    def get_state(self) -> dict[str, Any] | None:
        """What shapes the callback's future, for ``fit(checkpoint=...)``: plain values and arrays by name.

        ``None``, as here, stands for all attributes that are such, and metrics and random generators, but for unchanged
        arguments of ``__init__``. Override it, with :meth:`set_state`, where that is not enough: for a file that is
        written to, its length.
        """
        return None

    def set_state(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`get_state` gave in a run that was stopped; called after :meth:`on_train_begin`.

        ``params["resumed"]`` tells :meth:`on_train_begin` that this will come.
        """
        for name, value in state.items():
            held = vars(self).get(name)
            if isinstance(held, np.random.Generator):
                held.bit_generator.state = value["generator"]
            elif isinstance(held, Variable):
                held.assign(value)
            elif isinstance(held, Module):
                variables = held.named_variables()
                for path, array in value.items():
                    variables[path].assign(array)
            else:
                setattr(self, name, value)

    def wants_batches(self) -> bool:
        """Whether the callback has to be called after every step."""
        own = type(self)
        return (
            own.on_train_batch_begin is not Callback.on_train_batch_begin
            or own.on_train_batch_end is not Callback.on_train_batch_end
        )
