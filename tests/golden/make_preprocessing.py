"""Golden values of preprocessing, lookup, text and augmentation layers, from Keras 3.

Run with a Python that has Keras and TensorFlow:  KERAS_BACKEND=jax python tests/golden/make_preprocessing.py
"""

import json
from pathlib import Path

import keras
import numpy as np
from keras import layers

rng = np.random.default_rng(0)
out = {}


def keep(name, value):
    out[name] = np.asarray(value)


# pictures
pictures = out["pictures"] = rng.normal(size=(2, 5, 7, 2)).astype("float32")
whole = out["whole"] = rng.integers(0, 256, (1, 4, 6, 3)).astype("uint8")
for interpolation in ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"):
    for antialias in (False, True):
        layer = layers.Resizing(3, 9, interpolation, antialias=antialias)
        keep(f"resize/{interpolation}/{antialias}", layer(pictures))
keep("resize/whole", layers.Resizing(7, 5)(whole))
keep("resize/crop", layers.Resizing(4, 4, crop_to_aspect_ratio=True)(pictures))
keep("resize/pad", layers.Resizing(4, 4, pad_to_aspect_ratio=True, fill_value=0.5)(pictures))
for size in ((3, 4), (2, 3), (8, 4), (4, 9)):
    keep(f"crop/{size[0]}x{size[1]}", layers.CenterCrop(*size)(pictures))

# numbers
table = out["table"] = rng.normal(3, 5, size=(50, 3)).astype("float32")
for name, axis in (("last", -1), ("none", None), ("both", (0, 1))):
    for invert in (False, True):
        layer = layers.Normalization(axis=axis, invert=invert)
        layer.adapt(table)
        keep(f"normalize/{name}/{invert}", layer(table))
layer = layers.Normalization()
layer.adapt(iter([table[:10], table[10:17], table[17:]]))
keep("normalize/batches", layer(table))
cube = out["cube"] = rng.normal(size=(4, 3, 2)).astype("float32")
layer = layers.Normalization(axis=(1, 2), mean=[1.0, 2.0], variance=[4.0, 9.0])
keep("normalize/given", layer(cube))

column = out["column"] = rng.gamma(2.0, size=300).astype("float32")
for bins, epsilon in ((4, 0.01), (7, 0.1), (3, 0.001)):
    layer = layers.Discretization(num_bins=bins, epsilon=epsilon)
    layer.adapt(column)
    keep(f"bins/{bins}", layer.bin_boundaries)
    keep(f"binned/{bins}", layer(column))
layer = layers.Discretization(num_bins=5)
layer.adapt(iter([column[:100], column[100:180], column[180:]]))
keep("bins/batches", layer.bin_boundaries)
small = out["small"] = rng.normal(size=(3, 4)).astype("float32")
for mode in ("int", "one_hot", "multi_hot", "count"):
    keep(f"discretize/{mode}", layers.Discretization([-0.5, 0.0, 1.0], output_mode=mode)(small))

tokens = out["tokens"] = rng.integers(0, 6, (4, 3)).astype("int32")
weights = out["weights"] = rng.uniform(size=(4, 3)).astype("float32")
for mode in ("one_hot", "multi_hot", "count"):
    keep(f"encode/{mode}", layers.CategoryEncoding(6, mode)(tokens))
keep("encode/single", layers.CategoryEncoding(6, "one_hot")(tokens[:, :1]))
keep("encode/weights", layers.CategoryEncoding(6, "count")(tokens, count_weights=weights))

# lookups
words = [["cat", "dog"], ["dog", "bird"], ["", "dog"], ["cat", "fish"]]
queries = [["dog", "cow"], ["fish", ""], ["cat", "cat"]]
numbers = np.array([[12, 1138], [1138, 42], [7, 1138], [12, -9]])
asked = np.array([[1138, 5], [42, 7], [-9, 12]])
config = {"words": words, "queries": queries, "numbers": numbers.tolist(), "asked": asked.tolist(), "vocabularies": {}}
vocabularies = config["vocabularies"]
for mode in ("int", "one_hot", "multi_hot", "count", "tf_idf"):
    for mask, number_mask in ((None, None), ("", 7)):
        name = f"{mode}/{mask is not None}"
        layer = layers.StringLookup(output_mode=mode, mask_token=mask)
        layer.adapt(np.array(words))
        keep(f"strings/{name}", layer(np.array(queries)))
        vocabularies[f"strings/{name}"] = layer.get_vocabulary()
        layer = layers.IntegerLookup(output_mode=mode, mask_token=number_mask)
        layer.adapt(numbers)
        keep(f"integers/{name}", layer(asked))
        vocabularies[f"integers/{name}"] = [int(x) for x in layer.get_vocabulary()]
