"""A folder of pictures per class, as arrays; and arrays as such a folder.

Pictures become 8-bit values, upright, of one size and one number of channels. Nothing in a file is trusted: a damaged
or oversized one is an error that names it.
"""

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lamina.core.errors import ConfigError, DataError, nearest

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

#: what a picture's name ends in; every other file is skipped
SUFFIXES = frozenset(
    f".{name}"
    for name in "png jpg jpeg jfif gif bmp webp avif tif tiff ppm pgm pbm pnm jp2".split()  # noqa: SIM905
)
#: what Pillow may open: formats read by Pillow itself, never by a program that it would start
FORMATS = ("PNG", "JPEG", "MPO", "GIF", "BMP", "DIB", "WEBP", "AVIF", "TIFF", "PPM", "JPEG2000")
COLORS = ("auto", "grayscale", "rgb")
FITS = ("crop", "pad", "stretch")
#: pictures whose size is not asked for are shrunk until their longer side has at most this many pixels
LONGEST_SIDE = 256
#: folders of these names are parts of a data set, not classes
PARTS = frozenset(["train", "training", "test", "testing", "val", "valid", "validation", "dev", "holdout"])

GRAY_MODES = frozenset(["1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N"])
ORIENTATION = 0x0112


@dataclass(frozen=True)
class PictureFolder:
    """Pictures with their classes.

    Attributes:
        pictures: uint8 ``(n, height, width, channels)``, sorted by class name, then by path.
        labels: int32 ``(n,)``, indices into ``class_names``.
        class_names: the names of the folders, sorted.
        paths: the file of each picture.
        skipped: the files that are not pictures by their names; hidden ones are not listed.
    """

    pictures: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    paths: tuple[Path, ...]
    skipped: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def size(self) -> tuple[int, int]:
        """The height and width of every picture."""
        return self.pictures.shape[1], self.pictures.shape[2]

    @property
    def color(self) -> str:
        """``"grayscale"`` or ``"rgb"``: with ``size``, what :func:`load_pictures` needs to read new pictures alike."""
        return "grayscale" if self.pictures.shape[3] == 1 else "rgb"


def read_pictures(
    folder: str | os.PathLike[str],
    size: int | tuple[int, int] | None = None,
    color: str = "auto",
    fit: str = "crop",
) -> PictureFolder:
    """Read a folder that has one folder of pictures per class.

    Args:
        folder: where the folders of the classes are; each may have folders of its own.
        size: (height, width), or one number for both; chosen as :func:`load_pictures` says if None.
        color: ``"grayscale"``, ``"rgb"``, or ``"auto"``: grayscale if every picture is gray.
        fit: how a picture of another shape fits into the size; see :func:`load_pictures`.

    Raises:
        DataError: for a folder without at least two classes, a class without pictures, links that lead in a circle or
            nowhere, and any picture that cannot be read, by its name.
        ConfigError: for an argument that is not one of those named.

    Example::

        photos = read_pictures("photos", size=64)
        photos.pictures.shape, photos.class_names  # ((200, 64, 64, 3), ('cat', 'dog'))
    """
    folder = Path(folder)
    entries = _entries(folder)
    classes = [entry for entry in entries if entry.is_dir()]
    skipped = [entry for entry in entries if not entry.is_dir()]
    loose = [entry for entry in skipped if entry.suffix.lower() in SUFFIXES]
    if not classes:
        found = f"{len(loose)} pictures but no folder in it" if loose else "no folder in it"
        raise DataError(f"{folder}: expected one folder of pictures per class; there is {found}")
    names = tuple(entry.name for entry in classes)
    if all(name.lower() in PARTS for name in names):
        raise DataError(
            f"{folder}: {', '.join(names)} are parts of a data set, not classes.\n"
            f"Write:  read_pictures({str(classes[0])!r})"
        )
    if len(classes) == 1:
        raise DataError(f"{folder}: expected at least two classes, a folder each; there is only {names[0]!r}")
    paths: list[Path] = []
    labels: list[int] = []
    for label, entry in enumerate(classes):
        pictures, others = find_pictures(entry)
        if not pictures:
            raise DataError(f"{entry}: the folder of class {entry.name!r} has no pictures in it")
        paths += pictures
        skipped += others
        labels += [label] * len(pictures)
    return PictureFolder(
        load_pictures(paths, size, color, fit), np.array(labels, "int32"), names, tuple(paths), tuple(skipped)
    )


