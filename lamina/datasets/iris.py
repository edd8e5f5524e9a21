"""Fisher's iris flowers: 150 rows, four measurements in centimetres, three species."""

from lamina.datasets.base import Arrays, bundled, split

CLASS_NAMES = ("setosa", "versicolor", "virginica")
FEATURE_NAMES = ("sepal length", "sepal width", "petal length", "petal width")


def load_data(test_size: float = 0.2, seed: int = 0) -> tuple[Arrays, Arrays]:
    """The flowers, split for training and test.

    Args:
        test_size: the share of the rows set aside for the test; every class has the same share in both parts.
        seed: which shuffle; the same seed gives the same rows.

    Returns:
        ``((x_train, y_train), (x_test, y_test))``: features float32 ``(rows, 4)``, labels int32 ``(rows,)``.

    >>> (x_train, y_train), (x_test, y_test) = load_data()
    >>> x_train.shape, x_test.shape
    ((120, 4), (30, 4))
    """
    return split(*bundled("iris"), test_size, seed)
