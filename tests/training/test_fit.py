import gc
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lamina as lm
from lamina import layers
from lamina.core.errors import ConfigError, DataError, StateError
from lamina.training import drivers, examples


def problem(n=70, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)).astype("float32")
    return x, (x.sum(1) > 0).astype("int32")


def classifier(*extra):
    model = lm.Sequential([lm.Input((3,)), layers.Dense(4, activation="tanh"), *extra, layers.Dense(2, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"], learning_rate=0.5)
    return model


def by_hand(model, x, y, batches, weights=None):
    """The same training written with JAX and optax alone."""
    parameters = [jnp.asarray(w) for w in model.get_weights()]

    def loss(parameters, x, y, w):
        w1, b1, w2, b2 = parameters
        logits = jnp.tanh(x @ w1 + b1) @ w2 + b2
        each = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        return (each * w).mean()

    for index in batches:
        w = jnp.ones(len(index)) if weights is None else jnp.asarray(weights[index])
        gradients = jax.grad(loss)(parameters, x[index], y[index], w)
        parameters = [p - 0.5 * g for p, g in zip(parameters, gradients, strict=True)]
    return parameters


def assert_weights(model, expected):
    for have, want in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(have, want, rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("driver", ["scan", "loop"])
def test_fit_is_gradient_descent_with_the_remainder(driver):
    x, y = problem()
    model = classifier()
    order = np.arange(70)
    batches = [order[i : i + 16] for i in range(0, 70, 16)] * 2
    expected = by_hand(model, x, y, batches)
    model.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0, driver=driver)
    assert_weights(model, expected)


def test_sample_and_class_weights_scale_the_loss():
    x, y = problem()
    weights = np.linspace(0, 2, 70).astype("float32")
    batches = [np.arange(i, min(i + 32, 70)) for i in range(0, 70, 32)]
    model = classifier()
    expected = by_hand(model, x, y, batches, weights)
    model.fit(x, y, sample_weight=weights, shuffle=False, verbose=0)
    assert_weights(model, expected)
    model = classifier()
    expected = by_hand(model, x, y, batches, np.where(y == 1, 3.0, 1.0).astype("float32"))
    model.fit(x, y, class_weight={1: 3.0}, shuffle=False, verbose=0)
    assert_weights(model, expected)


def test_both_drivers_give_the_same_bytes_with_dropout_and_shuffling():
    x, y = problem()
    results = []
    for driver in ("scan", "loop"):
        model = classifier(layers.Dropout(0.5))
        history = model.fit(x, y, batch_size=16, epochs=3, validation_split=0.2, verbose=0, driver=driver)
        results.append((model.get_weights(), history.history))
    for a, b in zip(results[0][0], results[1][0], strict=True):
        np.testing.assert_array_equal(a, b)
    assert results[0][1] == results[1][1]


def test_the_length_of_a_dispatch_changes_nothing(monkeypatch):
    x, y = problem()
    results = []
    for size in (1 << 26, 16 * 16 * 2):  # 16 rows of 3 numbers and a label: two steps in a dispatch
        monkeypatch.setattr(drivers, "DISPATCH_BYTES", size)
        model = classifier(layers.Dropout(0.5))
        history = model.fit(x, y, batch_size=16, epochs=2, verbose=0, driver="scan")
        results.append((model.get_weights(), history.history, model.evaluate(x, y, batch_size=16, verbose=0)))
    for a, b in zip(results[0][0], results[1][0], strict=True):
        np.testing.assert_array_equal(a, b)
    assert results[0][1:] == results[1][1:]


def test_a_loop_of_known_length_changes_nothing(monkeypatch):
    x, y = problem()
    results = []
    for costs in (drivers.CPU, drivers.ACCELERATOR):
        monkeypatch.setattr(drivers, "_costs", lambda data, costs=costs: costs)
        model = classifier(layers.Dropout(0.5))
        history = model.fit(x, y, batch_size=16, epochs=2, verbose=0, driver="scan")
        (step,) = (step for kind, step in model._compiled.steps.items() if kind[0] == "padded")
        results.append((model.get_weights(), history.history, [name for name, *_ in step.programs]))
    for a, b in zip(results[0][0], results[1][0], strict=True):
        np.testing.assert_array_equal(a, b)
    assert results[0][1] == results[1][1]
    assert (results[0][2], results[1][2]) == (["scan"], ["whole"])


def test_dispatches_are_of_equal_length_and_within_their_limit(monkeypatch):
    step = SimpleNamespace(flops=1e6, finish=None, results={})
    row = {"x": np.zeros((10, 1 << 17), "float32")}  # 512 KiB
    monkeypatch.setattr(examples, "can_gather_rows", lambda: True)
    monkeypatch.setattr(drivers, "DISPATCH_SECONDS", 1.0)
    assert (
        drivers.Driver(step, examples.Examples(row), "scan", steps=100, batch=1000).chunk == 100
    )  # gathered one by one
    monkeypatch.setattr(examples, "can_gather_rows", lambda: False)
    data = examples.Examples(row)
    assert drivers.Driver(step, data, "scan", steps=100, batch=2).chunk == 50  # 64 MiB hold 64 steps
    assert drivers.Driver(step, data, "scan", steps=60, batch=2).chunk == 60
    assert drivers.Driver(step, data, "scan", steps=60, batch=1000).chunk == 1
    assert drivers.Driver(step, data, "loop", steps=60, batch=2).chunk == 1
    monkeypatch.setattr(drivers, "_costs", lambda data: drivers.ACCELERATOR)
    for steps, even, chunk, whole in [
        (102, True, 51, True),
        (105, True, 35, True),
        (105, False, 53, False),
        (101, True, 51, False),
    ]:
        driver = drivers.Driver(step, data, "scan", steps=steps, batch=2, even=even)
        assert (driver.chunk, driver.whole) == (chunk, whole)


def test_the_seed_decides_everything():
    x, y = problem()
    seed = lm.config.seed
    try:
        runs = []
        for s in (1, 1, 2):
            lm.set_random_seed(s)
            model = classifier(layers.Dropout(0.5))
            model.fit(x, y, verbose=0)
            runs.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    finally:
        lm.set_random_seed(seed)
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_batch_normalization_trains_on_a_remainder_of_its_own_size():
    x, y = problem(20)
    model = lm.Sequential([lm.Input((3,)), layers.BatchNormalization(momentum=0.0), layers.Dense(2, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    assert not model.may_pad()
    model.fit(x, y, batch_size=16, shuffle=False, verbose=0)
    np.testing.assert_allclose(model.layers[0].moving_mean.value, x[16:].mean(0), rtol=1e-5)


def test_logged_accuracy_and_loss_are_those_of_all_examples():
    x, y = problem()
    model = classifier()
    history = model.fit(x, y, batch_size=32, verbose=0, epochs=2, validation_data=(x[:50], y[:50]))
    assert set(history.history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    probabilities = model.predict(x[:50])
    assert history.history["val_accuracy"][-1] == pytest.approx(np.mean(probabilities.argmax(-1) == y[:50]), abs=1e-6)
    expected = -np.log(probabilities[np.arange(50), y[:50]]).mean()
    assert history.history["val_loss"][-1] == pytest.approx(expected, rel=1e-4)
    assert model.evaluate(x[:50], y[:50], verbose=0, batch_size=7)[0] == pytest.approx(expected, rel=1e-4)
    assert history.epoch == [0, 1]


def test_frozen_layers_stay_and_thaw_at_the_next_step():
    x, y = problem()
    model = classifier()
    first = model.layers[0]
    first.trainable = False
    before = first.get_weights()
    model.fit(x, y, verbose=0)
    np.testing.assert_array_equal(first.get_weights()[0], before[0])
    assert len(model.trainable_weights) == 2
    first.trainable = True
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(x, y, verbose=0)
    assert not np.array_equal(first.get_weights()[0], before[0])


def test_streams_of_every_kind():
    x, y = problem()
    batches = [(x[i : i + 16], y[i : i + 16]) for i in range(0, 70, 16)]
    expected = by_hand(classifier(), x, y, [np.arange(i, min(i + 16, 70)) for i in range(0, 70, 16)])

    class Loader:  # as a PyTorch DataLoader: re-iterable, with a length, giving lists
        def __len__(self):
            return len(batches)

        def __iter__(self):
            return iter([list(batch) for batch in batches])

    class Numbered:  # as a keras.utils.PyDataset
        def __len__(self):
            return len(batches)

        def __getitem__(self, index):
            if index >= len(batches):
                raise IndexError
            return batches[index]

    for stream in (Loader(), Numbered(), iter(batches), (batch for batch in batches)):
        model = classifier()
        model.fit(stream, verbose=0)
        assert_weights(model, expected)


def test_a_generator_is_drawn_from_across_epochs():
    x, y = problem(64)
    drawn = []

    def forever():
        while True:
            for i in range(0, 64, 16):
                drawn.append(i)
                yield x[i : i + 16], y[i : i + 16]

    model = classifier()
    history = model.fit(forever(), steps_per_epoch=3, epochs=2, verbose=0)
    assert history.params["steps"] == 3
    assert drawn[:6] == [0, 16, 32, 48, 0, 16]
    with pytest.raises(DataError, match="gave no batch"):
        classifier().fit(iter([]), verbose=0)
    with pytest.raises(DataError, match="gives whole batches"):
        classifier().fit(forever(), y, steps_per_epoch=1)


def test_frames_and_tensors_are_arrays():
    import pandas
    import polars

    x, y = problem()
    expected = classifier()
    expected.fit(x, y, shuffle=False, verbose=0)

    class Tensor:  # what a PyTorch tensor offers
        def __init__(self, array):
            self.array, self.shape, self.dtype = array, array.shape, f"torch.{array.dtype}"

        def detach(self):
            return self

        def cpu(self):
            return self

        def numpy(self):
            return self.array

    pairs = [
        (pandas.DataFrame(x), pandas.Series(y)),
        (polars.DataFrame(x), polars.Series(y)),
        (jnp.asarray(x), jnp.asarray(y)),
        (x.tolist(), y.tolist()),
        (Tensor(x), Tensor(y)),
    ]
    for data in pairs:
        model = classifier()
        model.fit(*data, shuffle=False, verbose=0)
        assert_weights(model, expected.get_weights())


def test_steps_per_epoch_goes_on_through_the_data():
    x, y = problem(48)
    model = classifier()
    order = np.arange(48).reshape(3, 16)
    expected = by_hand(model, x, y, [order[0], order[1], order[2], order[0]])
    model.fit(x, y, batch_size=16, steps_per_epoch=2, epochs=2, shuffle=False, verbose=0)
    assert_weights(model, expected)


def test_on_batch_methods():
    x, y = problem(16)
    model = classifier()
    expected = by_hand(model, x, y, [np.arange(16)])
    loss, accuracy = model.train_on_batch(x, y)
    assert 0 <= accuracy <= 1
    assert loss > 0
    assert_weights(model, expected)
    model.reset_metrics()
    logs = model.test_on_batch(x, y, return_dict=True)
    assert logs["loss"] == pytest.approx(model.evaluate(x, y, verbose=0)[0], rel=1e-5)
    np.testing.assert_allclose(model.predict_on_batch(x), model.predict(x), rtol=1e-6)


class GAN(lm.Model):
    """The train_step of the design, with two optimizers."""

    def __init__(self):
        super().__init__()
        self.latent = 2
        self.generator = lm.Sequential([layers.Dense(4, activation="relu"), layers.Dense(3)])
        self.discriminator = lm.Sequential([layers.Dense(4, activation="relu"), layers.Dropout(0.2), layers.Dense(1)])
        self.d_optimizer = lm.optimizers.Adam(1e-2)
        self.g_optimizer = lm.optimizers.Adam(1e-2)

    def discriminator_loss(self, batch, z):
        real, fake = self.discriminator(batch), self.discriminator(self.generator(z))
        return jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(fake))

    def generator_loss(self, z):
        return jnp.mean(jax.nn.softplus(-self.discriminator(self.generator(z))))

    def train_step(self, batch):
        z = lm.random.normal((len(batch), self.latent))
        d_loss, grads = lm.value_and_grad(self.discriminator_loss, self.discriminator)(batch, z)
        self.d_optimizer.apply(grads)
        g_loss, grads = lm.value_and_grad(self.generator_loss, self.generator)(z)
        self.g_optimizer.apply(grads)
        return {"d_loss": d_loss, "g_loss": g_loss}


def test_a_gan_train_step_runs_under_both_drivers_with_equal_results():
    x, _ = problem()
    results = []
    for driver in ("scan", "loop"):
        gan = GAN()
        history = gan.fit(x, batch_size=16, epochs=2, verbose=0, driver=driver)
        assert list(history.history) == ["d_loss", "g_loss"]
        assert int(gan.d_optimizer.iterations.value) == int(gan.g_optimizer.iterations.value) == 10
        results.append((history.history, {path: v.numpy() for path, v in gan.named_variables().items()}))
    assert results[0][0] == results[1][0]
    for path, value in results[0][1].items():
        np.testing.assert_array_equal(value, results[1][1][path], err_msg=path)


def test_what_a_train_step_returns_and_changes_is_checked():
    x, _ = problem(8)
    stray = lm.Variable(jnp.zeros(()), name="stray")

    class Bad(lm.Model):
        def train_step(self, batch):
            return {"loss": batch}

    class Straying(lm.Model):
        def train_step(self, batch):
            stray.assign_add(1)
            return {"loss": jnp.mean(batch)}

    with pytest.raises(ConfigError, match="dictionary of single numbers"):
        Bad().fit(x, verbose=0)
    with pytest.raises(StateError, match="'stray', which the model does not hold"):
        Straying().fit(x, verbose=0)


def test_own_numbers_are_averaged_and_metrics_are_not():
    class Own(lm.Model):
        def __init__(self):
            super().__init__()
            self.total = lm.metrics.Sum(name="total")

        def train_step(self, batch):
            self.total.update_state(jnp.sum(batch))
            return {"mean": jnp.mean(batch), "total": self.total.result()}

    x = np.arange(12, dtype="float32")
    history = Own().fit(x, batch_size=4, epochs=2, verbose=0).history
    assert history["mean"] == [5.5, 5.5]
    assert history["total"] == [66.0, 66.0]


@pytest.mark.parametrize("own_step", [False, True])
def test_metrics_computed_by_a_model_of_ones_own(own_step):
    class Own(lm.Sequential):
        def compute_metrics(self, x, y, y_pred, sample_weight=None):
            return super().compute_metrics(x, y, y_pred, sample_weight) | {"rows": jnp.asarray(x.shape[0])}

    class Stepping(Own):
        def train_step(self, batch):
            x, y = batch
            y_pred = self(x)
            loss = self.compute_loss(x, y, y_pred)
            return {"loss": loss} | self.compute_metrics(x, y, y_pred)

    x, y = problem(40)
    model = (Stepping if own_step else Own)([lm.Input((3,)), layers.Dense(2, "softmax")])
    model.compile(lm.optimizers.SGD(0.0), "sparse_categorical_crossentropy", metrics=["accuracy"])
    logs = {name: values[0] for name, values in model.fit(x, y, batch_size=10, verbose=0).history.items()}
    p = model.predict(x)
    assert list(logs) == ["loss", "accuracy", "rows"]
    assert logs["loss"] == pytest.approx(-np.log(p[np.arange(40), y]).mean(), rel=1e-5)
    assert logs["accuracy"] == pytest.approx((p.argmax(1) == y).mean())
    assert logs["rows"] == 10


def test_several_inputs_and_outputs():
    x, y = problem()
    a, b = lm.Input((3,), name="a"), lm.Input((2,), name="b")
    hidden = layers.Dense(4, activation="relu")(a)
    both = layers.concatenate([hidden, b])
    outputs = {"kind": layers.Dense(1, "sigmoid")(both), "size": layers.Dense(2)(both)}
    model = lm.Model({"a": a, "b": b}, outputs)
    model.compile(
        "adam",
        {"kind": "binary_crossentropy", "size": "mse"},
        metrics={"kind": ["accuracy"], "size": ["mae"]},
        loss_weights={"size": 0.5},
    )
    data = {"a": x, "b": x[:, :2]}
    targets = {"kind": y, "size": x[:, 1:]}
    logs = model.fit(data, targets, verbose=0).history
    assert set(logs) == {"loss", "kind_accuracy", "size_mae", "kind_loss", "size_loss"}
    found = model.evaluate(data, targets, verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(found["kind_loss"] + 0.5 * found["size_loss"], rel=1e-5)
    predictions = model.predict(data)
    assert found["size_loss"] == pytest.approx(np.mean((predictions["size"] - x[:, 1:]) ** 2), rel=1e-4)
    assert predictions["kind"].shape == (70, 1)


def test_regularizers_and_added_losses_count():
    x, y = problem(32)
    model = lm.Sequential([lm.Input((3,)), layers.Dense(1, kernel_regularizer=lm.regularizers.L2(0.1))])
    model.compile("sgd", "mse")
    plain = float(np.mean((model.predict(x)[:, 0] - y) ** 2))
    penalty = 0.1 * float((model.get_weights()[0] ** 2).sum())
    assert model.evaluate(x, y, verbose=0) == pytest.approx(plain + penalty, rel=1e-5)


def test_running_eagerly_gives_the_same_numbers():
    x, y = problem(20)
    compiled, eager = classifier(), classifier()
    eager.run_eagerly = True
    compiled.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    eager.fit(x, y, batch_size=8, shuffle=False, verbose=0, driver="loop")
    assert_weights(eager, compiled.get_weights())


def test_mixed_precision_trains_float32_weights():
    x, y = problem()
    before = lm.config.dtype_policy
    try:
        for policy in ("mixed_bfloat16", "mixed_float16"):
            lm.config.set_dtype_policy(policy)
            model = classifier()
            history = model.fit(x, y, epochs=8, verbose=0)
            assert history.history["loss"][-1] < history.history["loss"][0]
            assert all(w.dtype == np.float32 for w in model.get_weights())
    finally:
        lm.config.set_dtype_policy(before)


def test_a_layer_that_was_frozen_at_first_learns_when_it_is_freed():
    x, y = problem()
    model = classifier()
    model.layers[0].trainable = False
    frozen = model.layers[0].get_weights()
    model.fit(x, y, verbose=0)
    np.testing.assert_array_equal(model.layers[0].get_weights()[0], frozen[0])
    model.layers[0].trainable = True
    expected = by_hand(model, x, y, [np.arange(70)])
    model.fit(x, y, batch_size=70, shuffle=False, verbose=0)
    assert_weights(model, expected)


def test_epochs_of_their_own_length_go_on_where_the_last_one_stopped():
    x, y = problem(12)
    taken = []

    class Batches:
        def __iter__(self):
            for start in range(0, 12, 4):
                taken.append(start)
                yield x[start : start + 4], y[start : start + 4]

    classifier().fit(Batches(), steps_per_epoch=2, epochs=3, verbose=0)
    assert taken == [0, 4, 8, 0, 4, 8]
    with pytest.raises(DataError, match="no batch"):
        classifier().fit(iter([]), steps_per_epoch=2, verbose=0)


def test_an_endless_iterator_with_a_length_has_epochs_of_that_length():
    x, y = problem(4)

    class Endless:
        def __len__(self):
            return 3

        def __iter__(self):
            return self

        def __next__(self):
            return x, y

    assert classifier().fit(Endless(), epochs=2, verbose=0).params["steps"] == 3


def test_batches_in_a_list_and_with_named_inputs():
    x, y = problem(12)
    batches = [(x[:6], y[:6]), (x[6:], y[6:])]
    model, same = classifier(), classifier()
    model.fit(batches, verbose=0)
    same.fit(x, y, batch_size=6, shuffle=False, verbose=0)
    for a, b in zip(model.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    start = lm.Input((3,), name="x")
    named = lm.Model({"x": start}, layers.Dense(2, "softmax")(start))
    named.compile("sgd", "sparse_categorical_crossentropy")
    named.fit(iter([[{"x": x}, y]]), verbose=0)  # a list, as PyTorch's loaders give
    assert int(named.optimizer.iterations) == 1


def test_more_steps_share_a_dispatch_on_an_accelerator():
    assert drivers._costs(SimpleNamespace(platforms={"gpu"})) is drivers.ACCELERATOR
    assert drivers._costs(examples.Examples({"x": jnp.zeros(1)})) in (drivers.CPU, drivers.PORTABLE)
    step = SimpleNamespace(flops=1e10, finish=None, results={})
    assert drivers.Driver(step, examples.Examples({"x": np.zeros((10, 2))})).kind == "loop"


def test_values_on_a_device_are_looked_at():
    x, y = problem()
    with pytest.raises(DataError, match="1 values that are NaN or infinite"):
        classifier().fit(jnp.asarray(x).at[3, 1].set(jnp.inf), y, verbose=0)


def test_a_dataset_is_told_of_the_end_of_every_epoch_and_validation_batches_are_not_lost():
    x, y = problem(12)

    class Halves(lm.utils.PyDataset):
        ended = 0

        def __len__(self):
            return 2

        def __getitem__(self, index):
            return x[index::2], y[index::2]

        def on_epoch_end(self):
            Halves.ended += 1

    seen = []

    def validation():
        for index in range(9):
            seen.append(index)
            yield x[index : index + 1], y[index : index + 1]

    classifier().fit(Halves(), epochs=3, verbose=0, validation_data=validation(), validation_steps=3)
    assert Halves.ended == 3
    assert seen == list(range(9))


def test_a_layer_that_a_callback_frees_learns_from_the_next_epoch_on():
    x, y = problem(12)
    model = classifier()
    first = model.layers[0]
    first.trainable = False
    before, seen = first.get_weights()[0], []

    def free(epoch, logs):
        seen.append(bool((first.get_weights()[0] == before).all()))
        first.trainable = True

    model.fit(x, y, epochs=2, verbose=0, callbacks=lm.callbacks.LambdaCallback(on_epoch_end=free))
    assert seen == [True, False]


def test_the_data_go_when_training_ends():
    x = np.random.default_rng(0).normal(size=(97, 5)).astype("float32")
    model = lm.Sequential([lm.Input((5,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    gc.collect()
    gc.disable()  # a circle of references would wait for it
    try:
        model.fit(x, x[:, 0], batch_size=10, verbose=0)
        left = [array for array in jax.live_arrays() if array.shape == x.shape]
    finally:
        gc.enable()
    assert not left