def find_pictures(folder: str | os.PathLike[str]) -> tuple[list[Path], list[Path]]:
    """The pictures below a folder, by their names' endings, and its other files; hidden ones are left out.

    Raises:
        DataError: for links that lead in a circle or nowhere.
    """
    pictures: list[Path] = []
    others: list[Path] = []
    for path in _walk(Path(folder), ()):
        (pictures if path.suffix.lower() in SUFFIXES else others).append(path)
    return pictures, others


def picture_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """The height and width of the picture in a file, once upright.

    Raises:
        DataError: if it cannot be read.
    """
    with warnings.catch_warnings():
        _judge_warnings()
        return _head(Path(path))[:2]


def load_pictures(
    paths: Iterable[str | os.PathLike[str]],
    size: int | tuple[int, int] | None = None,
    color: str = "auto",
    fit: str = "crop",
) -> np.ndarray:
    """Read files into one array, uint8 ``(n, height, width, channels)``.

    Orientation tags are applied, 16-bit values scaled to 8, transparent places shown on white; of a moving picture the
    first frame is taken.

    Args:
        paths: the files, in the array's order.
        size: (height, width), or one number for both. If None: the size that most pictures have, if more than half
            have it, otherwise the median height and the median width; scaled down to a longer side of 256.
        color: ``"grayscale"``, ``"rgb"``, or ``"auto"``: grayscale if every picture is gray.
        fit: how a picture of another shape fits in: ``"crop"`` scales it, its shape kept, until it covers the size and
            cuts off what stands over on both sides; ``"pad"`` scales it until it is inside and adds black;
            ``"stretch"`` changes its shape.

    Raises:
        DataError: for a picture that cannot be read, by its name.
        ConfigError: for an argument that is not one of those named.
    """
    files = [Path(path) for path in paths]
    if not files:
        raise DataError("expected at least one picture; received none")
    for name, value, choices in (("color", color, COLORS), ("fit", fit, FITS)):
        if value not in choices:
            raise ConfigError(f"{name}={value!r} is not known. {nearest(str(value), choices)}")
    wanted = None if size is None else _size(size)
    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        _judge_warnings()
        heads = list(pool.map(_head, files))
        height, width = wanted or _common_size([head[:2] for head in heads])
        gray = color == "grayscale" or (color == "auto" and all(head[2] for head in heads))
        try:
            result = np.empty((len(files), height, width, 1 if gray else 3), "uint8")
        except (MemoryError, ValueError) as error:
            raise DataError(f"{len(files)} pictures of {height} x {width} pixels do not fit into memory") from error

        def decode(i: int) -> bool:
            result[i] = _decode(files[i], (height, width), gray, fit)
            return not gray and bool((result[i] == result[i][..., :1]).all())

        # gray pictures are often kept with three equal channels
        if all(list(pool.map(decode, range(len(files))))) and color == "auto":
            result = np.ascontiguousarray(result[..., :1])
    return result


