"""New clothes: a variational autoencoder and a GAN draw pictures like those of Fashion-MNIST.

How good is a drawn picture? A small classifier, trained here, looks at drawn and at real ones. The Fréchet distance
compares the means and covariances of what it sees, its 64 innermost numbers: 0 if they are alike. Its verdicts tell
whether all ten classes were drawn. And the distance of each drawn picture to its nearest training picture, compared with
that of test pictures, tells whether the training pictures were copied: a copy would be much nearer.

Heusel et al. (2017), "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium".
"""

import time

import numpy as np
from sklearn.neighbors import NearestNeighbors

import lamina as lm
from lamina import layers
from lamina.families.autoencoder_variational import VariationalAutoencoder
from lamina.families.gan import GAN

(x_train, y_train), (x_test, y_test) = lm.datasets.fashion_mnist.load_data()
seed, drawn = 0, 10_000

# -- the judge ---------------------------------------------------------------------------------------------------------
lm.set_random_seed(seed)
x = lm.Input((28, 28))
h = layers.Reshape((28, 28, 1))(layers.Rescaling(1 / 255)(x))
for filters in (16, 32):
    h = layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(h)
features = layers.Dense(64, activation="relu")(layers.Flatten()(h))
judge = lm.Model(x, layers.Dense(10, activation="softmax")(layers.Dropout(0.3)(features)))
look = lm.Model(x, features)  # the same layers, up to the last but one
judge.compile(lm.optimizers.Adam(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
judge.fit(x_train, y_train, batch_size=128, epochs=4, verbose=0)
print(f"the judge's accuracy on test pictures: {judge.evaluate(x_test, y_test, verbose=0)[1]:.4f}")


def frechet(a, b):
    """|mean a - mean b|^2 + trace(cov a + cov b - 2 (cov a cov b)^(1/2))."""
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    root = np.sqrt(np.linalg.eigvals(cov_a @ cov_b).real.clip(0)).sum()  # the trace of the square root
    return np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2) + np.trace(cov_a + cov_b) - 2 * root


real = look.predict(x_train)
nearest = NearestNeighbors(n_neighbors=1).fit(x_train.reshape(-1, 784))


def judged(name, pictures, seconds):
    counts = np.bincount(judge.predict(pictures).argmax(axis=1), minlength=10)
    distance = np.median(nearest.kneighbors(pictures[:1000].reshape(-1, 784))[0])
    print(
        f"{name:14}  {frechet(look.predict(pictures), real):7.2f}  {counts.min():8} - {counts.max():4}  "
        f"{distance:7.0f}  {seconds:7.0f}",
        flush=True,
    )


print("pictures        Fréchet  of each class  nearest  seconds")
judged("test pictures", x_test, 0)

# -- the draftsmen -----------------------------------------------------------------------------------------------------
started = time.perf_counter()
vae = VariationalAutoencoder(16, epochs=8, random_state=seed, verbose=0).fit(x_train)
judged("VAE", vae.sample(drawn), time.perf_counter() - started)

started = time.perf_counter()
gan = GAN(filters=16, epochs=15, random_state=seed, verbose=0).fit(x_train, y_train)
judged("GAN by class", gan.sample(drawn), time.perf_counter() - started)
