"""How a model is trained, evaluated and asked: ``compile``, ``fit``, ``evaluate``, ``predict`` and the steps inside."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lamina.core import registry
from lamina.core.errors import ConfigError, StateError, concise
from lamina.core.state import Array, Variable, current_scope
from lamina.core.transforms import value_and_grad
from lamina.data.batches import ArrayData, StreamData, is_stream, make_data, pack, unpack
from lamina.layers.base import Layer
from lamina.metrics import Metric
from lamina.models.graph import Graph
from lamina.optimizers import LossScaleOptimizer, Optimizer
from lamina.training import checks
from lamina.training import fit as loops
from lamina.training.callback import Callback
from lamina.training.checkpoint import Checkpoint
from lamina.training.drivers import Driver
from lamina.training.history import History
from lamina.training.objectives import Objective
from lamina.training.predict import BATCH_SIZE, Compiled, Ready, forward, predict
from lamina.training.progress import described
from lamina.training.step import Progress, Step


class Trainer(Layer):
    """What a model can do besides being a layer; see :class:`lamina.Model`."""

    optimizer: Optimizer | None = None
    objective: Objective | None = None
    progress: Progress | None = None
    stop_training = False
    run_eagerly = False
    history: History | None = None
    _graph: Graph | None = None
    _compiled: Compiled

    # -- compile ---------------------------------------------------------------------------------------------------

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        metrics: Any = None,
        loss_weights: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: Any = "auto",
        **optimizer_options: Any,
    ) -> None:
        """Say how to train.

        Args:
            optimizer: a name, as ``"adam"``, or an optimizer.
            loss: a name, a loss or a function ``(y_true, y_pred)``; a list or dictionary for several outputs.
            metrics: a list of names, metrics or functions; a dictionary or list of lists for several outputs.
            loss_weights: a weight for each output's loss.
            weighted_metrics: metrics that sample weights apply to.
            run_eagerly: whether to run steps uncompiled, for looking inside; slow.
            steps_per_execution: accepted; how many steps go into a dispatch is chosen by their cost.
            jit_compile: accepted; every step is compiled.
            optimizer_options: ``learning_rate``, ``clipnorm``, ``weight_decay``, ``use_ema``,
                ``gradient_accumulation_steps`` ... for an optimizer given by name.

        Raises:
            ConfigError: for an unknown name; the message gives the nearest.
        """
        if optimizer_options and not isinstance(optimizer, str):
            raise ConfigError(
                f"compile takes {', '.join(optimizer_options)} only with an optimizer given by name; "
                f"pass them to {type(optimizer).__name__} itself."
            )
        self.optimizer = registry.get("optimizers", optimizer, **optimizer_options)
        if self.optimizer is not None and not isinstance(self.optimizer, Optimizer):
            raise ConfigError(f"an optimizer is a name or a lm.optimizers object, not {optimizer!r}")
        if self.dtype_policy.name == "mixed_float16" and not isinstance(self.optimizer, LossScaleOptimizer | None):
            self.optimizer = LossScaleOptimizer(self.optimizer)
        names = None
        if self._graph is not None and not isinstance(self._graph.outputs, Mapping):
            by_layer = {id(found): name for name, found in self._graph.names.items()}
            names = [
                by_layer.get(id(t.call.operation), str(i)) if t.call else str(i)
                for i, t in enumerate(self._graph.output_list)
            ]
            if len(set(names)) < len(names):
                names = [f"{name}_{i}" for i, name in enumerate(names)]
        self.objective = Objective(loss, metrics, loss_weights, weighted_metrics, names)
        self.run_eagerly = run_eagerly
        self.progress = Progress()
        self._compiled = Compiled()

    def _require_compiled(self) -> Objective:
        if self.objective is None:
            raise StateError(
                'the model is not compiled: it has no loss yet.\nWrite:  model.compile("adam", loss="...", metrics=[...])'
            )
        return self.objective

    # -- one step --------------------------------------------------------------------------------------------------

    def train_step(self, batch: Any) -> dict[str, Any]:
        """One step of training on ``x``, ``(x, y)`` or ``(x, y, sample_weight)``; override it for a step of your own.

        It is written in plain stateful style and compiled whole. It returns what to log: a dictionary of numbers.
        """
        return self._train(batch, None)

    def test_step(self, batch: Any) -> dict[str, Any]:
        """One step of evaluation; returns what to log."""
        return self._test(batch, None)

    def predict_step(self, x: Any) -> Any:
        """The predictions for one batch."""
        return self(x, training=False)

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None) -> Array:
        """The loss of one batch: that of ``compile``, plus regularizers and what layers added."""
        return self._loss(y, y_pred, sample_weight, None)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Take one batch into the metrics of ``compile``; returns their results."""
        objective = self._require_compiled()
        objective.update_metrics(y, y_pred, sample_weight)
        return objective.metric_results()

    @property
    def losses(self) -> list[Array]:
        """What regularizers and layers add to the loss of the step that is running."""
        scope = current_scope()
        penalties = [v.regularizer(v.raw) for v in self.trainable_weights if v.regularizer is not None]
        return penalties + (list(scope.losses) if scope is not None else [])

    def _loss(self, y: Any, y_pred: Any, sample_weight: Any, rows: Any) -> Array:
        loss = self._require_compiled().compute(y, y_pred, sample_weight, rows)
        for penalty in self.losses:
            loss = loss + penalty
        return loss

    def _require_loss(self) -> None:
        if not self._require_compiled().has_loss() and not self.losses:
            raise ConfigError(
                "there is nothing to minimize: compile was given no loss, and no layer adds one.\n"
                'Write:  model.compile("adam", loss="...")'
            )

    def _train(self, batch: Any, rows: Any) -> dict[str, Any]:
        x, y, sample_weight = unpack(batch)
        self._require_compiled()
        optimizer = self.optimizer
        if optimizer is None:
            raise StateError('the model has no optimizer.\nWrite:  model.compile("adam", loss=...)')
        own_loss = type(self).compute_loss is not Trainer.compute_loss

        def loss_of_batch() -> tuple[Array, Any]:
            y_pred = self(x, training=True)
            if own_loss:
                loss = self.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight)
            else:
                self._require_loss()
                loss = self._loss(y, y_pred, sample_weight, rows)
            return optimizer.scale_loss(loss), (loss, y_pred)

        (_, (loss, y_pred)), gradients = value_and_grad(loss_of_batch, self, has_aux=True)()
        optimizer.build(gradients.variables)  # those that were frozen so far have no slots yet
        optimizer.apply(gradients)
        return self._logs(x, y, y_pred, loss, sample_weight, rows)

    def _test(self, batch: Any, rows: Any) -> dict[str, Any]:
        x, y, sample_weight = unpack(batch)
        self._require_compiled()
        y_pred = self(x, training=False)
        if type(self).compute_loss is not Trainer.compute_loss:
            loss = self.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight)
        else:
            loss = self._loss(y, y_pred, sample_weight, rows)
        return self._logs(x, y, y_pred, loss, sample_weight, rows)

    def _logs(self, x: Any, y: Any, y_pred: Any, loss: Any, sample_weight: Any, rows: Any) -> dict[str, Any]:
        objective = self._require_compiled()
        if type(self).compute_metrics is not Trainer.compute_metrics:
            return {"loss": loss} | self.compute_metrics(x, y, y_pred, sample_weight)
        objective.update_loss(loss, y_pred, rows)
        objective.update_metrics(y, y_pred, sample_weight, rows)
        return objective.results()

    # -- what the loops in lamina.training ask ---------------------------------------------------------------------

    def step(self, kind: str, example: Any) -> Step:
        """The compiled step of that kind for batches like ``example``: made once, until something about it changes."""
        methods: dict[str, Callable[..., Any]] = {
            "train": self.train_step,
            "padded": lambda batch: self._train(*batch),
            "test": self.test_step,
            "padded_test": lambda batch: self._test(*batch),
            "predict": self.predict_step,
        }
        if self.progress is None and kind in ("train", "padded"):
            self.progress = Progress()
        leaves, structure = jax.tree.flatten(example)
        held = tuple((path, id(found), may) for path, found, may in self.walk() if isinstance(found, Variable))
        key = (kind, structure, tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves), held)
        if key not in self._compiled.steps:
            step = Step(
                self,
                methods[kind],
                kind in ("train", "padded"),
                example,
                logs=kind != "predict",
                finish=self._finish(kind),
            )
            held = tuple((path, id(found), may) for path, found, may in self.walk() if isinstance(found, Variable))
            self._compiled.steps[(*key[:3], held)] = step  # tracing may have made new variables
            return step
        return self._compiled.steps[key]

    def _finish(self, kind: str) -> Callable[[], dict[str, Any]] | None:
        """What gives the logs from the metrics alone, if the step is the library's own."""
        own = {"train": type(self).train_step, "test": type(self).test_step}.get(kind)
        standard = kind.startswith("padded") or own in (Trainer.train_step, Trainer.test_step)
        if not standard or self.objective is None or type(self).compute_metrics is not Trainer.compute_metrics:
            return None
        return self.objective.results

    def may_pad(self, testing: bool = False) -> bool:
        """Whether rows may be added to a batch and masked: the step is the library's own, and rows do not mix."""
        own = type(self).test_step if testing else type(self).train_step
        standard = own is (Trainer.test_step if testing else Trainer.train_step)
        parts = (type(self).compute_loss, type(self).compute_metrics) == (Trainer.compute_loss, Trainer.compute_metrics)
        modules = [module for module in self.modules().values() if isinstance(module, Layer)]
        mixes = any(m.mixes_rows or m.activity_regularizer is not None for m in modules)
        return standard and parts and (testing or not mixes) and not any(m.activity_regularizer for m in modules)

    @property
    def has_own_step(self) -> bool:
        """Whether ``train_step`` is not the library's, so that only it knows what a batch holds."""
        return type(self).train_step is not Trainer.train_step

    def prepare_batch(self, batch: Any) -> Any:
        """``batch`` after the layers that work on strings, which run on the host."""
        x, y, sample_weight = unpack(batch)
        return pack(self._prepare_inputs(x), y, sample_weight)

    def _prepare_inputs(self, x: Any) -> Any:
        x = x if self._graph is None else self._graph.prepare(x)
        checks.check_numbers(x)
        return x

    def reset_metrics(self) -> None:
        """Start every metric anew."""
        for module in self.modules().values():
            if isinstance(module, Metric):
                module.reset_state()

    @property
    def metrics(self) -> list[Any]:
        """Every metric of the model: those of ``compile`` and those kept as attributes."""
        return [module for module in self.modules().values() if isinstance(module, Metric)]

    def metric_names(self) -> set[str]:
        """The names in the logs of a step of one's own that are results of metrics rather than values of one step."""
        own = {
            metric.name for metric in self.metrics if self.objective is None or metric is not self.objective.mean_loss
        }
        return own if self.objective is None else own | set(self.objective.metric_results())

    # -- training, evaluation, prediction --------------------------------------------------------------------------

    @concise
    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Sequence[Callback] | Callback | None = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Sequence[int] = 1,
        driver: str | None = None,
        checkpoint: str | Path | Checkpoint | None = None,
    ) -> History:
        """Train the model.

        Args:
            x: arrays, or a stream of batches ``(x, y)`` (see :func:`lamina.data.batches.make_data`). Arrays are read where they
                are for as long as training runs, so that they are not to be changed before it ends.
            y: the targets.
            batch_size: examples in a step; 32 by default.
            epochs: the epoch to stop before.
            verbose: 0 for silence, 1 for a progress bar, 2 for a line an epoch.
            callbacks: what to run in between.
            validation_split: the fraction at the end of the arrays that is kept for validation.
            validation_data: ``(x, y)``, ``(x, y, sample_weight)`` or a stream to validate on.
            shuffle: whether the arrays' order changes each epoch.
            class_weight: class -> the weight of its examples.
            sample_weight: a weight for each example.
            initial_epoch: the epoch to begin with.
            steps_per_epoch: steps in an epoch; one pass over the data by default.
            validation_steps: how many batches to validate on.
            validation_batch_size: examples in a step of validation.
            validation_freq: after how many epochs to validate, or after which.
            driver: ``"scan"`` or ``"loop"`` (see :mod:`lamina.training.drivers`); chosen by default.
            checkpoint: a folder, or a :class:`lamina.Checkpoint`, that the whole state of training is saved in. Run again
                after it was stopped or killed, the same program goes on there, and ends with the same weights and logs.
                SIGINT and SIGTERM save, and leave with exit code 130 and 143; a second one leaves at once. A loss that is
                not finite ends training.

        Returns:
            The history of the logs.

        Raises:
            DataError: if the data do not fit each other.
            ShapeError: if they do not fit the model, or the model's head does not fit the targets.
            StateError: with ``checkpoint``, naming step and layer, if the loss is not finite.
            FileError: if the checkpoint cannot be written or read, or another run uses its folder.
        """
        if not self.has_own_step:
            self._require_compiled()
        data = make_data(x, y, sample_weight, batch_size=batch_size, shuffle=shuffle, steps=steps_per_epoch)
        if isinstance(data, ArrayData):
            if validation_split and validation_data is None:
                data, held_out = loops.split_validation(data, validation_split)
                held_out.batch_size = validation_batch_size or max(data.batch_size, 256)
                validation_data = held_out
            checks.check_data(self, data)
            data.tree = loops.with_class_weight(self.prepare_batch(data.tree), class_weight)
        else:
            if validation_split:
                raise ConfigError("validation_split needs arrays; pass validation_data= beside a stream.")
            if class_weight is not None:
                original = data.batches
                data.batches = lambda epoch: (loops.with_class_weight(b, class_weight) for b in original(epoch))
        validation = None
        if validation_data is not None:
            validation = self._data(validation_data, validation_batch_size)
            if isinstance(validation, ArrayData):
                checks.check_data(self, validation)
                validation.tree = self.prepare_batch(validation.tree)
        with _eagerly(self):
            return loops.fit(
                self,
                data,
                epochs=epochs,
                verbose=verbose,
                callbacks=callbacks,
                validation=validation,
                validation_steps=validation_steps,
                validation_freq=validation_freq,
                initial_epoch=initial_epoch,
                steps_per_epoch=steps_per_epoch,
                driver=driver,
                checkpoint=checkpoint,
            )

    def _data(self, given: Any, batch_size: int | None) -> ArrayData | StreamData:
        if isinstance(given, ArrayData | StreamData):
            return given
        pair = isinstance(given, list) and len(given) in (2, 3) and not is_stream(given)
        x, y, sample_weight = unpack(tuple(given) if isinstance(given, tuple) or pair else (given,))
        return make_data(x, y, sample_weight, batch_size=batch_size or 256)

    @concise
    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Sequence[Callback] | Callback | None = None,
        return_dict: bool = False,
    ) -> Any:
        """The loss and the metrics on some data.

        Args:
            x: arrays or a stream, as for :meth:`fit`.
            y: the targets.
            batch_size: examples in a step; the result does not depend on it.
            verbose: 0 for silence.
            sample_weight: a weight for each example.
            steps: how many batches to take.
            callbacks: what to run before and after.
            return_dict: whether to return a dictionary instead of a list.

        Returns:
            The loss if there is nothing else; a list of the loss and the metrics; or a dictionary.
        """
        if type(self).test_step is Trainer.test_step:
            self._require_compiled()
        data = make_data(x, y, sample_weight, batch_size=batch_size or 256)
        if isinstance(data, ArrayData):
            checks.check_data(self, data)
            data.tree = self.prepare_batch(data.tree)
        listeners = loops.listening(self, callbacks)
        for callback in listeners:
            callback.on_test_begin()
        with _eagerly(self):
            logs = loops.evaluate(self, data, steps)
        for callback in listeners:
            callback.on_test_end(logs)
        if verbose not in (0, False):
            print(described(logs), flush=True)
        if return_dict:
            return logs
        values = list(logs.values())
        return values[0] if len(values) == 1 else values

    @concise
    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: int | str = 0,
        steps: int | None = None,
        callbacks: Sequence[Callback] | Callback | None = None,
    ) -> Any:
        """The predictions for ``x`` as NumPy arrays, in the structure of the model's outputs.

        Args:
            x: arrays, or a stream of batches.
            batch_size: examples computed at a time; 256 by default.
            verbose: accepted.
            steps: how many batches to take.
            callbacks: what to run before and after.

        Raises:
            ShapeError: if the shape of ``x`` is not that of the model's input.
        """
        plain = (batch_size, steps, callbacks) == (None, None, None) and not self.run_eagerly
        like = (x.shape, x.dtype) if plain and type(x) is np.ndarray else None
        ready = self._compiled.ready.get(like)
        if ready is not None and ready.holds():
            if self._graph is not None:
                self._graph.check_values(x)
            return ready(x)
        data = make_data(x, batch_size=batch_size or BATCH_SIZE)
        if self._graph is not None and isinstance(data, ArrayData):
            self._graph.check_values(data.tree)
        listeners = loops.listening(self, callbacks)
        for callback in listeners:
            callback.on_predict_begin()
        with _eagerly(self):
            results = predict(self, data, steps)
        for callback in listeners:
            callback.on_predict_end()
        if like is not None:
            self._compiled.ready[like] = Ready.of(self, x)
        return results

    @concise
    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """One step of training on one batch; returns the loss and the metrics so far."""
        return self._on_batch("train", x, y, sample_weight, class_weight, return_dict)

    @concise
    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False) -> Any:
        """The loss and the metrics so far, after one batch."""
        return self._on_batch("test", x, y, sample_weight, None, return_dict)

    @concise
    def predict_on_batch(self, x: Any) -> Any:
        """The predictions for one batch, as NumPy arrays."""
        data = make_data(x, batch_size=2**30)
        return jax.tree.map(np.asarray, forward(self, self._prepare_inputs(unpack(data.tree)[0])))  # type: ignore[union-attr]

    def _on_batch(self, kind: str, x: Any, y: Any, weight: Any, class_weight: Any, return_dict: bool) -> Any:
        data = make_data(x, y, weight, batch_size=2**30)
        assert isinstance(data, ArrayData)
        checks.check_data(self, data)
        batch = jax.tree.map(jax.numpy.asarray, loops.with_class_weight(self.prepare_batch(data.tree), class_weight))
        driver = Driver(self.step(kind, jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), batch)))
        driver.run_batch(batch)
        logs = driver.results()[0]
        if return_dict:
            return logs
        values = list(logs.values())
        return values[0] if len(values) == 1 else values


def _eagerly(model: Any) -> contextlib.AbstractContextManager[None]:
    """Runs steps uncompiled inside, if the model asks for it."""
    return jax.disable_jit(bool(model.run_eagerly))