def write_pictures(
    folder: str | os.PathLike[str],
    pictures: np.ndarray,
    labels: Sequence[int] | np.ndarray,
    class_names: Sequence[str],
) -> list[Path]:
    """Write arrays as PNG files, one folder per class: what :func:`read_pictures` reads.

    Args:
        folder: made if it is not there. Files of the same names are replaced; no others are touched.
        pictures: uint8 ``(n, height, width)`` or ``(n, height, width, channels)`` with 1 or 3 channels.
        labels: for each picture, the index of its class.
        class_names: the names of the folders; a ``/`` in a name becomes ``-``.

    Returns:
        the files, in the pictures' order, as ``folder/class/00000.png``.

    Raises:
        DataError: if the arrays do not fit together, or a name cannot be that of a folder.
    """
    from PIL import Image

    pictures, labels = np.asarray(pictures), np.asarray(labels)
    if pictures.ndim == 4 and pictures.shape[-1] == 1:
        pictures = pictures[..., 0]
    if pictures.dtype != np.uint8 or not (pictures.ndim == 3 or (pictures.ndim == 4 and pictures.shape[-1] == 3)):
        raise DataError(
            "write_pictures expects uint8 (n, height, width) or (n, height, width, 1 or 3); "
            f"received {pictures.dtype} {pictures.shape}.\n"
            'Write, for values from 0 to 1:  (255 * pictures).round().astype("uint8")'
        )
    names = [str(name).replace("/", "-").replace("\\", "-").strip() for name in class_names]
    for name in names:
        if not name or name.startswith(".") or "\0" in name or names.count(name) > 1:
            raise DataError(f"write_pictures cannot make a folder of its own named {name!r}")
    if labels.shape != pictures.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"write_pictures expects {len(pictures)} whole-number labels; received {labels.dtype} {labels.shape}"
        )
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(names):
        raise DataError(f"write_pictures has {len(names)} class names; labels go from {labels.min()} to {labels.max()}")
    digits = max(5, len(str(len(pictures))))
    paths = [Path(folder, names[label], f"{i:0{digits}}.png") for i, label in enumerate(labels)]
    for parent in {path.parent for path in paths}:
        parent.mkdir(parents=True, exist_ok=True)
    for path, picture in zip(paths, pictures, strict=True):
        Image.fromarray(picture).save(path)
    return paths


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, sorted; hidden files left out."""
    if not folder.exists():
        raise DataError(f"{folder}: there is no such folder")
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder with one folder of pictures per class; this is a file")
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: the folder cannot be read: {error.strerror}") from None
    for path in entries:
        if path.is_symlink() and not path.exists():
            raise DataError(f"{path}: this link leads nowhere, or back to itself")
    return entries


def _walk(folder: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    """The files below a folder in sorted order, links followed."""
    real = folder.resolve()
    if real in above:
        raise DataError(f"{folder}: a link on this path leads back to {real}")
    for path in _entries(folder):
        if path.is_dir():
            yield from _walk(path, (*above, real))
        else:
            yield path


def _judge_warnings() -> None:
    """While pictures are read: oversized ones are errors, remarks on odd tags are not for the reader of a log."""
    from PIL import Image

    warnings.filterwarnings("ignore", module=r"PIL\.")
    warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


def _size(size: Any) -> tuple[int, int]:
    pair = (size, size) if isinstance(size, int | np.integer) else tuple(size) if isinstance(size, tuple | list) else ()
    if len(pair) != 2 or any(isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1 for n in pair):
        raise ConfigError(f"expected size as (height, width), or one number for both; received {size!r}")
    return int(pair[0]), int(pair[1])


def _common_size(sizes: list[tuple[int, int]]) -> tuple[int, int]:
    (height, width), count = Counter(sizes).most_common(1)[0]
    if 2 * count <= len(sizes):
        height, width = np.median(np.array(sizes), axis=0).tolist()
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _open(path: Path, work: "Callable[[Picture], Any]") -> Any:
    """What ``work`` makes of the picture; whatever goes wrong in it becomes an error that names the file."""
    from PIL import Image, UnidentifiedImageError

    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path}: this file is empty (0 bytes)")
        Image.init()
        with Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN]) as image:
            return work(image)
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"{path}: this is not a picture, whatever its name says") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(
            f"{path}: this picture has more than {Image.MAX_IMAGE_PIXELS:,} pixels; shrink it, or raise "
            "PIL.Image.MAX_IMAGE_PIXELS if you trust it"
        ) from None
    except Exception as error:  # decoders raise whatever damaged bytes lead them to
        raise DataError(f"{path}: this picture is damaged or of a kind not known: {error}") from error


def _head(path: Path) -> tuple[int, int, bool]:
    """The height and width once upright, and whether the file's own form is gray."""

    def look(image: "Picture") -> tuple[int, int, bool]:
        width, height = image.size
        # asking a PNG for tags that it does not have up front would decode it
        tagged = image.format != "PNG" or "exif" in image.info
        if tagged and image.getexif().get(ORIENTATION) in (5, 6, 7, 8):
            width, height = height, width
        return height, width, image.mode in GRAY_MODES

    return _open(path, look)


def _decode(path: Path, size: tuple[int, int], gray: bool, fit: str) -> np.ndarray:
    """The picture as uint8 ``(height, width, 1 or 3)``."""
    from PIL import Image, ImageOps

    height, width = size

    def work(image: "Picture") -> np.ndarray:
        if image.format == "JPEG":
            # a JPEG can be decoded at a half, a quarter ... of its size: still twice what is needed
            image.draft(None, (2 * max(size), 2 * max(size)))
        image = _flat(ImageOps.exif_transpose(image), path).convert("L" if gray else "RGB")
        if image.size != (width, height):
            if fit == "stretch":
                image = image.resize((width, height), Image.Resampling.BICUBIC)
            else:
                place = ImageOps.pad if fit == "pad" else ImageOps.fit
                image = place(image, (width, height), Image.Resampling.BICUBIC)
        return np.asarray(image).reshape(height, width, -1)

    return _open(path, work)


def _flat(image: "Picture", path: Path) -> "Picture":
    """The picture without transparency, in 8 bits."""
    from PIL import Image

    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise DataError(f"{path}: expected pixels of 8 or 16 bits; these are of 32 bits, so white is not known")
        return Image.fromarray(((values.astype("uint32") + 128) // 257).astype("uint8"))
    if image.has_transparency_data:
        shown = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), shown).convert("RGB")
    return image.convert("RGB") if image.mode not in ("1", "L") else image
