"""The data of the works, made from a seed: the same in every framework, and such that there is something to learn."""

import numpy as np

from benchmarks.works import SEED, VOCABULARY, Work

Arrays = tuple[np.ndarray, np.ndarray]


def arrays(work: Work) -> Arrays:
    """Inputs and targets for one call: ``work.steps`` batches; for prediction, one batch."""
    rows = work.batch * (work.steps if work.kind == "train" else 1)
    x, y = globals()[work.data](np.random.default_rng(SEED), rows, work.shape, work.classes)
    return x.astype("int32" if x.dtype.kind == "i" else "float32"), y.astype(
        "int32" if y.dtype.kind == "i" else "float32"
    )


def labels(rng: np.random.Generator, y: np.ndarray, classes: int) -> np.ndarray:
    """The classes, a fifth of them wrong: with nothing left to learn, numbers would become too small for full speed."""
    return np.where(rng.random(len(y)) < 0.2, rng.integers(0, classes, len(y)), y)


def matrix(rng: np.random.Generator, rows: int, shape: tuple[int, ...], classes: int) -> Arrays:
    """A square matrix of numbers, twice."""
    x = rng.normal(size=2 * shape)
    return x, x


def features(rng: np.random.Generator, rows: int, shape: tuple[int, ...], classes: int) -> Arrays:
    """Numbers, and which of several weighted sums of them is the greatest."""
    x = rng.normal(size=(rows, *shape))
    return x, labels(rng, np.argmax(x[:, :20] @ rng.normal(size=(20, classes)), axis=1), classes)


def pictures(rng: np.random.Generator, rows: int, shape: tuple[int, ...], classes: int) -> Arrays:
    """A pattern for each class, under noise."""
    y = rng.integers(0, classes, rows)
    patterns = np.repeat(np.repeat(rng.normal(size=(classes, shape[0] // 4, shape[1] // 4, shape[2])), 4, 1), 4, 2)
    return patterns[y] + rng.normal(size=(rows, *shape)), labels(rng, y, classes)


def drawings(rng: np.random.Generator, rows: int, shape: tuple[int, ...], classes: int) -> Arrays:
    """Mixtures of a few patterns, from 0 to 1; the targets are the drawings themselves."""
    patterns = np.repeat(np.repeat(rng.normal(size=(8, shape[0] // 4, shape[1] // 4, shape[2])), 4, 1), 4, 2)
    x = 1 / (1 + np.exp(-2 * np.tensordot(rng.normal(size=(rows, 8)), patterns, 1)))
    return x, x


def scenes(rng: np.random.Generator, rows: int, shape: tuple[int, ...], classes: int) -> Arrays:
    """Rectangles of their own color before noise, and which pixels belong to them."""
    y = np.zeros((rows, *shape[:2]), int)
    for mask, (top, left, height, width) in zip(y, rng.integers(4, shape[0] // 2, (rows, 4)), strict=True):
        mask[top : top + height, left : left + width] = 1
    return y[..., None] * rng.normal(size=shape[2]) + 0.5 * rng.normal(size=(rows, *shape)), y


def words(rng: np.random.Generator, rows: int, shape: tuple[int, ...], classes: int) -> Arrays:
    """Numbers of words; each class likes other words."""
    y = rng.integers(0, classes, rows)
    common = VOCABULARY // (2 * classes)
    x = rng.integers(0, VOCABULARY, (rows, *shape))
    liked = y[:, None] * common + rng.integers(0, common, (rows, *shape))
    return np.where(rng.random(x.shape) < 0.5, liked, x), labels(rng, y, classes)


def padded_words(rng: np.random.Generator, rows: int, shape: tuple[int, ...], classes: int) -> Arrays:
    """As :func:`words`, of different lengths: -1 stands where a text has ended."""
    x, y = words(rng, rows, shape, classes)
    lengths = rng.integers(shape[0] // 2, shape[0] + 1, (rows, 1))
    return np.where(np.arange(shape[0]) < lengths, x, -1), y


def text(rng: np.random.Generator, rows: int, shape: tuple[int, ...], classes: int) -> Arrays:
    """Characters each of which mostly decides the next; the targets are the inputs one further."""
    after = rng.permutation(classes)
    x = rng.integers(0, classes, (rows, shape[0] + 1))
    for place in range(shape[0]):
        x[:, place + 1] = np.where(rng.random(rows) < 0.8, after[x[:, place]], x[:, place + 1])
    return x[:, :-1], x[:, 1:]
