"""Pictures as people have them (arrays, lists of arrays, folders) as the families take them."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lamina.core.errors import DataError
from lamina.data.pictures import find_pictures, load_pictures, picture_size
from lamina.families.base import finite


def is_folder(x: Any) -> bool:
    """Whether ``x`` names a folder rather than holding data."""
    return isinstance(x, str | os.PathLike)


def axes(x: Any) -> int:
    """How many axes ``x`` has as one array: 3 or 4 for pictures, 4 for a folder of them, 2 for a table."""
    if is_folder(x):
        return 4
    if isinstance(x, list | tuple) and len(x):
        return 1 + np.ndim(x[0])
    return getattr(x, "ndim", 2)


def as_pictures(x: Any, name: str = "X") -> np.ndarray:
    """Pictures of one size as one array.

    Args:
        x: an array ``(n, height, width)`` or ``(n, height, width, channels)``, a list of such pictures, or the path of a
            folder with picture files anywhere below it.
        name: what to call ``x`` in messages.

    Returns:
        Shape ``(n, height, width, channels)``; uint8 stays, every other kind of number becomes float32.

    Raises:
        DataError: for a folder without pictures, pictures of several sizes, no pictures, or NaN and infinity.

    >>> as_pictures([np.zeros((4, 5), "uint8")]).shape
    (1, 4, 5, 1)
    """
    if is_folder(x):
        return load_pictures(_files(x))
    if isinstance(x, list | tuple):
        shapes = sorted({np.shape(picture) for picture in x})
        if len(shapes) > 1:
            raise DataError(
                f"{name} holds pictures of {len(shapes)} shapes, as {shapes[0]} and {shapes[-1]}; one is expected.\n"
                "Resize them:  PIL.Image.fromarray(picture).resize((width, height))"
            )
    x = _numbers(np.asarray(x), name)
    if x.ndim not in (3, 4) or not x.size:
        raise DataError(
            f"{name} is pictures of shape (n, height, width) or (n, height, width, channels); received {x.shape}.\n"
            f"For a single picture write:  {name}[None]"
        )
    return x if x.ndim == 4 else x[..., None]


def as_picture_list(x: Any, name: str = "X") -> list[np.ndarray]:
    """Pictures that may be of unequal sizes, each ``(height, width, channels)``.

    Args:
        x: as for :func:`as_pictures`; also one picture, ``(height, width)`` or ``(height, width, 1 or 3 or 4)``, or a
            list of pictures of several sizes.
        name: what to call ``x`` in messages.

    Raises:
        DataError: for no pictures, pictures with different numbers of channels, or NaN and infinity.
    """
    if is_folder(x):
        pictures = [load_pictures([path], picture_size(path))[0] for path in _files(x)]
        channels = max(picture.shape[-1] for picture in pictures)
        return [np.repeat(p, channels, axis=-1) if p.shape[-1] < channels else p for p in pictures]
    if x is None:
        raise DataError(f"{name} is expected to hold pictures; received None.")
    if isinstance(x, np.ndarray) and (x.ndim == 2 or (x.ndim == 3 and x.shape[-1] in (1, 3, 4))):
        x = [x]
    pictures = [_numbers(np.asarray(picture), f"{name}[{i}]") for i, picture in enumerate(x)]
    pictures = [picture[..., None] if picture.ndim == 2 else picture for picture in pictures]
    if not pictures:
        raise DataError(f"{name} holds no pictures.")
    for i, picture in enumerate(pictures):
        if picture.ndim != 3 or not picture.size:
            raise DataError(
                f"{name}[{i}] is no picture: (height, width) or (height, width, channels) is expected; "
                f"received {picture.shape}"
            )
        if picture.shape[-1] != pictures[0].shape[-1]:
            raise DataError(
                f"{name}[{i}] has {picture.shape[-1]} channels and {name}[0] has {pictures[0].shape[-1]}.\n"
                "Make them alike; gray to color:  np.repeat(picture[..., None], 3, axis=-1)"
            )
    return pictures


def refuse_other_scale(received: Any, learnt: Any) -> None:
    """Refuse real numbers where bytes were learnt from, or bytes where real numbers were.

    Args:
        received: the dtype of the pictures.
        learnt: the dtype of those in training.

    Raises:
        DataError: naming both kinds.
    """
    kinds = [
        "whole numbers from 0 to 255 (uint8)" if np.dtype(dtype) == np.uint8 else "real numbers"
        for dtype in (learnt, received)
    ]
    if kinds[0] != kinds[1]:
        raise DataError(
            f"the network was trained on {kinds[0]}; received {kinds[1]}.\n"
            "Scale both alike, as:  (255 * X).round().astype('uint8')  or  X / 255"
        )


def value_range(pictures: np.ndarray) -> tuple[float, float]:
    """The values of black and white: 0 and 255 for uint8, otherwise the least and the greatest there are."""
    if pictures.dtype == np.uint8:
        return 0.0, 255.0
    low, high = float(pictures.min()), float(pictures.max())
    return low, high if high > low else low + 1.0


def stored_as(pictures: np.ndarray, dtype: str) -> np.ndarray:
    """What a network gave as pictures of that dtype; uint8 is rounded and limited to its range."""
    return np.clip(np.rint(pictures), 0, 255).astype("uint8") if dtype == "uint8" else pictures.astype(dtype)


def _numbers(x: np.ndarray, name: str) -> np.ndarray:
    if x.dtype.kind not in "biuf":
        raise DataError(f"{name} is expected to hold numbers; received an array of dtype {x.dtype}")
    if x.dtype == np.uint8:
        return x
    finite(name, x.astype("float32"))
    return x.astype("float32")


def _files(folder: Any) -> Sequence[Path]:
    if not Path(folder).is_dir():
        raise DataError(f"there is no folder {folder}")
    files = find_pictures(folder)[0]
    if not files:
        raise DataError(f"{folder}: there are no pictures in this folder")
    return files
