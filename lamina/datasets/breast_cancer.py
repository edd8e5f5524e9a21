"""Breast tumours (Wisconsin): 569 rows, thirty measurements of cell nuclei, malignant (0) or benign (1)."""

from lamina.datasets.base import Arrays, bundled, split

CLASS_NAMES = ("malignant", "benign")


def load_data(test_size: float = 0.2, seed: int = 0) -> tuple[Arrays, Arrays]:
    """The tumours, split for training and test.

    Args:
        test_size: the share of the rows set aside for the test; every class has the same share in both parts.
        seed: which shuffle; the same seed gives the same rows.

    Returns:
        ``((x_train, y_train), (x_test, y_test))``: features float32 ``(rows, 30)``, labels int32 ``(rows,)``.

    >>> (x_train, y_train), (x_test, y_test) = load_data()
    >>> x_train.shape, x_test.shape
    ((455, 30), (114, 30))
    """
    return split(*bundled("breast_cancer"), test_size, seed)
