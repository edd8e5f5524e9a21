"""Diabetes patients: 442 rows, ten measurements, and a number: the progression of the disease after a year."""

from lamina.datasets.base import Arrays, bundled, split

FEATURE_NAMES = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")


def load_data(test_size: float = 0.2, seed: int = 0) -> tuple[Arrays, Arrays]:
    """The patients, split for training and test.

    Features are as measured (years, mm Hg, ...), not standardized with the test rows' help as scikit-learn's default
    is: put a ``Normalization`` layer first.

    Args:
        test_size: the share of the rows set aside for the test.
        seed: which shuffle; the same seed gives the same rows.

    Returns:
        ``((x_train, y_train), (x_test, y_test))``: features float32 ``(rows, 10)``, targets float32 ``(rows,)`` from
        25 to 346.

    >>> (x_train, y_train), (x_test, y_test) = load_data()
    >>> x_train.shape, x_test.shape
    ((353, 10), (89, 10))
    """
    return split(*bundled("diabetes", scaled=False), test_size, seed, stratified=False)
