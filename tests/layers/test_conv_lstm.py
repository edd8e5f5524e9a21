import numpy as np
import pytest

import lamina.initializers  # noqa: F401 - registers the names
from lamina.core import transforms
from lamina.core.errors import ConfigError, ShapeError
from lamina.layers.conv_lstm import ConvLSTM1D, ConvLSTM2D
from tests.layers.test_recurrent import GOLDEN, assert_golden, parts


def test_equals_keras():
    assert_golden("conv_lstm1d", ConvLSTM1D(2, 3, return_sequences=True), GOLDEN["conv_lstm1d/x"])
    layer = ConvLSTM2D(2, (3, 2), strides=2, padding="same", return_state=True)
    assert_golden("conv_lstm2d", layer, GOLDEN["conv_lstm2d/x"])


def test_channels_first_masks_and_dropout():
    x = GOLDEN["conv_lstm2d/x"]
    mask = np.array([[1, 1, 0], [0, 1, 1]], bool)
    last = ConvLSTM2D(2, (3, 2), strides=2, padding="same")
    first = ConvLSTM2D(2, (3, 2), strides=2, padding="same", data_format="channels_first", recurrent_dropout=0.3)
    for layer, given in ((last, x), (first, np.moveaxis(x, -1, 2))):
        layer.build_from({"sequences": given.shape})
        layer.set_weights(parts("conv_lstm2d", "weight"))
    channels_last = transforms.jit(lambda x: last(x, mask=mask))(x)
    both = transforms.jit(lambda x: [first(x, mask=mask, training=t) for t in (False, True)])(np.moveaxis(x, -1, 2))
    np.testing.assert_allclose(np.moveaxis(both[0], 1, -1), channels_last, rtol=1e-5, atol=1e-6)
    assert not np.allclose(*both)
    np.testing.assert_allclose(channels_last[0], last(x[:1, :2])[0], rtol=1e-5, atol=1e-6)


def test_config_and_bad_arguments():
    layer = ConvLSTM1D(2, 3, dilation_rate=2, return_sequences=True)
    again = ConvLSTM1D.from_config(layer.get_config())
    assert (again.filters, tuple(again.kernel_size), tuple(again.dilation_rate)) == (2, (3,), (2,))
    with pytest.raises(ConfigError, match="padding"):
        ConvLSTM1D(2, 3, padding="causal")
    with pytest.raises(ConfigError, match="2 whole numbers"):
        ConvLSTM2D(2, (3, 3, 3))
    with pytest.raises(ConfigError, match="data_format"):
        ConvLSTM2D(2, 3, data_format="last")
    with pytest.raises(ShapeError, match="all axes but batch and steps"):
        layer.build_from({"sequences": (None, 3, None, 2)})
    with pytest.raises(ShapeError, match="4 axes"):
        layer(np.zeros((2, 3, 4)))