layer = layers.StringLookup(max_tokens=4, output_mode="tf_idf", pad_to_max_tokens=True)
layer.adapt(np.array([["a", "b"], ["a", "a"]]))
keep("strings/padded", layer(np.array([["a", "z"], ["b", "b"]])))
layer = layers.StringLookup(vocabulary=["x", "y"], idf_weights=[0.25, 0.75], output_mode="tf_idf")
keep("strings/weights", layer(np.array([["x", "q", "x"]])))
layer = layers.IntegerLookup(vocabulary=[3, 5], num_oov_indices=3)
keep("integers/oov", layer(np.arange(-4, 10)))
layer = layers.IntegerLookup(vocabulary=[3, 5], invert=True, mask_token=0)
keep("integers/invert", layer(np.arange(0, 6)))

# texts
texts = ["The cat sat on the mat.", "A dog & a cat!", "  It's   the end... ", "DOG days,dog nights"]
fresh = ["the dog's cat", "nothing here", "", "a cat a day"]
config |= {"texts": texts, "fresh": fresh}
cases = {
    "int": {},
    "length": {"output_sequence_length": 3},
    "long": {"output_sequence_length": 9},
    "max": {"max_tokens": 5},
    "lower": {"standardize": "lower"},
    "strip": {"standardize": "strip_punctuation"},
    "plain": {"standardize": None},
    "characters": {"split": "character", "output_sequence_length": 6},
    "bigrams": {"ngrams": 2, "max_tokens": 12},
    "trigrams": {"ngrams": (1, 3)},
    "multi_hot": {"output_mode": "multi_hot"},
    "count": {"output_mode": "count", "max_tokens": 30, "pad_to_max_tokens": True},
    "tf_idf": {"output_mode": "tf_idf"},
    "tf_idf_bigrams": {"output_mode": "tf_idf", "ngrams": 2},
}
config["texts_cases"] = cases
for name, arguments in cases.items():
    layer = layers.TextVectorization(**arguments)
    layer.adapt(texts)
    keep(f"texts/{name}", layer(np.array(fresh)))
    vocabularies[f"texts/{name}"] = layer.get_vocabulary()

# augmentation where nothing is left to chance: a range of one value
picture = out["picture"] = rng.uniform(size=(1, 5, 6, 3)).astype("float32")
for fill in ("reflect", "wrap", "constant", "nearest"):
    for interpolation in ("bilinear", "nearest"):
        rule = {"fill_mode": fill, "interpolation": interpolation, "fill_value": 0.3}
        name = f"{fill}/{interpolation}"
        keep(f"rotate/{name}", layers.RandomRotation((0.07, 0.07), **rule)(picture, training=True))
        keep(f"translate/{name}", layers.RandomTranslation((0.25, 0.25), (-0.4, -0.4), **rule)(picture, training=True))
        keep(f"zoom/{name}", layers.RandomZoom((0.6, 0.6), (-0.3, -0.3), **rule)(picture, training=True))
keep("brightness", layers.RandomBrightness((0.3, 0.3), (0, 1))(picture, training=True))
keep("solarize", layers.Solarization(threshold_factor=0.0, value_range=(0, 1))(picture, training=True))
keep("grayscale", layers.RandomGrayscale(1.0)(picture, training=True))
keep("saturation", layers.RandomSaturation((0.3, 0.3), (0, 1))(picture, training=True))
keep("posterize", layers.RandomPosterization((3, 3), (0, 1))(picture, training=True))

out["config"] = np.asarray(json.dumps(config))
path = Path(__file__).with_name("preprocessing.npz")
np.savez_compressed(path, **out)
print(keras.__version__, path.stat().st_size, "bytes")
