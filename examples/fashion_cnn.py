"""A small convolutional network on Fashion-MNIST: fewer than 100,000 weights.

A convolution looks at neighbourhoods with the same few weights everywhere, so a fifth of the weights of the fully
connected network does better than all of them.
"""

import time

import lamina as lm
from lamina import layers

(x_train, y_train), (x_test, y_test) = lm.datasets.fashion_mnist.load_data()
x_train, x_test = x_train[..., None], x_test[..., None]  # the channel axis

lm.set_random_seed(0)
epochs, batch = 8, 128


def block(filters):
    return [
        layers.Conv2D(filters, 3, padding="same", use_bias=False),
        layers.BatchNormalization(momentum=0.9),
        layers.Activation("relu"),
    ]


model = lm.Sequential(
    [
        lm.Input((28, 28, 1), dtype="uint8"),
        layers.Rescaling(1 / 255),
        layers.RandomFlip("horizontal"),  # a mirrored shirt is a shirt
        *block(24),
        layers.MaxPooling2D(),
        *block(48),
        layers.MaxPooling2D(),
        *block(96),
        layers.MaxPooling2D(),
        layers.Dropout(0.2),
        layers.Flatten(),
        layers.Dense(32, activation="relu"),
        layers.Dense(10, activation="softmax"),
    ]
)
assert model.count_params() < 100_000
schedule = lm.schedules.CosineDecay(3e-3, epochs * -(-len(x_train) // batch))
model.compile(lm.optimizers.Adam(schedule), "sparse_categorical_crossentropy", metrics=["accuracy"])
model.summary()

started = time.perf_counter()
model.fit(x_train, y_train, batch_size=batch, epochs=epochs, verbose=2)
seconds = time.perf_counter() - started
loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
print(f"test accuracy {accuracy:.4f}, loss {loss:.4f}; {model.count_params():,} weights, trained in {seconds:.0f} s")
