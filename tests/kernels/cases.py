"""What native operations are tried on: settings, and the shapes of their arguments."""

import pytest

from lamina import native
from lamina.kernels import batch_normalization_operations as batch_normalization
from lamina.kernels import convolution_operations as convolutions
from lamina.kernels import dense_operations as dense
from lamina.kernels import feed_forward, kernel_gradient, normalization, normalized_convolution, pooling
from lamina.kernels import joined_convolution as joined


def geometry(strides, pads, dilation, groups=1):
    return {"strides": strides, "pads": pads, "dilation": dilation, "groups": groups, "looped": False}


WIDE = geometry((1, 1), ((1, 1), (1, 1)), (1, 1))
ODD = geometry((2, 3), ((0, 1), (2, 0)), (2, 1))
GROUPS = geometry((1, 2), ((1, 0), (1, 1)), (1, 1), 2)
APART = geometry((2, 1), ((1, 1), (1, 0)), (1, 2), 19)
TILED = geometry((1, 1), ((4, 1), (0, 2)), (1, 1))
FAR = geometry((1, 1), ((1, 0), (5, 3)), (1, 1))
STRIDED = geometry((2, 2), ((1, 1), (1, 2)), (1, 1))
UNEVEN = geometry((2, 2), ((3, 0), (2, 2)), (1, 1))
BARE = geometry((2, 2), ((0, 0), (0, 0)), (1, 1))
BIG = geometry((1, 1), ((5, 2), (0, 4)), (2, 3))
JOINED = {"pads": ((2, 1), (0, 0)), "looped": False}
LINE = geometry((2,), ((2, 1),), (3,))
WINDOWS = {
    "apart": {"size": (2, 2), "strides": (2, 2), "pads": ((0, 0), (0, 0))},
    "over": {"size": (3, 2), "strides": (2, 1), "pads": ((1, 1), (0, 1))},
    "line": {"size": (3,), "strides": (4,), "pads": ((1, 0),)},
}

