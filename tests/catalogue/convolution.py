"""Cases of lamina/layers/convolution.py and separable.py."""

from lamina.layers import convolution as c
from lamina.layers import separable as s
from tests.catalogue import Case

CASES = [
    Case(lambda: c.Conv1D(3, 2, activation="tanh"), ((2, 5, 2),)),
    Case(lambda: c.Conv1D(3, 2, padding="causal", dilation_rate=2), ((2, 5, 2),), label="causal"),
    Case(lambda: c.Conv2D(3, (2, 3), strides=2, padding="same"), ((2, 4, 5, 2),)),
    Case(lambda: c.Conv2D(4, 2, groups=2, use_bias=False), ((1, 3, 3, 4),), label="groups"),
    Case(lambda: c.Conv2D(2, 2, data_format="channels_first"), ((1, 2, 3, 4),), label="channels_first"),
    Case(lambda: c.Conv3D(2, 2), ((1, 3, 2, 3, 2),)),
    Case(lambda: c.Conv1DTranspose(3, 3, strides=2, output_padding=1), ((2, 3, 2),)),
    Case(lambda: c.Conv2DTranspose(3, 3, strides=2, padding="same"), ((1, 3, 2, 2),)),
    Case(lambda: c.Conv3DTranspose(2, 2), ((1, 2, 2, 2, 1),)),
    Case(lambda: s.DepthwiseConv1D(2, depth_multiplier=2), ((2, 4, 2),)),
    Case(lambda: s.DepthwiseConv2D(2, strides=2, padding="same"), ((1, 4, 3, 2),)),
    Case(lambda: s.SeparableConv1D(3, 2, padding="same"), ((2, 4, 2),)),
    Case(lambda: s.SeparableConv2D(3, 2, depth_multiplier=2), ((1, 3, 3, 2),)),
]
