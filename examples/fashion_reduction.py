"""Fashion-MNIST in 2 and in 16 numbers: an autoencoder against PCA.

PCA finds the flat plane that lies closest to the pictures. An autoencoder may bend it: a network squeezes each picture
through a few numbers and has to draw it again from them. Two measures: how well it is drawn, and how often a test
picture's ten nearest neighbors in the reduced space agree on its class, which neither method was told.
"""

import time

import numpy as np
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

import lamina as lm
from lamina.families.autoencoder import Autoencoder

(x_train, y_train), (x_test, y_test) = lm.datasets.fashion_mnist.load_data()
seed, epochs = 0, 10


def measured(reduce, restore):
    """The mean squared error of pixels between 0 and 1, and the accuracy of nearest neighbors."""
    codes, test_codes = reduce(x_train), reduce(x_test)
    error = np.mean((restore(test_codes) / 255.0 - x_test / 255.0) ** 2)
    return error, KNeighborsClassifier(10).fit(codes, y_train).score(test_codes, y_test)


print("numbers  method       squared error  neighbors' accuracy  seconds")
for numbers in (2, 16):
    started = time.perf_counter()
    pca = PCA(numbers, random_state=seed).fit(x_train.reshape(-1, 784))
    seconds = time.perf_counter() - started
    result = measured(
        lambda x, pca=pca: pca.transform(x.reshape(-1, 784)),
        lambda codes, pca=pca: pca.inverse_transform(codes).reshape(-1, 28, 28),
    )
    print(f"{numbers:7}  PCA          {result[0]:13.4f}  {result[1]:19.4f}  {seconds:7.0f}", flush=True)

    started = time.perf_counter()
    coder = Autoencoder(numbers, noise=0.3, epochs=epochs, random_state=seed, verbose=0).fit(x_train)
    seconds = time.perf_counter() - started
    result = measured(coder.transform, coder.inverse_transform)
    print(f"{numbers:7}  autoencoder  {result[0]:13.4f}  {result[1]:19.4f}  {seconds:7.0f}", flush=True)
