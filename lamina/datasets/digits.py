"""Handwritten digits: 1,797 pictures of 8 x 8 pixels, ten classes."""

from lamina.datasets.base import Arrays, bundled, split

CLASS_NAMES = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")


def load_data(test_size: float = 0.2, seed: int = 0) -> tuple[Arrays, Arrays]:
    """The digits, split for training and test.

    Args:
        test_size: the share of the pictures set aside for the test; every digit has the same share in both parts.
        seed: which shuffle; the same seed gives the same pictures.

    Returns:
        ``((x_train, y_train), (x_test, y_test))``: pictures uint8 ``(rows, 8, 8)`` with values from 0 to 16 (not
        255), labels int32 ``(rows,)``.

    >>> (x_train, y_train), (x_test, y_test) = load_data()
    >>> x_train.shape, x_test.shape, x_train.max()
    ((1437, 8, 8), (360, 8, 8), np.uint8(16))
    """
    x, y = bundled("digits")
    return split(x.astype("uint8").reshape(-1, 8, 8), y, test_size, seed)
