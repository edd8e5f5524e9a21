"""Cases of lamina/layers/pooling.py."""

from lamina.layers import pooling as p
from tests.catalogue import Case

CASES = [
    Case(lambda: p.MaxPooling1D(2, 1), ((2, 5, 2),)),
    Case(lambda: p.MaxPooling2D(), ((1, 4, 5, 2),)),
    Case(lambda: p.MaxPooling2D(3, 2, "same", "channels_first"), ((1, 2, 4, 5),), label="channels_first"),
    Case(lambda: p.MaxPooling3D(), ((1, 2, 3, 4, 2),)),
    Case(lambda: p.AveragePooling1D(3, 2, "same"), ((2, 5, 2),)),
    Case(lambda: p.AveragePooling2D(), ((1, 4, 5, 2),)),
    Case(lambda: p.AveragePooling3D(), ((1, 2, 3, 4, 2),)),
    Case(lambda: p.GlobalMaxPooling1D(), ((2, 5, 2),)),
    Case(lambda: p.GlobalMaxPooling2D(keepdims=True), ((1, 4, 5, 2),)),
    Case(lambda: p.GlobalMaxPooling3D(), ((1, 2, 3, 4, 2),)),
    Case(lambda: p.GlobalAveragePooling1D(), ((2, 5, 2),)),
    Case(lambda: p.GlobalAveragePooling2D("channels_first"), ((1, 2, 4, 5),)),
    Case(lambda: p.GlobalAveragePooling3D(), ((1, 2, 3, 4, 2),)),
    Case(lambda: p.AdaptiveMaxPooling1D(3), ((2, 5, 2),)),
    Case(lambda: p.AdaptiveMaxPooling2D((2, 1)), ((1, 4, 5, 2),)),
    Case(lambda: p.AdaptiveMaxPooling3D(2), ((1, 2, 3, 4, 2),)),
    Case(lambda: p.AdaptiveAveragePooling1D(3), ((2, 5, 2),)),
    Case(lambda: p.AdaptiveAveragePooling2D((2, 1)), ((1, 4, 5, 2),)),
    Case(lambda: p.AdaptiveAveragePooling3D(2), ((1, 2, 3, 4, 2),)),
]
