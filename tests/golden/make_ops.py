"""Golden values of ops that NumPy lacks, from Keras on JAX: run with KERAS_BACKEND=jax from the repository's root."""

import sys
from pathlib import Path

import jax
import keras
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.ops.examples import EXAMPLES

found = {}
for example in EXAMPLES:
    if example.label == "shape" or not example.from_keras:
        continue
    fn = getattr(keras.ops, example.op, None) or getattr(keras.ops.image, example.op)
    leaves = jax.tree.leaves(fn(*example.args, **example.kwargs))
    found |= {f"{example.name}/{index}": np.asarray(leaf) for index, leaf in enumerate(leaves)}
np.savez_compressed(Path(__file__).with_name("ops.npz"), **found)
