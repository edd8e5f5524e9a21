from lamina.layers import normalization as layers
from tests.catalogue import Case

CASES = [
    Case(lambda: layers.BatchNormalization(), ((4, 3, 2, 5),)),
    Case(lambda: layers.BatchNormalization(axis=1, scale=False), ((4, 3, 2),), label="axis"),
    Case(lambda: layers.BatchNormalization(), ((3, 4, 5),), masked=True, label="sequence"),
    Case(
        lambda: layers.BatchNormalization(renorm=True, renorm_clipping={"rmax": 3.0}),
        ((6, 3),),
        differentiable=False,  # the correction is held constant on purpose
        label="renorm",
    ),
    Case(lambda: layers.LayerNormalization(), ((2, 4, 5),), masked=True),
    Case(lambda: layers.LayerNormalization(axis=[1, 2]), ((2, 4, 5),), label="axes"),
    Case(lambda: layers.LayerNormalization(rms_scaling=True), ((2, 5),), label="rms_scaling"),
    Case(lambda: layers.GroupNormalization(groups=2), ((2, 3, 3, 4),)),
    Case(lambda: layers.GroupNormalization(groups=-1, axis=1), ((2, 4, 5),), label="instance"),
    Case(lambda: layers.RMSNormalization(), ((2, 4, 5),), masked=True),
    Case(lambda: layers.UnitNormalization(), ((2, 4, 5),), masked=True),
]
