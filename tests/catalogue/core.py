from lamina import layers
from tests.catalogue import Case

CASES = [
    Case(lambda: layers.Dense(4, activation="tanh"), ((2, 3),)),
    Case(lambda: layers.Dense(3, use_bias=False), ((2, 5, 4),), masked=True, label="sequence"),
    Case(lambda: layers.Activation("tanh"), ((2, 3),)),
    Case(lambda: layers.Masking(), ((2, 3, 4),)),
]
