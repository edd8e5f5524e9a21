"""A fully connected network on Fashion-MNIST: 60,000 pictures of clothes to learn from, 10,000 to test on.

Shows the way from arrays to a tested model in the interface of Keras. A fully connected network sees a picture as 784
numbers without order; batch normalization and dropout keep three layers of them from learning the training set by heart.
"""

import time

import lamina as lm
from lamina import layers

(x_train, y_train), (x_test, y_test) = lm.datasets.fashion_mnist.load_data()

lm.set_random_seed(0)
epochs, batch = 20, 128


def block(units):
    return [layers.Dense(units, use_bias=False), layers.BatchNormalization(), layers.Activation("relu")]


model = lm.Sequential(
    [
        lm.Input((28, 28), dtype="uint8"),
        layers.Rescaling(1 / 255),  # pictures go in as they are stored
        layers.Flatten(),
        *block(256),
        layers.Dropout(0.3),
        *block(128),
        layers.Dropout(0.3),
        *block(64),
        layers.Dense(10, activation="softmax"),
    ]
)
# The learning rate falls to nothing along a cosine, so that the last epochs settle.
schedule = lm.schedules.CosineDecay(2e-3, epochs * -(-len(x_train) // batch))
model.compile(lm.optimizers.Adam(schedule), "sparse_categorical_crossentropy", metrics=["accuracy"])
model.summary()

started = time.perf_counter()
model.fit(x_train, y_train, batch_size=batch, epochs=epochs, verbose=2)
seconds = time.perf_counter() - started
loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
print(f"test accuracy {accuracy:.4f}, loss {loss:.4f}; {model.count_params():,} weights, trained in {seconds:.0f} s")
