"""Well-known data sets, each a module with ``load_data()`` in Keras's form.

>>> from lamina import datasets
>>> (x_train, y_train), (x_test, y_test) = datasets.iris.load_data()
>>> x_train.shape, x_test.shape, datasets.iris.CLASS_NAMES
((120, 4), (30, 4), ('setosa', 'versicolor', 'virginica'))
"""

from lamina.datasets import breast_cancer, diabetes, digits, fashion_mnist, iris, wine

__all__ = ["breast_cancer", "diabetes", "digits", "fashion_mnist", "iris", "wine"]
