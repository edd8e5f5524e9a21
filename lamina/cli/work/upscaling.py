"""Pictures to enlarge: a network learns from them what their shrunken copies have lost."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lamina import report
from lamina.cli.work.base import Examples, Result, Work
from lamina.cli.work.pictures import picture_files
from lamina.core.errors import DataError, FileError
from lamina.data.pictures import load_pictures, picture_size
from lamina.families.super_resolution import psnr, shrunk, trimmed

#: how many pictures are drawn before and after, and the longest side of the part that is shown of one
SHOWN, SIDE = 4, 96


@dataclass(kw_only=True)
class Upscaling(Work):
    """Pictures of any sizes, and their enlargement."""

    kind = "upscaling"
    unit = "pictures"
    does = "enlarges pictures"
    use = "upscale RUN PICTURE"
    estimators: ClassVar[Mapping[str, str]] = {"super-resolution": "SuperResolution"}

    @classmethod
    def find(cls, data: Path, family: str) -> tuple["Upscaling", Examples]:
        """What the folder holds."""
        examples = read_each(data)
        colors = "gray" if all(picture.shape[2] == 1 for picture in examples.x) else "color"
        reason = f"{len(examples):,} {colors} pictures: a network that enlarges pictures (super-resolution)"
        if colors == "color":
            examples.x = [as_color(picture) for picture in examples.x]
        return cls(family=family, reason=reason), examples

    def about(self, estimator: Any) -> list[str]:
        color = "gray" if estimator.channels_ == 1 else "color"
        return [f"Enlarges {color} pictures of any size {estimator.scale} times"]

    def read(self, data: Path, estimator: Any, answers: bool = True) -> Examples:
        return read_each(data)

    def examine(self, estimator: Any, examples: Examples) -> Result:
        compared = []
        for picture in examples.x:
            true = trimmed(picture, estimator.scale)
            if not true.size:
                raise DataError(
                    f"pictures need sides of at least {estimator.scale} pixels; there is one of {picture.shape}"
                )
            small = shrunk(true, estimator.scale)
            compared.append((small, bicubic(small, estimator.scale), enlarged(estimator, small), true))
        scores = {
            "PSNR": float(np.mean([psnr(true, ours) for _, _, ours, true in compared])),
            "that of bicubic enlargement": float(np.mean([psnr(true, plain) for _, plain, _, true in compared])),
        }
        return Result(scores, predicted=compared)

    def draw(self, folder: Path, estimator: Any, unseen: Examples | None, result: Result | None) -> list[str]:
        assert unseen is not None
        assert result is not None
        names = [Path(name).name for name in unseen.names]
        _draw(folder / "before_after.png", result.predicted, names, ["small", "bicubic", "network", "true"])
        return ["before_after.png"]

    def upscale(self, estimator: Any, data: Path, out: Path | None, picture: Path) -> list[Path]:
        from PIL import Image

        sources = picture_files(data)
        out = out or Path(f"{data.resolve().stem}-{estimator.scale}x" + ("" if data.is_dir() else ".png"))
        targets = [out / path.relative_to(data).with_suffix(".png") for path in sources] if data.is_dir() else [out]
        for path, target in zip(sources, targets, strict=True):
            if targets.count(target) > 1:
                raise DataError(f"{path}: another picture has this name up to its ending; both would become {target}")
        if targets[0].suffix.lower() != ".png":
            raise FileError(f"{out}: expected a file that ends in .png")
        compared: list[tuple[np.ndarray, ...]] = []
        for path, target in zip(sources, targets, strict=True):
            small = load_pictures([path], picture_size(path))[0]
            large = enlarged(estimator, small)
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(large.squeeze(-1) if large.shape[2] == 1 else large).save(target)
            if len(compared) < SHOWN:
                compared.append((small, bicubic(small, estimator.scale), large))
        _draw(picture, compared, [path.name for path in sources], ["small", "before (bicubic)", "after"])
        return targets


def read_each(data: Path) -> Examples:
    """One picture or all below a folder, each of its own size."""
    paths = picture_files(data)
    return Examples([load_pictures([path], picture_size(path))[0] for path in paths], None, [str(p) for p in paths])


def as_color(picture: np.ndarray) -> np.ndarray:
    """A picture with three channels."""
    return np.repeat(picture, 3, axis=-1) if picture.shape[2] == 1 else picture


def enlarged(estimator: Any, picture: np.ndarray) -> np.ndarray:
    """The picture enlarged by the network, which may be one for other colors.

    A network for gray pictures takes red, green and blue one by one.
    """
    if estimator.channels_ == 3:
        large = np.asarray(estimator.upscale([as_color(picture)])[0])
        return large if picture.shape[2] == 3 else large.mean(axis=-1, keepdims=True).round().astype("uint8")
    return np.concatenate(estimator.upscale([plane[..., None] for plane in np.moveaxis(picture, -1, 0)]), axis=-1)


def bicubic(picture: np.ndarray, scale: int) -> np.ndarray:
    """The picture enlarged by bicubic interpolation."""
    from PIL import Image

    size = (picture.shape[1] * scale, picture.shape[0] * scale)
    flat = Image.fromarray(picture.squeeze(-1) if picture.shape[2] == 1 else picture)
    return np.asarray(flat.resize(size, Image.Resampling.BICUBIC)).reshape(size[1], size[0], -1)


def _draw(path: Path, compared: list[tuple[np.ndarray, ...]], names: list[str], titles: list[str]) -> None:
    """Small and large forms of the first pictures side by side: of each the part with most to see."""
    rows = []
    for small, *large in compared[:SHOWN]:
        scale = large[0].shape[0] // small.shape[0]
        side = SIDE // scale
        top, left = _busiest(small.mean(axis=-1), side)
        parts = [(small, 1), *((picture, scale) for picture in large)]
        rows.append([picture[top * s : (top + side) * s, left * s : (left + side) * s] for picture, s in parts])
    report.picture_rows(rows, names[:SHOWN], path, titles)


def _busiest(picture: np.ndarray, side: int) -> tuple[int, int]:
    """Where the square with the greatest differences between neighbors begins, among squares half a side apart."""
    height, width = picture.shape
    changes = np.zeros((height, width))
    changes[1:] += np.abs(np.diff(picture, axis=0))
    changes[:, 1:] += np.abs(np.diff(picture, axis=1))
    tops, lefts = (
        [*range(0, max(length - side, 0), max(side // 2, 1)), max(length - side, 0)] for length in picture.shape
    )
    corners = [(top, left) for top in tops for left in lefts]
    return max(corners, key=lambda corner: changes[corner[0] :, corner[1] :][:side, :side].sum())
