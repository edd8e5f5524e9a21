import numpy as np

from lamina import layers
from tests.catalogue import Case

CASES = [
    Case(lambda: layers.FillMissing(), ((2, 3),)),
    Case(
        lambda: layers.FillMissing(value=1.5, indicate=False),
        (),
        data=(np.array([[1.0, np.nan], [np.nan, 2.0]], "float32"),),
        differentiable=False,
        label="missing",
    ),
]