# operation, settings, shapes of its arguments
CASES = [
    (convolutions.CONVOLUTION, WIDE | {"slope": 0.0}, [(2, 5, 6, 3), (3, 3, 3, 70), (70,)]),
    (convolutions.CONVOLUTION, ODD | {"slope": 0.2}, [(3, 9, 8, 5), (2, 3, 5, 33), (33,)]),
    (convolutions.CONVOLUTION, GROUPS | {"slope": 1.0}, [(2, 6, 5, 16), (2, 3, 8, 32), (0,)]),
    (convolutions.CONVOLUTION, WIDE | {"slope": 0.0}, [(2, 7, 9, 20), (3, 3, 20, 37), (37,)]),
    (convolutions.CONVOLUTION, TILED | {"slope": 0.2}, [(3, 5, 4, 16), (3, 3, 16, 17), (17,)]),
    (convolutions.CONVOLUTION, FAR | {"slope": 0.2}, [(3, 6, 5, 16), (3, 3, 16, 32), (32,)]),
    (convolutions.CONVOLUTION, WIDE | {"slope": 0.0}, [(2, 7, 5, 18), (3, 3, 18, 3), (3,)]),
    (convolutions.CONVOLUTION, BIG | {"slope": 0.2}, [(2, 9, 11, 8), (4, 3, 8, 2), (2,)]),
    (convolutions.CONVOLUTION, STRIDED | {"slope": 0.2}, [(5, 9, 12, 32), (4, 4, 32, 16), (16,)]),
    (convolutions.CONVOLUTION, UNEVEN | {"slope": 1.0}, [(7, 8, 7, 16), (4, 4, 16, 48), (0,)]),
    (convolutions.CONVOLUTION, BARE | {"slope": 0.2}, [(1, 26, 21, 16), (4, 4, 16, 16), (16,)]),
    (convolutions.CONVOLUTION, LINE | {"slope": 1.0}, [(2, 17, 4), (3, 4, 19), (19,)]),
    (convolutions.CONVOLUTION, APART | {"slope": 0.0}, [(5, 6, 5, 19), (2, 3, 1, 19), (19,)]),
    (convolutions.CONVOLUTION, APART | {"slope": 1.0}, [(2, 6, 5, 19), (2, 3, 1, 19), (0,)]),
    (
        convolutions.OUTER,
        ODD | {"lengths": (9, 8), "undone": 0.0, "slope": 1.0},
        [(3, 4, 3, 20), (3, 4, 3, 20), (2, 3, 18, 20), (0,)],
    ),
    (
        convolutions.OUTER,
        STRIDED | {"lengths": (9, 12), "undone": 0.0, "slope": 0.2},
        [(5, 4, 6, 16), (5, 4, 6, 16), (4, 4, 32, 16), (32,)],
    ),
    (
        convolutions.OUTER,
        UNEVEN | {"lengths": (9, 7), "undone": 1.0, "slope": 1.0},
        [(5, 5, 4, 16), (0,), (4, 4, 16, 16), (0,)],
    ),
    (
        convolutions.OUTER,  # one picture, for which threads share its rows
        BARE | {"lengths": (27, 22), "undone": 0.3, "slope": 0.2},
        [(1, 12, 10, 32), (1, 12, 10, 32), (4, 4, 16, 32), (16,)],
    ),
    (
        convolutions.OUTER,
        GROUPS | {"lengths": (6, 5), "undone": 0.0, "slope": 1.0},
        [(2, 6, 3, 32), (2, 6, 3, 32), (2, 3, 8, 32), (0,)],
    ),
    (convolutions.OUTER, LINE | {"lengths": (17,), "undone": 1.0, "slope": 0.2}, [(2, 7, 19), (0,), (3, 4, 19), (4,)]),
    (convolutions.KERNEL, WIDE | {"size": (3, 3), "undone": 0.3}, [(3, 5, 6, 7), (3, 5, 6, 40), (3, 5, 6, 40)]),
    (
        convolutions.KERNEL,
        STRIDED | {"size": (4, 4), "undone": 0.3},
        [(5, 9, 12, 32), (5, 4, 6, 16), (5, 4, 6, 16)],
    ),
    (convolutions.KERNEL, GROUPS | {"size": (2, 3), "undone": 0.3}, [(2, 6, 5, 16), (2, 6, 3, 32), (2, 6, 3, 32)]),
    (convolutions.KERNEL, LINE | {"size": (3,), "undone": 1.0}, [(5, 17, 4), (5, 7, 16), (0,)]),
    *(
        (pooling.MAX_POOL, WINDOWS[name], [shape])
        for name, shape in [("apart", (2, 5, 6, 19)), ("over", (2, 6, 5, 3)), ("line", (3, 11, 4))]
    ),
    *(
        (pooling.AVERAGE_POOL, WINDOWS[name], [shape])
        for name, shape in [("apart", (2, 5, 6, 19)), ("over", (2, 6, 5, 3)), ("line", (3, 11, 4))]
    ),
    (pooling.AVERAGE_POOL_GRADIENT, WINDOWS["over"] | {"lengths": (6, 5)}, [(2, 3, 5, 3)]),
    (joined.JOINED_CONVOLUTION, JOINED | {"slope": 0.2}, [(2, 7, 6, 16), (2, 7, 6, 32), (3, 3, 48, 19), (19,)]),
    (joined.JOINED_CONVOLUTION, JOINED | {"slope": 1.0}, [(1, 3, 4, 32), (1, 3, 4, 16), (3, 3, 48, 16), (0,)]),
    (
        joined.OUTER_OF_JOINED,
        JOINED | {"lengths": (5, 6), "channels": (32, 16), "undone": 0.0},
        [(3, 6, 4, 20), (3, 6, 4, 20), (3, 3, 48, 20)],
    ),
    (joined.KERNEL_OF_JOINED, JOINED | {"undone": 0.2}, [(5, 5, 6, 16), (5, 5, 6, 32), *[(5, 6, 4, 35)] * 2]),
    (dense.DENSE, {"slope": 0.0}, [(5, 30), (30, 21), (21,), (0,)]),
    (dense.DENSE, {"slope": 0.2}, [(2, 7, 16), (16, 32), (32,), (0,)]),
    (dense.DENSE, {"slope": 1.0}, [(3, 4), (4, 2), (0,), (0,)]),
    (dense.DENSE, {"slope": 0.0}, [(1, 301), (301, 597), (597,), (0,)]),
    (dense.DENSE, {"slope": 0.2}, [(5, 331), (331, 420), (420,), (0,)]),
    (dense.DENSE, {"slope": 1.0}, [(1, 1), (1, 1), (1,), (0,)]),
    (dense.DENSE, {"slope": 0.2}, [(3, 67, 65), (65, 83), (83,), (0,)]),
    (dense.DENSE, {"slope": 1.0}, [(1000, 20), (20, 10), (0,), (0,)]),
    (dense.DENSE, {"slope": 0.2}, [(577, 37), (37, 69), (69,), (0,)]),
    (dense.DENSE, {"slope": 0.2}, [(530, 420), (420, 330), (330,), (0,)]),
    (dense.DENSE, {"slope": 0.2}, [(5, 331), (331, 420), (420,), (5, 420)]),
    (dense.DENSE, {"slope": 1.0}, [(2, 7, 16), (16, 35), (0,), (2, 7, 35)]),
    (dense.DENSE, {"slope": 0.2}, [(577, 37), (37, 69), (69,), (577, 69)]),
    (dense.DENSE, {"slope": 1.0}, [(70, 420), (420, 330), (330,), (70, 330)]),
    (dense.DENSE_TRANSPOSED, {}, [(2, 20, 67), (83, 67)]),
    (dense.DENSE_TRANSPOSED, {}, [(530, 70), (65, 70)]),
    (dense.DENSE_TRANSPOSED, {}, [(530, 420), (330, 420)]),
    (dense.DENSE_GELU, {}, [(2, 20, 67), (67, 83), (83,)]),
    (dense.DENSE_GELU, {}, [(530, 70), (70, 300), (0,)]),
    (dense.DENSE_GELU, {}, [(130, 420), (420, 330), (330,)]),
    (dense.DENSE_GELU, {}, [(33, 5), (5, 7), (7,)]),
    (dense.DENSE_GRADIENT, {"slope": 0.0, "back": True, "gelu": True}, [(10, 331), (331, 420), *[(10, 420)] * 2]),
    (dense.DENSE_GRADIENT, {"slope": 0.2, "back": True, "gelu": False}, [(1030, 7), (7, 21), (1030, 21), (1030, 21)]),
    (dense.DENSE_GRADIENT, {"slope": 0.0, "back": True, "gelu": False}, [(70, 50), (50, 70), (70, 70), (70, 70)]),
    (dense.DENSE_GRADIENT, {"slope": 1.0, "back": True, "gelu": False}, [(70, 50), (50, 70), (0,), (70, 70)]),
    (dense.DENSE_GRADIENT, {"slope": 1.0, "back": False, "gelu": False}, [(600, 131), (131, 32), (0,), (600, 32)]),
    (dense.DENSE_GRADIENT, {"slope": 0.0, "back": True, "gelu": False}, [(577, 69), (69, 37), (577, 37), (577, 37)]),
    (dense.DENSE_GRADIENT, {"slope": 1.0, "back": True, "gelu": False}, [(530, 420), (420, 330), (0,), (530, 330)]),
    (dense.DENSE_BACK, {"slope": 0.0, "back": True, "gelu": False}, [(331, 420), (70, 420), (70, 420)]),
    (dense.DENSE_BACK, {"slope": 1.0, "back": False, "gelu": False}, [(30, 21), (0,), (33, 21)]),
    (dense.DENSE_BACK, {"slope": 0.0, "back": True, "gelu": True}, [(67, 83), (5, 83), (5, 83)]),
    (feed_forward.FEED_FORWARD, {}, [(530, 70), (70, 130), (130,), (130, 35), (35,), (530, 35)]),
    (feed_forward.FEED_FORWARD, {}, [(3, 200, 7), (7, 21), (0,), (21, 64), (0,), (0,)]),
    (feed_forward.FEED_FORWARD_GRADIENT, {"back": True}, [(530, 70), (70, 130), (130, 35), (530, 130), (530, 35)]),
    (feed_forward.FEED_FORWARD_GRADIENT, {"back": False}, [(601, 7), (7, 21), (21, 64), (601, 21), (601, 64)]),
    (kernel_gradient.KERNEL_GRADIENT, {}, [(70, 331), (70, 420)]),
    (kernel_gradient.KERNEL_GRADIENT, {}, [(600, 5), (600, 64)]),
    (kernel_gradient.KERNEL_GRADIENT, {}, [(3, 101), (3, 16)]),
    (normalization.LAYER_NORM, {"epsilon": 1e-3, "centered": True}, [(3, 5, 37), (37,), (37,)]),
    (normalization.LAYER_NORM, {"epsilon": 1e-3, "centered": False}, [(300, 8), (8,), (0,)]),
    (normalization.LAYER_NORM, {"epsilon": 1e-3, "centered": True}, [(7, 1), (0,), (0,)]),
    (batch_normalization.BATCH_MOMENTS, {}, [(2, 13, 12, 21)]),
    (batch_normalization.BATCH_MOMENTS, {}, [(300, 3)]),
    (normalized_convolution.CONVOLUTION_MOMENTS, JOINED, [(8, 7, 6, 16), (3, 3, 16, 21), (21,)]),
    (normalized_convolution.CONVOLUTION_MOMENTS, JOINED, [(3, 9, 140, 16), (3, 3, 16, 16), (0,)]),
    (convolutions.CONVOLUTION, STRIDED | {"slope": 0.2}, [(9, 17, 16, 16), (3, 3, 16, 32), (32,)]),
    (convolutions.CONVOLUTION, BARE | {"slope": 1.0}, [(1, 48, 55, 32), (3, 3, 32, 32), (0,)]),
    (
        convolutions.OUTER,
        UNEVEN | {"lengths": (11, 12), "undone": 0.0, "slope": 0.2},
        [(17, 6, 7, 32), (17, 6, 7, 32), (3, 3, 16, 32), (16,)],
    ),
    (
        convolutions.OUTER,  # with places at the end that no result sees
        BARE | {"lengths": (60, 44), "undone": 1.0, "slope": 1.0},
        [(1, 29, 21, 32), (0,), (3, 3, 16, 32), (0,)],
    ),
    (convolutions.KERNEL, UNEVEN | {"size": (3, 3), "undone": 0.3}, [(17, 11, 12, 16), *[(17, 6, 7, 32)] * 2]),
    # 3 by 3 in tiles of four results across: all there, and one fewer in the last
    (convolutions.CONVOLUTION, WIDE | {"slope": 0.0}, [(3, 6, 8, 16), (3, 3, 16, 32), (32,)]),
    (convolutions.CONVOLUTION, TILED | {"slope": 0.2}, [(2, 5, 12, 20), (3, 3, 20, 16), (16,)]),
    (
        convolutions.OUTER,
        FAR | {"lengths": (8, 7), "undone": 0.0, "slope": 1.0},
        [*[(3, 7, 13, 32)] * 2, (3, 3, 16, 32), (0,)],
    ),
    (convolutions.KERNEL, WIDE | {"size": (3, 3), "undone": 0.3}, [(5, 9, 15, 32), *[(5, 9, 15, 16)] * 2]),
]
NATIVE = pytest.mark.skipif(not native.load().names, reason="the native kernels were not built")
