import numpy as np

from lamina.layers.lookup import IntegerLookup, StringLookup
from lamina.layers.text import HashedCrossing, Hashing, TextVectorization
from tests.catalogue import Case

WORDS = np.array([["cat", "dog"], ["dog", "cow"], ["", "dog"]])
TEXTS = np.array(["The cat sat.", "A dog and a cat", "the dog"])
HOST = {"compiled": False, "differentiable": False}


def adapted(data):
    return lambda layer: layer.adapt(data)


CASES = [
    Case(StringLookup, (), data=(WORDS,), prepare=adapted(WORDS), **HOST),
    Case(
        lambda: StringLookup(output_mode="tf_idf", mask_token=""),
        (),
        data=(WORDS,),
        prepare=adapted(WORDS),
        label="tf_idf",
        **HOST,
    ),
    Case(lambda: StringLookup(vocabulary=["cat"], num_oov_indices=3, salt=5), (), data=(WORDS,), label="oov", **HOST),
    Case(lambda: IntegerLookup(vocabulary=[3, 0, 7]), ((2, 3),), integers=9, differentiable=False),
    Case(
        lambda: IntegerLookup(
            mask_token=0, num_oov_indices=2, oov_method="farmhash", output_mode="count", max_tokens=9, vocabulary=[1, 2]
        ),
        ((2, 3),),
        integers=9,
        differentiable=False,
        label="count",
    ),
    Case(lambda: TextVectorization(output_sequence_length=4), (), data=(TEXTS,), prepare=adapted(TEXTS), **HOST),
    Case(
        lambda: TextVectorization(ngrams=2, output_mode="tf_idf"),
        (),
        data=(TEXTS[:, None],),
        prepare=adapted(TEXTS),
        label="tf_idf",
        **HOST,
    ),
    Case(lambda: Hashing(3), (), data=(WORDS,), **HOST),
    Case(lambda: Hashing(3, mask_value="", salt=7, output_mode="multi_hot"), (), data=(WORDS,), label="mask", **HOST),
    Case(lambda: HashedCrossing(4, "one_hot"), (), data=([TEXTS, TEXTS[::-1]],), **HOST),
]
