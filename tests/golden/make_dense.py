"""Makes dense.npz: the fully connected layer in Keras.

Run with a Python that has Keras:  python -m tests.golden.make_dense
"""

from pathlib import Path

from tests.golden.layer_cases import GoldenCase, record

CASES = [
    GoldenCase("dense", "Dense", {"units": 5}, ((4, 3),)),
    GoldenCase("dense_relu", "Dense", {"units": 5, "activation": "relu"}, ((4, 3),)),
    GoldenCase("dense_softmax", "Dense", {"units": 5, "activation": "softmax", "use_bias": False}, ((4, 3),)),
    GoldenCase("dense_steps", "Dense", {"units": 2, "activation": "tanh"}, ((2, 4, 3),)),
]

if __name__ == "__main__":
    record(CASES, str(Path(__file__).with_name("dense.npz")))
