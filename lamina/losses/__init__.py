"""Losses: what training makes small.

Each is a class, made from its name or short name (``"mse"``, ``"binary_crossentropy"``), and a function that gives
losses per sample.
"""

from lamina.core.registry import getter
from lamina.losses.base import Loss as Loss
from lamina.losses.crossentropy import *  # noqa: F403
from lamina.losses.regression import *  # noqa: F403
from lamina.losses.structured import *  # noqa: F403

get = getter("losses")
