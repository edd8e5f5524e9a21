from lamina.layers.core import Dense
from lamina.layers.recurrent import GRU, LSTM
from lamina.layers.wrappers import Bidirectional, SpectralNormalization, TimeDistributed, Wrapper
from tests.catalogue import Case

CASES = [
    Case(lambda: Wrapper(Dense(3)), ((2, 4),)),
    Case(lambda: Bidirectional(LSTM(2, return_sequences=True)), ((2, 3, 4),), masked=True),
    Case(lambda: Bidirectional(GRU(2, return_state=True), merge_mode=None), ((2, 3, 4),), label="states"),
    Case(lambda: TimeDistributed(Dense(3, activation="tanh")), ((2, 3, 4),), masked=True),
    # The singular vectors are held fixed in the gradient, as in the paper; finite differences move them.
    Case(lambda: SpectralNormalization(Dense(3)), ((2, 4),), differentiable=False),
]
