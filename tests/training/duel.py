"""A network with a ``train_step`` of its own, for the tests of checkpoints here and in ``torture``."""

import lamina as lm
from lamina import layers


class Duel(lm.Model):
    """Two networks with an optimizer each, in a step of one's own that logs numbers of its own."""

    def __init__(self):
        super().__init__()
        self.one, self.two = layers.Dense(4, name="one"), layers.Dense(1, name="two")
        self.first, self.second = lm.optimizers.SGD(0.01, momentum=0.9), lm.optimizers.Adam(0.01)

    def call(self, x):
        return self.two(self.one(x))

    def train_step(self, batch):
        x, y = batch
        noise = lm.random.normal((len(x), 3))

        def loss():
            return ((self(x + noise)[:, 0] - y) ** 2).mean()

        first, gradients = lm.value_and_grad(loss, self.one)()
        self.first.apply(gradients)
        second, gradients = lm.value_and_grad(loss, self.two)()
        self.second.apply(gradients)
        return {"first_loss": first, "second_loss": second}
