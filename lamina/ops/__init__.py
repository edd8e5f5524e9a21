"""Row 3: the functions of ``keras.ops``, on arrays and on the symbolic values of a network.

Each takes JAX and NumPy arrays, Python numbers, lists and variables. Dtypes follow JAX's rules. The functions on
pictures are in ``lamina.ops.image``.

>>> add([1, 2], 3).tolist()
[4, 5]
"""

from lamina.ops import core as core
from lamina.ops import image as image
from lamina.ops import linalg as linalg
from lamina.ops import math as math
from lamina.ops import nn as nn
from lamina.ops import numpy as numpy
from lamina.ops.core import *  # noqa: F403
from lamina.ops.einops import *  # noqa: F403
from lamina.ops.linalg import *  # noqa: F403
from lamina.ops.math import *  # noqa: F403
from lamina.ops.nn import *  # noqa: F403
from lamina.ops.numpy import *  # noqa: F403
