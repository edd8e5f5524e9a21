from lamina.layers import merge as layers
from tests.catalogue import Case

THREE = ([(2, 3, 4)] * 3,)

CASES = [
    Case(lambda: layers.Add(), THREE),
    Case(lambda: layers.Add(), ([(2, 4), (2, 3, 4)],), label="ranks"),
    Case(lambda: layers.Subtract(), ([(2, 3), (2, 3)],)),
    Case(lambda: layers.Multiply(), THREE),
    Case(lambda: layers.Average(), THREE),
    Case(lambda: layers.Maximum(), THREE),
    Case(lambda: layers.Minimum(), THREE),
    Case(lambda: layers.Concatenate(), ([(2, 3, 4), (2, 3, 2)],)),
    Case(lambda: layers.Concatenate(axis=1), ([(2, 3, 4), (2, 1, 4)],), label="axis"),
    Case(lambda: layers.Dot(axes=(2, 1)), ([(2, 3, 4), (2, 4, 5)],)),
    Case(lambda: layers.Dot(axes=-1, normalize=True), ([(2, 4), (2, 4)],), label="cosine"),
]
