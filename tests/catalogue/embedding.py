from lamina.layers.embedding import Embedding
from tests.catalogue import Case

CASES = [
    Case(lambda: Embedding(6, 3), ((2, 4),), integers=6),
    Case(lambda: Embedding(6, 3, mask_zero=True), ((2, 4),), integers=6, label="mask_zero"),
]
