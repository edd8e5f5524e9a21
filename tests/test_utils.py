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


def test_the_short_names_of_keras():
    assert lm.regularizers.l2(0.5).l2 == 0.5
    assert lm.optimizers.schedules.ExponentialDecay is lm.schedules.ExponentialDecay
    assert lm.activations.get(None) is lm.activations.linear
    assert isinstance(lm.initializers.get("he_normal"), lm.initializers.he_normal)
    assert isinstance(lm.losses.get("mse"), lm.Loss)
    assert lm.constraints.get(None) is None


def test_seeds_of_random_numbers():
    one, again = lm.random.normal((3,), seed=1), lm.random.normal((3,), seed=1)
    np.testing.assert_array_equal(one, again)
    generator = lm.random.SeedGenerator(1)
    assert not np.array_equal(lm.random.normal((3,), seed=generator), lm.random.normal((3,), seed=generator))
    assert not np.array_equal(one, lm.random.normal((3,), seed=2))


def test_a_data_set_by_number():
    class Steps(lm.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return np.full((2, 1), index, "float32"), np.zeros(2)

    model = lm.Sequential([lm.Input((1,)), lm.layers.Dense(1)])
    assert model.predict(Steps()).shape == (6, 1)
    with pytest.raises(NotImplementedError, match="number of its batches"):
        len(lm.utils.PyDataset())
