"""``predict``: batches through the compiled network, and a short way for one array that comes again and again."""

from typing import Any

import jax
import numpy as np

from lamina.core.errors import DataError
from lamina.data.batches import ArrayData, StreamData, length, unpack
from lamina.training.step import State, Step, shapes_of
from lamina.training.turns import LongProgram

#: how many examples are computed at a time
BATCH_SIZE = 256
#: bytes from which on an array that XLA would copy is copied to a place that is kept, as fresh memory is slower than that;
#: and of which no more are kept
MANY_BYTES, TOO_MANY_BYTES = 1 << 16, 1 << 24
#: where memory has to begin for XLA to read it without a copy
LINE = 64
#: floating-point operations from which on a program takes much memory, and so long that its data can be waited for
LONG = 1e9


def predict(model: Any, data: ArrayData | StreamData, steps: int | None = None) -> Any:
    """What ``model.predict_step`` returns for every batch, joined along the first axis, as NumPy arrays.

    Args:
        model: the model.
        data: the batches.
        steps: how many batches to take; no more are read of a stream.

    Raises:
        DataError: if there is no batch.
    """
    if isinstance(data, StreamData):
        source: Any = (unpack(batch)[0] for batch in data.epoch(0, steps))
    else:
        source = (data.take(slice(i, i + data.batch_size)) for i in range(0, data.size, data.batch_size))
    results = []
    for done, batch in enumerate(source, start=1):
        batch = jax.tree.map(np.asarray, model.prepare_batch(batch))
        size = length(batch)
        batch = padded(batch, min(_round_up(size), data.batch_size) if isinstance(data, ArrayData) else _round_up(size))
        results.append((forward(model, batch), size))
        if steps is not None and done >= steps:
            break
    if not results:
        raise DataError("the data gave no batch to predict from.")
    parts = [jax.tree.map(lambda a, n=n: np.asarray(a)[:n], out) for out, n in results]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves) if len(leaves) > 1 else leaves[0], *parts)


def forward(model: Any, batch: Any) -> Any:
    """``model.predict_step`` compiled."""
    step = model.step("predict", shapes_of(batch))
    if "forward" not in step.programs:

        def predicted(changing: State, constant: list[Any], batch: Any) -> tuple[State, Any]:
            return step(changing, dict(zip(step.constant, constant, strict=True)), batch)

        program = jax.jit(predicted)
        step.programs["forward"] = LongProgram(program) if step.flops > LONG else program
    changing, constant = step.state()
    changing, out = step.programs["forward"](changing, list(constant.values()), batch)
    step.commit(changing)
    return out


def padded(tree: Any, size: int) -> Any:
    """``tree`` with its last example repeated until there are ``size``."""
    have = length(tree)
    if have == size:
        return tree
    return jax.tree.map(lambda a: np.concatenate([a, np.repeat(a[-1:], size - have, axis=0)]), tree)


def _round_up(size: int) -> int:
    return 1 << (size - 1).bit_length()


class Ready:
    """Prediction for arrays like one that was predicted before, without preparing anything, while the model stays as it is.

    A small network on one example takes less time than looking at the model and its data does.

    Args:
        model: the model.
        x: the array.
    """

    def __init__(self, model: Any, x: np.ndarray) -> None:
        self.walk = model.last_walk()
        self.step: Step = model.step("predict", shapes_of(x))
        self.program = self.step.programs["forward"]
        #: where arrays are copied to, but for those that other threads predict from now
        self.places: list[np.ndarray] = []
        self.is_long = isinstance(self.program, LongProgram)  # which copies what it is given in its own way
        self.is_one_array = isinstance(self.step.results, jax.ShapeDtypeStruct)
        self.constant = [self.step.variables[path] for path in self.step.constant]

    @classmethod
    def of(cls, model: Any, x: np.ndarray) -> "Ready | None":
        """The short way for arrays like ``x``, if there is one."""
        fits = x.dtype == jax.dtypes.canonicalize_dtype(x.dtype) and len(x) == _round_up(len(x)) <= BATCH_SIZE
        if not fits or model.prepare_batch(x) is not x:
            return None
        ready = cls(model, x)
        return None if ready.step.changing else ready

    def holds(self) -> bool:
        """Whether the model is as it was."""
        return self.walk.holds()

    def __call__(self, x: np.ndarray) -> Any:
        """The predictions for ``x``, as NumPy arrays."""
        place = None
        if MANY_BYTES <= x.nbytes <= TOO_MANY_BYTES and not self.is_long and x.ctypes.data % LINE:
            place = self.places.pop() if self.places else _place_for(x)
            np.copyto(place, x)
        found = self.program({}, [variable.stored for variable in self.constant], x if place is None else place)[1]
        result = np.asarray(found) if self.is_one_array else jax.tree.map(np.asarray, found)
        if place is not None:
            # what a network gives back as it was given would change with the place
            result = jax.tree.map(lambda a: a.copy() if np.may_share_memory(a, place) else a, result)
            self.places.append(place)
        return result


def _place_for(x: np.ndarray) -> np.ndarray:
    memory = np.empty(x.nbytes + LINE, "uint8")
    begin = -memory.ctypes.data % LINE
    return memory[begin : begin + x.nbytes].view(x.dtype).reshape(x.shape)


class Compiled:
    """What a model has compiled so far: its steps by their kind and their batches, and the short ways to predictions."""

    def __init__(self) -> None:
        self.steps: dict[Any, Step] = {}
        self.ready: dict[Any, Ready | None] = {}
