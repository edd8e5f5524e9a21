from lamina.layers import dropout as layers
from tests.catalogue import Case

CASES = [
    Case(lambda: layers.Dropout(0.4), ((2, 3, 4),), masked=True),
    Case(lambda: layers.Dropout(0.4, noise_shape=(None, 1, None), seed=3), ((2, 3, 4),), label="shared"),
    Case(lambda: layers.SpatialDropout1D(0.4), ((2, 3, 4),), masked=True),
    Case(lambda: layers.SpatialDropout2D(0.4), ((2, 3, 3, 4),)),
    Case(lambda: layers.SpatialDropout3D(0.4, data_format="channels_first"), ((2, 4, 2, 3, 2),)),
    Case(lambda: layers.GaussianNoise(0.1), ((2, 3, 4),), masked=True),
    Case(lambda: layers.GaussianDropout(0.2), ((2, 3, 4),), masked=True),
    Case(lambda: layers.AlphaDropout(0.2), ((2, 3, 4),), masked=True),
    Case(lambda: layers.ActivityRegularization(l1=0.1, l2=0.2), ((2, 3, 4),), masked=True),
]
