"""Row 4: layers, one file per topic."""

from lamina.layers.base import InputSpec as InputSpec
from lamina.layers.base import Layer as Layer
from lamina.layers.core import *  # noqa: F403
