"""The data sets that scikit-learn carries, as arrays split in two."""

from typing import Any

import numpy as np

from lamina.core.errors import ConfigError

Arrays = tuple[np.ndarray, np.ndarray]


def split(x: np.ndarray, y: np.ndarray, test_size: float, seed: int, stratified: bool = True) -> tuple[Arrays, Arrays]:
    """Shuffle rows and set a share of them aside, the same ones for the same seed.

    Args:
        x: the features, ``(rows, ...)``.
        y: the targets, ``(rows,)``.
        test_size: the share of the rows that becomes the test set, between 0 and 1.
        seed: which shuffle.
        stratified: whether every class has the same share in both parts.

    Returns:
        ``((x_train, y_train), (x_test, y_test))``

    Raises:
        ConfigError: if the share leaves a part without rows.
    """
    from sklearn.model_selection import train_test_split

    if isinstance(test_size, bool) or not isinstance(test_size, float) or not 0 < test_size < 1:
        raise ConfigError(f"load_data expects test_size as a share between 0 and 1, as in 0.2; received {test_size!r}")
    try:
        x_train, x_test, y_train, y_test = train_test_split(
            x, y, test_size=test_size, random_state=seed, stratify=y if stratified else None
        )
    except ValueError as error:
        raise ConfigError(f"{len(x)} rows cannot be split with test_size={test_size}, seed={seed!r}: {error}") from None
    return (x_train, y_train), (x_test, y_test)


def bundled(name: str, **options: Any) -> Arrays:
    """The features as float32 and the targets of one of scikit-learn's data sets.

    Args:
        name: the end of the name of scikit-learn's loader, as ``"iris"``.
        options: arguments of that loader.
    """
    from sklearn import datasets

    found = getattr(datasets, f"load_{name}")(**options)
    labels = np.issubdtype(found.target.dtype, np.integer)
    return found.data.astype("float32"), found.target.astype("int32" if labels else "float32")
