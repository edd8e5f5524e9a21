"""Batches from something that is iterated, and where in them training stands."""

import copy
import itertools
import queue
import sys
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from lamina.core.errors import DataError

#: entries of each array that tell one batch from another
_SAMPLE = 512


@dataclass(frozen=True)
class Place:
    """Where a stream stands.

    Attributes:
        passes: how many passes were finished.
        batches: how many batches of the present one were given.
        check: a sum over samples of all batches so far.
        state: what the source's ``state_dict`` gave after the last batch.
    """

    passes: int = 0
    batches: int = 0
    check: int = 0
    state: Any = None


@dataclass
class StreamData:
    """Batches from something that is iterated.

    Attributes:
        batches: called with the epoch, gives that epoch's batches.
        steps: batches in an epoch, if known.
        anew: whether every epoch iterates anew; a pass is then finished, for what the source does at its end.
        source: what the batches come from; it may offer ``state_dict`` and ``load_state_dict``.
        place: where it stands, if somebody asked to know (:meth:`follow`).
    """

    batches: Callable[[int], Iterator[Any]]
    steps: int | None = None
    anew: bool = False
    source: Any = None
    place: Place | None = None
    _going: Iterator[Any] | None = None

    def epoch(self, epoch: int = 0, steps: int | None = None) -> Iterator[Any]:
        """The batches of that epoch, made by a thread a few ahead of their use.

        Args:
            epoch: which epoch.
            steps: how many batches to give at most.
        """
        given = 0 if self.place is None else self.place.batches
        source = self.batches(epoch) if self._going is None else self._going
        self._going = None
        most = min(limit for limit in (steps, self.steps, sys.maxsize) if limit is not None)
        taken = _first(source, max(most - given, 0), self.anew and most == self.steps)
        if self.place is None:
            yield from prefetch(taken)
            return
        for batch, place in prefetch(self._noted(taken, self.place)):
            self.place = place
            if place.batches:
                yield batch

    def follow(self) -> None:
        """Note from now on where the stream stands."""
        self.place = self.place or Place()

    def _noted(self, taken: Iterable[Any], place: Place) -> Iterator[tuple[Any, Place]]:
        """The batches, each with where the stream stands after it; and in the end, where it stands after the pass."""
        for batch in taken:
            place = self._after(batch, place)
            yield batch, place
        state = copy.deepcopy(self.source.state_dict()) if self._tells else None
        yield None, replace(place, passes=place.passes + 1, batches=0, state=state)

    @property
    def _tells(self) -> bool:
        return hasattr(self.source, "state_dict") and hasattr(self.source, "load_state_dict")

    @property
    def can_go_back(self) -> bool:
        """Whether :meth:`go_to` can lead back in the same process: not in a generator, which is used up."""
        return self._tells or self.anew

    def _after(self, batch: Any, place: Place) -> Place:
        if self._tells:
            return replace(place, batches=place.batches + 1, state=copy.deepcopy(self.source.state_dict()))
        return replace(place, batches=place.batches + 1, check=_sum(batch, place.check))

    def go_to(self, place: Place, steps: int | None = None) -> None:
        """Stand where a stream of the same program stood.

        A source with ``load_state_dict`` is told so. From any other, the batches are drawn again and compared.

        Args:
            place: where.
            steps: as given to :meth:`epoch`.

        Raises:
            DataError: if the source gives other batches than before.
        """
        self.place, self._going = Place(), None
        if self._tells:
            if place.state is not None:
                self.source.load_state_dict(copy.deepcopy(place.state))
                self._going = iter(self.batches(0)) if place.batches else self._next_pass()
            self.place = place
            return
        for _ in range(place.passes):
            for _ in self.epoch(0, steps):
                pass
        going = iter(self.batches(0)) if place.batches else None
        for batch in itertools.islice(going or (), place.batches):
            self.place = self._after(batch, self.place)
        if self.place != place:
            raise DataError(
                f"{type(self.source).__name__} did not give the batches again that it gave before, so training cannot go "
                "on where it was.\nLet it give the same batches in every run of the program, or let it offer "
                "state_dict() and load_state_dict(state), which say and set its position."
            )
        self._going = going

    def _next_pass(self) -> Iterator[Any]:
        # Some sources stand at the end of a pass, others at the beginning of the next one.
        found = list(itertools.islice(source := iter(self.batches(0)), 1))
        return itertools.chain(found, source) if found else iter(self.batches(0))


def stream(x: Any, steps: int | None, prepare: Callable[[Any], Any]) -> StreamData:
    """The stream over an iterator, or something that is iterated again and again.

    Args:
        x: what gives the batches.
        steps: how many of them are an epoch; all by default.
        prepare: makes a batch of each item.
    """
    passes: Iterable[Any] = x if hasattr(x, "__iter__") else _Numbered(x)
    if iter(passes) is passes:  # one pass only: epochs go on where the one before stopped
        source = map(prepare, passes)
        return StreamData(lambda epoch: source, steps or _len(x), source=x)
    if steps is None:
        return StreamData(lambda epoch: map(prepare, passes), _len(x), anew=True, source=x)
    endless = map(prepare, _again_and_again(passes))  # epochs of their own length, one after the other
    return StreamData(lambda epoch: endless, steps, source=x)


def _first(source: Iterator[Any], most: int, finish: bool) -> Iterator[Any]:
    yield from itertools.islice(source, most)
    if finish:
        next(source, None)


def _again_and_again(batches: Iterable[Any]) -> Iterator[Any]:
    empty = 0
    while empty < 2:  # a source that was put at the end of its pass gives nothing once
        empty += 1
        for batch in batches:
            empty = 0
            yield batch


def _len(x: Any) -> int | None:
    try:
        return len(x)
    except (TypeError, NotImplementedError):
        return None


@dataclass
class _Numbered:
    """Batches that are got by their number, as those of Keras's ``PyDataset``, to be iterated."""

    source: Any

    def __iter__(self) -> Iterator[Any]:
        for index in range(len(self.source)):
            yield self.source[index]
        if hasattr(self.source, "on_epoch_end"):
            self.source.on_epoch_end()


def _sum(batch: Any, before: int) -> int:
    """A sum over shapes and samples of the arrays in ``batch``."""
    for leaf in jax.tree.leaves(batch):
        array = np.asarray(leaf)
        some = array.reshape(-1)[:: array.size // _SAMPLE + 1]
        data = repr(some.tolist()).encode() if array.dtype.kind in "OSU" else some.tobytes()
        before = zlib.crc32(data, zlib.crc32(f"{array.dtype}{array.shape}".encode(), before))
    return before


def prefetch(source: Iterable[Any], ahead: int = 2) -> Iterator[Any]:
    """The items of ``source``, drawn by a thread up to ``ahead`` before they are asked for."""
    items: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=ahead)
    stopped = threading.Event()

    def put(kind: str, item: Any) -> None:
        while not stopped.is_set():
            try:
                items.put((kind, item), timeout=0.1)
                break
            except queue.Full:
                continue

    def fill() -> None:
        try:
            for item in source:
                put("item", item)
                if stopped.is_set():
                    return
            put("end", None)
        except BaseException as error:  # handed to the thread that waits
            put("error", error)

    threading.Thread(target=fill, daemon=True, name="lamina-prefetch").start()
    try:
        while True:
            kind, item = items.get()
            if kind == "error":
                raise item
            if kind == "end":
                return
            yield item
    finally:
        stopped.set()
