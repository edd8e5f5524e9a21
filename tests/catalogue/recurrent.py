from lamina.layers.conv_lstm import ConvLSTM1D, ConvLSTM2D, ConvLSTM3D
from lamina.layers.recurrent import (
    GRU,
    LSTM,
    RNN,
    GRUCell,
    LSTMCell,
    SimpleRNN,
    SimpleRNNCell,
    StackedRNNCells,
)
from tests.catalogue import Case

CASES = [
    Case(lambda: SimpleRNN(3, return_sequences=True), ((2, 3, 4),), masked=True),
    Case(lambda: LSTM(3, return_sequences=True), ((2, 3, 4),), masked=True),
    Case(lambda: LSTM(3, return_state=True, dropout=0.2, recurrent_dropout=0.2), ((2, 3, 4),), label="states"),
    Case(lambda: GRU(3), ((2, 3, 4),)),
    Case(lambda: GRU(3, reset_after=False, go_backwards=True), ((2, 3, 4),), label="reset_before"),
    Case(lambda: RNN([LSTMCell(3), GRUCell(2)], return_sequences=True), ((2, 3, 4),), masked=True),
    Case(lambda: SimpleRNNCell(3), ((2, 4), [(2, 3)])),
    Case(lambda: LSTMCell(3), ((2, 4), [(2, 3), (2, 3)])),
    Case(lambda: GRUCell(3), ((2, 4), [(2, 3)])),
    Case(lambda: StackedRNNCells([LSTMCell(3), GRUCell(2)]), ((2, 4), [[(2, 3), (2, 3)], [(2, 2)]])),
    Case(lambda: ConvLSTM1D(2, 2, return_sequences=True), ((2, 3, 4, 2),), masked=True),
    Case(lambda: ConvLSTM2D(2, 2, padding="same"), ((2, 2, 3, 3, 2),)),
    Case(lambda: ConvLSTM3D(2, 2), ((1, 2, 2, 2, 2, 1),)),
]
