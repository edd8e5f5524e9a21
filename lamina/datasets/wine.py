"""Wines of three growers: 178 rows, thirteen chemical measurements."""

from lamina.datasets.base import Arrays, bundled, split

CLASS_NAMES = ("class_0", "class_1", "class_2")


def load_data(test_size: float = 0.2, seed: int = 0) -> tuple[Arrays, Arrays]:
    """The wines, split for training and test.

    Args:
        test_size: the share of the rows set aside for the test; every class has the same share in both parts.
        seed: which shuffle; the same seed gives the same rows.

    Returns:
        ``((x_train, y_train), (x_test, y_test))``: features float32 ``(rows, 13)``, labels int32 ``(rows,)``.

    >>> (x_train, y_train), (x_test, y_test) = load_data()
    >>> x_train.shape, x_test.shape
    ((142, 13), (36, 13))
    """
    return split(*bundled("wine"), test_size, seed)
