import numpy as np
import pytest

import lamina as lm
from lamina.core.errors import DataError


def test_to_categorical():
    np.testing.assert_array_equal(lm.utils.to_categorical([[1], [0]], 3), [[0, 1, 0], [1, 0, 0]])
    with pytest.raises(DataError, match="classes 0 to 1; received 0 to 2"):
        lm.utils.to_categorical([0, 2], 2)


def test_pad_sequences():
    rows = [[1, 2, 3], [4], []]
    np.testing.assert_array_equal(lm.utils.pad_sequences(rows), [[1, 2, 3], [0, 0, 4], [0, 0, 0]])
    np.testing.assert_array_equal(
        lm.utils.pad_sequences(rows, 2, padding="post", truncating="post", value=9), [[1, 2], [4, 9], [9, 9]]
    )


def test_an_ordinary_keras_program_runs():
    keras = lm
    keras.utils.set_random_seed(0)
    (x, y), _ = keras.datasets.iris.load_data()
    model = keras.models.Sequential()
    model.add(keras.Input(shape=(4,)))
    model.add(keras.layers.Dense(8, activation="relu", kernel_initializer="he_normal"))
    model.add(keras.layers.Dense(3, activation="softmax"))
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate=0.05),
        loss=keras.losses.CategoricalCrossentropy(),
        metrics=[keras.metrics.CategoricalAccuracy(name="acc")],
    )
    stop = keras.callbacks.EarlyStopping(monitor="val_loss", patience=20, restore_best_weights=True)
    history = model.fit(
        x, keras.utils.to_categorical(y), epochs=30, batch_size=16, validation_split=0.2, callbacks=[stop], verbose=0
    )
    assert max(history.history["val_acc"]) > 0.9
