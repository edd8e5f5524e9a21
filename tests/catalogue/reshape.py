"""Cases of lamina/layers/reshape.py."""

from lamina.layers import reshape as r
from tests.catalogue import Case

CASES = [
    Case(lambda: r.Flatten(), ((2, 3, 2),)),
    Case(lambda: r.Reshape((2, -1)), ((2, 3, 4),)),
    Case(lambda: r.Permute((2, 1)), ((2, 3, 4),)),
    Case(lambda: r.RepeatVector(3), ((2, 4),)),
    Case(lambda: r.UpSampling1D(3), ((2, 3, 2),)),
    Case(lambda: r.UpSampling2D((1, 2)), ((1, 2, 3, 2),)),
    Case(lambda: r.UpSampling2D(2, "channels_first", "bilinear"), ((1, 2, 2, 3),), label="bilinear"),
    Case(lambda: r.UpSampling3D(), ((1, 1, 2, 2, 2),)),
    Case(lambda: r.ZeroPadding1D((1, 0)), ((2, 3, 2),)),
    Case(lambda: r.ZeroPadding2D(((1, 0), (0, 2))), ((1, 2, 3, 2),)),
    Case(lambda: r.ZeroPadding3D(), ((1, 1, 2, 2, 1),)),
    Case(lambda: r.Cropping1D(), ((2, 4, 2),)),
    Case(lambda: r.Cropping2D(((1, 0), (0, 2))), ((1, 2, 3, 2),)),
    Case(lambda: r.Cropping3D(), ((1, 3, 3, 4, 1),)),
]
