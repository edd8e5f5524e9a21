"""Fashion-MNIST: 70,000 grayscale pictures of clothes, 28 x 28 pixels, ten classes (Xiao et al., 2017)."""

import hashlib
import os
import tempfile
import zlib
from pathlib import Path

import numpy as np

from lamina.core.cache import cache_folder
from lamina.core.errors import DataError
from lamina.datasets.base import Arrays

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
#: where Debian's package dataset-fashion-mnist puts the files
INSTALLED = Path("/usr/share/datasets/fashion-mnist")
SOURCE = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
#: file -> (shape, SHA-256 of the file unpacked: archives differ in how they were packed)
FILES: dict[str, tuple[tuple[int, ...], str]] = {
    "train-images-idx3-ubyte.gz": (
        (60_000, 28, 28),
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    "train-labels-idx1-ubyte.gz": (
        (60_000,),
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    "t10k-images-idx3-ubyte.gz": (
        (10_000, 28, 28),
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    "t10k-labels-idx1-ubyte.gz": (
        (10_000,),
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}


def load_data() -> tuple[Arrays, Arrays]:
    """The clothes, split as published.

    Read from Debian's package ``dataset-fashion-mnist`` where it is installed; otherwise downloaded once (29 MB) into
    ``$XDG_CACHE_HOME/lamina/datasets/fashion-mnist``. Every file is checked against its SHA-256 each time.

    Returns:
        ``((x_train, y_train), (x_test, y_test))``: pictures uint8 ``(60000, 28, 28)`` and ``(10000, 28, 28)``, labels
        uint8 ``(60000,)`` and ``(10000,)``.

    Raises:
        DataError: if the files are neither here nor to be had from the network.

    Paper: https://arxiv.org/abs/1708.07747

    Example::

        (x_train, y_train), (x_test, y_test) = lm.datasets.fashion_mnist.load_data()
        CLASS_NAMES[y_train[0]]  # 'Ankle boot'
    """
    x_train, y_train, x_test, y_test = (_read(name) for name in FILES)
    return (x_train, y_train), (x_test, y_test)


def downloads() -> Path:
    """The folder that downloads go to."""
    return cache_folder() / "datasets" / "fashion-mnist"


def _read(name: str) -> np.ndarray:
    shape, digest = FILES[name]
    for path in (INSTALLED / name, downloads() / name):
        if path.is_file():
            content = _unpack(path.read_bytes(), shape, digest)
            if content is not None:
                break
    else:
        content = _download(name)
    return np.frombuffer(content, np.uint8, offset=_header(shape)).reshape(shape).copy()


def _header(shape: tuple[int, ...]) -> int:
    """The bytes before the values: a magic number, then each axis's length."""
    return 4 + 4 * len(shape)


def _unpack(packed: bytes, shape: tuple[int, ...], digest: str) -> bytes | None:
    """The content of a ``.gz`` file, or None if it is not the published one."""
    limit = _header(shape) + int(np.prod(shape))
    try:
        # one byte beyond what is expected is enough to refuse a file, however large it would become
        content = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(packed, limit + 1)
    except zlib.error:
        return None
    return content if hashlib.sha256(content).hexdigest() == digest else None


def _download(name: str) -> bytes:
    import http.client
    import urllib.request

    path, url = downloads() / name, SOURCE + name
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            packed = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise DataError(
            f"Fashion-MNIST is not on this machine, and {url} cannot be reached: {getattr(error, 'reason', error)}\n"
            f"Write:  apt install dataset-fashion-mnist    or put the four .gz files into {path.parent}"
        ) from None
    content = _unpack(packed, *FILES[name])
    if content is None:
        raise DataError(f"{url} is not the published {name}: its SHA-256 is a different one, so it was not kept")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            part = Path(folder, name)
            part.write_bytes(packed)
            os.replace(part, path)
    except OSError:
        pass  # a folder that cannot be written only means one more download next time
    return content
