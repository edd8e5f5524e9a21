"""The works that are measured: which network, on what data, in what size, and how fast Lamina should be.

A new work is one entry in ``WORKS``. Its network is a function of that name in each file of :mod:`benchmarks.peers`; a
framework without one leaves the work out. This file imports nothing but the standard library, so that the import of a
framework can be timed.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

SEED = 0
LEARNING_RATE = 1e-3  # of Adam, everywhere
VOCABULARY = 5000
CHARACTERS = 65  # different ones in Shakespeare's plays, as they are often used
TOKENS = {"prompt": 16, "new": 100}  # in generation; together they fit into the context


@dataclass(frozen=True)
class Target:
    """At most this share of the time of the best of some frameworks; of all of them if none are named."""

    ratio: float
    frameworks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Work:
    """A piece of work that every framework does in the same way.

    ``kind`` is ``"train"``, ``"predict"``, ``"generate"`` or ``"product"``. A timed call takes ``steps`` steps: of
    training, of prediction for one batch, or tokens. ``shape`` is that of one input, ``classes`` the length of the output
    and ``size`` what else the network needs to know.
    """

    name: str
    network: str
    data: str  # a function of benchmarks.data
    shape: tuple[int, ...]
    classes: int
    batch: int
    steps: int
    kind: str = "train"
    loss: str = "crossentropy"  # from scores; or "squares", of the difference from the input
    size: dict[str, Any] = field(default_factory=dict)
    targets: tuple[Target, ...] = ()
    threads: int | None = None  # all that there are
    device: str = "cpu"  # or "gpu"
    precision: str = "float32"  # or "bfloat16": of the arithmetic; weights are float32


@dataclass
class Job:
    """What a framework makes of a work.

    ``run`` takes ``work.steps`` steps, waits for them, and gives the mean of their losses, in training. ``weights``, called
    afterwards, counts the trainable ones.
    """

    run: Callable[[], float | None]
    weights: Callable[[], int] = lambda: 0


def at_most(ratio: float, *frameworks: str) -> tuple[Target, ...]:
    """One target; see :class:`Target`."""
    return (Target(ratio, frameworks),)


KERAS, PYTORCH = ("keras_tensorflow", "keras_jax"), ("pytorch", "pytorch_compiled")
TRANSFORMER = {"blocks": 4, "width": 128, "heads": 4}

TINY_MLP = Work("tiny_mlp", "mlp", "features", (30,), 2, 32, 1500, size={"hidden": (16, 16)}, targets=at_most(0.10))
MLP = Work("mlp", "mlp", "features", (784,), 10, 128, 200, size={"hidden": (512, 256)}, targets=at_most(0.75))
CNN = Work("cnn", "cnn", "pictures", (28, 28, 1), 10, 128, 40, targets=at_most(0.70))
RNN = {"data": "words", "shape": (100,), "classes": 2, "batch": 64, "steps": 20, "size": {"width": 128}}
GPT = Work("gpt", "gpt", "text", (128,), CHARACTERS, 16, 10, size=TRANSFORMER, targets=at_most(0.75))
# Two kinds of target at batch 1, as Keras offers predict for that, and calling the model.
ONE = Target(0.25, KERAS), Target(0.8, PYTORCH)


def predicting(work: Work, batch: int, steps: int, targets: tuple[Target, ...] = ()) -> Work:
    """Prediction, from an array to an array, for one batch."""
    name = f"{work.name}_predict_{batch}"
    return replace(work, name=name, kind="predict", batch=batch, steps=steps, targets=targets)


WORKS = [
    TINY_MLP,
    MLP,
    CNN,
    Work("resnet20", "resnet", "pictures", (32, 32, 3), 10, 64, 10, size={"blocks": 3}, targets=at_most(0.85)),
    Work("lstm", "lstm", **RNN, targets=at_most(0.60)),
    Work("gru", "gru", **RNN, targets=at_most(0.60)),
    Work("autoencoder", "autoencoder", "drawings", (28, 28, 1), 1, 128, 40, loss="squares", targets=at_most(0.70)),
    Work("dcgan", "dcgan", "drawings", (28, 28, 1), 1, 64, 20, size={"latent": 64}, targets=at_most(0.70)),
    GPT,
    Work("bert", "bert", "padded_words", (128,), 2, 16, 10, size=TRANSFORMER, targets=at_most(0.75)),
    Work("unet", "unet", "scenes", (64, 64, 3), 2, 16, 20, targets=at_most(0.70)),
    predicting(MLP, 1, 100, ONE),
    predicting(CNN, 1, 100, ONE),
    predicting(MLP, 256, 50),
    predicting(CNN, 256, 20),
    replace(GPT, name="gpt_generate", kind="generate", batch=1, steps=TOKENS["new"], targets=at_most(0.5)),
]


def named(name: str) -> Work:
    """The one of the usual works that has this name."""
    return next(work for work in WORKS if work.name == name)


#: the yardstick: how many operations a second the processor can do, in the best of the frameworks
PRODUCT = Work("product", "product", "matrix", (2048,), 0, 1, 5, kind="product")


def growing(work: Work, what: str, sizes: dict[int, dict[str, Any]]) -> dict[int, Work]:
    """The work in several sizes: a number for each, and what changes with it."""
    return {n: replace(work, name=f"{work.name}_{what}_{n}", targets=(), **changes) for n, changes in sizes.items()}


#: how cost grows: each entry is a panel of the plot
GROWTH = {
    "MLP: batch": growing(MLP, "batch", {n: {"batch": n} for n in (1, 4, 16, 64, 256, 1024)}),
    "MLP: times as wide": growing(
        MLP, "wide", {n: {"size": {"hidden": (512 * n, 256 * n)}, "steps": 200 // n} for n in (1, 2, 4)}
    ),
    # As many tokens in a batch at each length: what grows is the share of attention.
    "GPT: tokens in a row": growing(
        GPT, "length", {n: {"shape": (n,), "batch": 2048 // n} for n in (128, 256, 512, 1024, 2048)}
    ),
    "MLP: threads": growing(MLP, "threads", {n: {"threads": n} for n in (1, 2)}),
    "CNN: threads": growing(CNN, "threads", {n: {"threads": n} for n in (1, 2)}),
    "GPT: threads": growing(GPT, "threads", {n: {"threads": n} for n in (1, 2)}),
}

ALL_GROWTH = [work for sizes in GROWTH.values() for work in sizes.values()]

#: the works that fill a GPU
LARGE = [
    replace(named("resnet20"), name="resnet20_512", batch=512, steps=50),
    replace(GPT, name="gpt_8x512", shape=(512,), steps=50, size={"blocks": 8, "width": 512, "heads": 8}),
    replace(named("unet"), name="unet_128", batch=128, steps=50),
]
#: the usual works on a GPU, in longer calls, as its steps are so short; the targets are a processor's
GPU_WORKS = [
    replace(work, device="gpu", steps=max(work.steps, 100 * (work not in LARGE)), targets=()) for work in WORKS + LARGE
]
GPU_PRODUCT = replace(PRODUCT, device="gpu", shape=(8192,), steps=20)

#: all works, by device and name
CATALOGUE = {
    "cpu": {work.name: work for work in [PRODUCT, *WORKS, *ALL_GROWTH]},
    "gpu": {work.name: work for work in [GPU_PRODUCT, *GPU_WORKS]},
}
