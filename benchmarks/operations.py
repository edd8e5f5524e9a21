"""How many floating-point operations a step of each network takes: a multiplication and an addition count as two.

Only products and convolutions are counted, as only they come near what the processor can do. The backward pass takes
twice the forward pass, but for the first layer, whose input has no gradient.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from benchmarks.works import TOKENS, Work

#: multiply-adds of the forward pass for one example, and those of the first layer among them
Counts = tuple[float, float]


def operations(work: Work) -> float | None:
    """Floating-point operations in one step of the work; ``None`` for a network that is not counted here."""
    if work.kind == "product":
        return 2.0 * work.shape[0] ** 3
    if work.network == "dcgan":
        return 2 * work.batch * _dcgan_step(work)
    if work.network not in FORWARD:
        return None
    forward, first = FORWARD[work.network](work)
    if work.kind == "train":
        return 2 * work.batch * (3 * forward - first)
    # Of the tokens before, each new one meets its share in attention; the rest is as in a forward pass of one token.
    return 2 * work.batch * (forward if work.kind == "predict" else _one_token(work))


def _dense(*widths: int) -> float:
    return sum(a * b for a, b in pairwise(widths))


def _convolution(side: int, kernel: int, inputs: int, outputs: int) -> float:
    """Of a square picture with ``side`` pixels along the output; for a transposed one, along the input."""
    return side**2 * kernel**2 * inputs * outputs


def _mlp(work: Work) -> Counts:
    widths: Sequence[int] = (prod(work.shape), *work.size["hidden"], work.classes)
    return _dense(*widths), _dense(*widths[:2])


def _cnn(work: Work) -> Counts:
    first = _convolution(26, 3, 1, 32)
    return first + _convolution(11, 3, 32, 64) + _dense(5 * 5 * 64, work.classes), first


def _resnet(work: Work) -> Counts:
    side, inputs = work.shape[0], 16
    first = total = _convolution(side, 3, work.shape[2], 16)
    for width in (16, 32, 64):
        side //= width // inputs
        total += _convolution(side, 1, inputs, width) if width != inputs else 0
        total += _convolution(side, 3, inputs, width) + (2 * work.size["blocks"] - 1) * _convolution(
            side, 3, width, width
        )
        inputs = width
    return total + _dense(64, work.classes), first


def _recurrent(gates: int, work: Work) -> Counts:
    width = work.size["width"]
    return work.shape[0] * gates * 2 * width**2 + _dense(width, work.classes), 0


def _autoencoder(work: Work) -> Counts:
    first = _convolution(14, 3, 1, 32)
    return first + 2 * _convolution(7, 3, 32, 64) + _convolution(14, 3, 32, 1), first


def _dcgan_step(work: Work) -> float:
    first = _convolution(14, 4, 1, 64)
    judge = first + _convolution(7, 4, 64, 128) + 7 * 7 * 128
    begin = _dense(work.size["latent"], 7 * 7 * 128)
    draw = begin + _convolution(7, 4, 128, 64) + _convolution(14, 4, 64, 1)
    # The judge learns from real and drawn pictures; then the drawer does, through the judge, whose weights stay.
    return draw + 2 * (3 * judge - first) + (3 * draw - begin) + 2 * judge


def _block(work: Work, seen: float) -> float:
    """One block for one token that sees so many."""
    return 12 * work.size["width"] ** 2 + 2 * seen * work.size["width"]


def _gpt(work: Work) -> Counts:
    # A token sees itself and those before, half of all on average.
    length, width = work.shape[0], work.size["width"]
    return length * (work.size["blocks"] * _block(work, (length + 1) / 2) + width * work.classes), 0


def _one_token(work: Work) -> float:
    seen = TOKENS["prompt"] + TOKENS["new"] / 2
    return work.size["blocks"] * _block(work, seen) + work.size["width"] * work.classes


def _bert(work: Work) -> Counts:
    length = work.shape[0]
    return length * work.size["blocks"] * _block(work, length) + _dense(work.size["width"], work.classes), 0


def _unet(work: Work) -> Counts:
    side, half, quarter = (work.shape[0] // n for n in (1, 2, 4))
    first = _convolution(side, 3, work.shape[2], 16)
    down = _convolution(side, 3, 16, 16) + _convolution(half, 3, 16, 32) + _convolution(half, 3, 32, 32)
    bottom = _convolution(quarter, 3, 32, 64) + _convolution(quarter, 3, 64, 64)
    up = _convolution(quarter, 2, 64, 32) + _convolution(half, 3, 64, 32) + _convolution(half, 3, 32, 32)
    up += _convolution(half, 2, 32, 16) + _convolution(side, 3, 32, 16) + _convolution(side, 3, 16, 16)
    return first + down + bottom + up + _convolution(side, 1, 16, work.classes), first


FORWARD = {
    "mlp": _mlp,
    "cnn": _cnn,
    "resnet": _resnet,
    "lstm": lambda work: _recurrent(4, work),
    "gru": lambda work: _recurrent(3, work),
    "autoencoder": _autoencoder,
    "gpt": _gpt,
    "bert": _bert,
    "unet": _unet,
}
