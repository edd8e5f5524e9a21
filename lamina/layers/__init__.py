"""Row 4: layers, one file per topic."""

from lamina.layers.activation import *  # noqa: F403
from lamina.layers.attention import *  # noqa: F403
from lamina.layers.augmentation import *  # noqa: F403
from lamina.layers.base import InputSpec as InputSpec
from lamina.layers.base import Layer as Layer
from lamina.layers.coloring import *  # noqa: F403
from lamina.layers.conv_lstm import *  # noqa: F403
from lamina.layers.convolution import *  # noqa: F403
from lamina.layers.core import Activation as Activation
from lamina.layers.core import Dense as Dense
from lamina.layers.core import Input as Input
from lamina.layers.core import Masking as Masking
from lamina.layers.dropout import *  # noqa: F403
from lamina.layers.einsum import *  # noqa: F403
from lamina.layers.embedding import *  # noqa: F403
from lamina.layers.function import *  # noqa: F403
from lamina.layers.geometric import *  # noqa: F403
from lamina.layers.lookup import *  # noqa: F403
from lamina.layers.merge import *  # noqa: F403
from lamina.layers.multi_head_attention import *  # noqa: F403
from lamina.layers.normalization import *  # noqa: F403
from lamina.layers.pooling import *  # noqa: F403
from lamina.layers.preprocessing import *  # noqa: F403
from lamina.layers.recurrent import *  # noqa: F403
from lamina.layers.reshape import *  # noqa: F403
from lamina.layers.rnn import *  # noqa: F403
from lamina.layers.separable import *  # noqa: F403
from lamina.layers.tabular import *  # noqa: F403
from lamina.layers.text import *  # noqa: F403
from lamina.layers.wrappers import *  # noqa: F403
