"""Control flow, conversions, and what an op says when it is used wrongly."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina import ops
from lamina.core import random, registry
from lamina.core.errors import ConfigError, ShapeError, StateError
from lamina.core.state import Variable, bind
from lamina.core.symbolic import SymbolicTensor
from lamina.layers import Input

X = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")


class TestControlFlow:
    def test_cond_takes_the_branch(self) -> None:
        assert ops.cond(Variable(jnp.array(1)), lambda: {"a": 1.0}, lambda: {"a": 2.0})["a"] == 1
        assert ops.cond(False, lambda: 1, lambda: 2) == 2

    def test_switch_clamps(self) -> None:
        branches = [lambda x: x, lambda x: 2 * x]
        assert [float(ops.switch(i, branches, 3.0)) for i in (-1, 0, 1, 7)] == [3, 3, 6, 6]

    @pytest.mark.parametrize(("most", "expected"), [(None, 16), (2, 4)])
    def test_while_loop(self, most: int | None, expected: int) -> None:
        found = ops.while_loop(lambda x: x < 10, lambda x: (2 * x,), [1], maximum_iterations=most)
        assert isinstance(found, list)
        assert int(found[0]) == expected
        assert int(ops.while_loop(lambda x: x < 10, lambda x: 2 * x, 1, most)) == expected

    def test_fori_loop(self) -> None:
        assert int(ops.fori_loop(2, 5, lambda i, x: x * i, 1)) == 24

    def test_scan_counts_in_both_directions(self) -> None:
        last, steps = ops.scan(lambda c, x: (c + x, c), 0, jnp.arange(4))
        assert (int(last), steps.tolist()) == (6, [0, 0, 1, 3])
        assert ops.scan(lambda c, x: (c + x, c), 0, jnp.arange(4), reverse=True)[1].tolist() == [6, 5, 3, 0]
        assert ops.scan(lambda c, _: (2 * c, None), 1, length=5)[0] == 32
        with pytest.raises(ConfigError, match="length"):
            ops.scan(lambda c, x: (c, x), 0)

    def test_scan_assigns_variables_and_draws(self) -> None:
        total = Variable(jnp.zeros(()), name="total")

        def step(carry: Any, x: Any) -> Any:
            total.assign(total + x)
            return carry, random.normal(())

        _, draws = ops.scan(step, 0, jnp.arange(1.0, 4.0))
        assert float(total.value) == 6
        assert len(set(draws.tolist())) == 3

    def test_map_and_vectorized_map_agree(self) -> None:
        def f(pair: Any) -> Any:
            return pair[0] * 2, (pair[0] + pair[1]).sum()

        one, other = ops.map(f, (jnp.asarray(X), jnp.ones((3, 4)))), ops.vectorized_map(f, (X, np.ones((3, 4))))
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)
        np.testing.assert_allclose(other[1], (X + 1).sum(1), rtol=1e-5)

    def test_associative_scan(self) -> None:
        found = ops.associative_scan(lambda a, b: a + b, X, reverse=True, axis=1)
        np.testing.assert_allclose(found, X[:, ::-1].cumsum(1)[:, ::-1], rtol=1e-5, atol=1e-6)

    def test_custom_gradient(self) -> None:
        @ops.custom_gradient
        def doubled(x: Any, y: Any) -> Any:
            return x * y, lambda upstream: (2 * upstream, 0 * upstream)

        assert jax.grad(doubled, (0, 1))(3.0, 5.0) == (2, 0)

    def test_jvp(self) -> None:
        value, change, aux = ops.jvp(lambda x: (x**3, "aux" and x), [2.0], [1.0], has_aux=True)
        assert (float(value), float(change), float(aux)) == (8, 12, 2)

    def test_stop_gradient(self) -> None:
        assert jax.grad(lambda x: x * ops.stop_gradient(x))(3.0) == 3


class TestConversions:
    def test_to_arrays_and_back(self) -> None:
        assert isinstance(ops.convert_to_tensor([1, 2], "float32"), jax.Array)
        assert isinstance(ops.convert_to_numpy(Variable(jnp.ones(2))), np.ndarray)
        assert ops.is_tensor(jnp.ones(2))
        assert not ops.is_tensor(X)
        assert (ops.dtype(X), ops.shape([[1, 2]]), ops.ndim(X)) == ("float32", (1, 2), 2)
        with pytest.raises(ConfigError, match="dense"):
            ops.convert_to_tensor(X, sparse=True)

    @pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "float16", "bool"])
    def test_saturate_cast_keeps_to_the_range(self, dtype: str) -> None:
        x = np.array([-1e20, -200.0, -1.5, 0.0, 1.5, 200.0, 3e9, 1e20], "float32")
        found = np.asarray(ops.saturate_cast(x, dtype))
        if dtype == "bool":
            expected = x.astype(bool)
        else:
            info: Any = np.iinfo(dtype) if "int" in dtype else np.finfo(dtype)
            expected = np.clip(x.astype("float64"), float(info.min), float(info.max)).astype(dtype)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, expected)

    def test_saturate_cast_of_whole_numbers(self) -> None:
        assert ops.saturate_cast(np.array([-5, 7, 300]), "uint8").tolist() == [0, 7, 255]
        assert ops.saturate_cast(np.array([200], "uint8"), "int32").tolist() == [200]

    @pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
    def test_a_half_type_stays(self, dtype: str) -> None:
        x = jnp.asarray(X, dtype)
        for found in (
            ops.add(x, 1.0),
            ops.softmax(x),
            ops.normalize(x),
            *ops.moments(x, 0),
            ops.layer_normalization(x),
        ):
            assert found.dtype == dtype


class TestGetItem:
    @pytest.mark.parametrize(
        "key", [1, -1, slice(None, None, 2), (slice(None), 1), (..., None, 0), [2, 0], (slice(1, 3), [0, 2]), X > 0]
    )
    def test_is_numpys(self, key: Any) -> None:
        np.testing.assert_array_equal(ops.get_item(X, key), X[key])

    def test_in_a_network_it_is_saved_by_name(self) -> None:
        made = Input((3, 4))[:, 1, [0, 2]]
        assert made.shape == (None, 2)
        assert made.call is not None
        assert registry.key_of(made.call.operation) == "ops._index"
        x = np.random.default_rng(1).normal(size=(2, 3, 4)).astype("float32")
        args = registry.deserialize(registry.serialize(list(made.call.args[1:])))
        np.testing.assert_array_equal(made.call.operation(x, *args), x[:, 1, [0, 2]])


class TestSymbolic:
    def test_operators(self) -> None:
        x = Input((4,))
        for made in (x + 1, 1 - x, x * x, x / 2, 2.0**x, x // 2, x % 2, -x, abs(x), x > 0, x <= 1):
            assert isinstance(made, SymbolicTensor)
            assert made.shape == (None, 4)
        assert (x @ np.ones((4, 2), "float32")).shape == (None, 2)

    def test_unknown_axes_stay_unknown(self) -> None:
        x = Input((None, 4))
        assert ops.shape(x) == (None, None, 4)
        assert ops.reshape(x, (-1, 4)).shape == (None, 4)
        assert ops.mean(x, axis=1).shape == (None, 4)
        assert ops.concatenate([x, x], axis=-1).shape == (None, None, 8)
        assert ops.stack([x, ops.relu(x)]).shape == (2, None, None, 4)
        assert ops.einsum("bij,bkj->bik", x, x).shape == (None, None, None)

    def test_a_none_in_a_shape_is_what_is_left(self) -> None:
        x = Input((2, 3))
        assert ops.reshape(x, (ops.shape(x)[0], 6)).shape == (None, 6)

    def test_a_dtype_is_kept_by_name(self) -> None:
        made = ops.cast(Input((2,)), jnp.float16)
        assert made.call is not None
        assert registry.serialize(made.call.args[1:]) == ["float16"]

    @pytest.mark.parametrize(
        "call",
        [ops.nonzero, ops.convert_to_numpy, lambda x: ops.cond(x, lambda: 1, lambda: 2), lambda x: ops.map(abs, x)],
    )
    def test_what_needs_numbers_says_so(self, call: Any) -> None:
        with pytest.raises(StateError, match=r"needs numbers[\s\S]*Write"):
            call(Input((2,)))


class TestErrors:
    def test_arguments_are_checked_with_the_ops_signature(self) -> None:
        with pytest.raises(TypeError, match=r"lm.ops.sum\(x, axis=None, keepdims=False\): .*'keepdim'"):
            ops.sum(X, keepdim=True)
        with pytest.raises(TypeError, match=r"lm.ops.add\(x1, x2\): missing a required argument: 'x2'"):
            ops.add(X)

    @pytest.mark.parametrize(
        ("call", "match"),
        [
            (lambda: ops.bincount([1], sparse=True), "dense"),
            (lambda: ops.one_hot([1], 2, sparse=True), "dense"),
            (lambda: ops.multi_hot([1]), "num_classes"),
            (lambda: ops.pad(X, 1, "reflect", constant_values=1), "constant"),
            (lambda: ops.moments(X, 0, synchronized=True), "all devices"),
            (lambda: ops.normalize(X, order=0), "order"),
            (lambda: ops.scatter_update(X, [[0]], X[:1], reduction="mean"), "'mul'"),
            (lambda: ops.unstack(X, num=2), "num=2"),
            (lambda: ops.conv(X[None], np.ones((1, 4, 2)), padding="causal"), "'same'"),
            (lambda: ops.conv(X[None], X[None], data_format="NHWC"), "channels_first"),
            (lambda: ops.conv(X[None], np.ones((1, 4, 2)), strides=(1, 2)), "1 numbers"),
            (lambda: ops.stft(X, 3, 1, 2), "sequence_length"),
            (lambda: ops.stft(X, 3, 1, 4, window="flat"), "'hann'"),
            (lambda: ops.stft(X.astype("int32"), 3, 1, 4), "floats"),
            (lambda: ops.ctc_decode(X[None], [3], strategy="best"), "'greedy'"),
            (lambda: ops.ctc_decode(X[None], [3], strategy="beam_search", top_paths=101), "beam_width"),
            (lambda: ops.rearrange(X, "a b -> a"), "both sides"),
            (lambda: ops.image.resize(X[..., None], (2, 2), "cubic"), "bicubic"),
            (lambda: ops.image.resize(X[..., None], (2, 2, 1)), "height, width"),
            (lambda: ops.image.resize(X[..., None], (2, 2), "nearest", False, True, True), "not both"),
            (lambda: ops.image.pad_images(X[..., None], 1, 1, 1), "two of three"),
            (lambda: ops.image.pad_images(X[..., None], 1, 1, target_height=2, target_width=5), "crop_images"),
            (lambda: ops.image.crop_images(X[..., None], 1, 1, target_height=3, target_width=3), "before"),
            (lambda: ops.image.crop_images(X[..., None], 0, 0, target_height=9, target_width=3), "pad_images"),
            (lambda: ops.image.affine_transform(X[..., None], np.eye(8)[0], fill_mode="mirrored"), "'mirror'"),
            (lambda: ops.image.map_coordinates(X, np.ones((2, 3)), 3), "order"),
            (lambda: ops.image.rgb_to_grayscale(X[..., None], data_format="last"), "channels_last"),
        ],
    )
    def test_settings(self, call: Any, match: str) -> None:
        with pytest.raises(ConfigError, match=match):
            call()

    @pytest.mark.parametrize(
        ("call", "match"),
        [
            (lambda: ops.binary_crossentropy(X[:1], X), r"\(1, 4\)"),
            (lambda: ops.categorical_crossentropy(X[0], X), r"\(4,\)"),
            (lambda: ops.sparse_categorical_crossentropy([1, 2], X), r"\(3,\)"),
            (lambda: ops.dot_product_attention(X, X, X), "batch, steps, heads"),
            (lambda: ops.conv(X, X), "axes of space"),
            (lambda: ops.conv(X[None], np.ones((1, 3, 2))), "groups"),
            (lambda: ops.conv(X[None], np.ones((5, 4, 2))), "does not fit"),
            (lambda: ops.depthwise_conv(X[None], np.ones((1, 3, 2))), "4 channels"),
            (lambda: ops.conv_transpose(X[None], np.ones((1, 2, 3))), "3 channels"),
            (lambda: ops.conv(X[None], np.ones((4, 2))), "3 axes"),
            (lambda: ops.max_pool(X[None], 4), "does not fit"),
            (lambda: ops.unfold(X[None, None], 5), "does not fit"),
            (lambda: ops.cdist(X, X[:, :2]), r"\(3, 2\)"),
            (lambda: ops.fft((X.astype("int32"), X.astype("int32"))), "floats"),
            (lambda: ops.stft(X, 3, 1, 4, window=np.ones(2)), r"\(3,\)"),
            (lambda: ops.view_as_complex(X), "length 2"),
            (lambda: ops.rearrange(X, "a b c -> a b c"), "3 axes"),
            (lambda: ops.rearrange(X, "(a b) c -> a b c", a=2), "fit"),
            (lambda: ops.image.rgb_to_hsv(X[..., None]), "3 channels"),
            (lambda: ops.image.rgb_to_grayscale(X[..., None].repeat(2, -1)), "3 channels"),
            (lambda: ops.image.extract_patches(X, 2), "channels"),
            (lambda: ops.image.extract_patches(X[..., None], 4), "does not fit"),
            (lambda: ops.image.affine_transform(X[..., None], np.eye(3)), r"\(8,\)"),
            (lambda: ops.image.perspective_transform(X[..., None], X, X), r"\(4, 2\)"),
            (lambda: ops.image.map_coordinates(X, np.ones((3, 3)), 1), r"\(2, ...\)"),
            (lambda: ops.image.ssim(X, X), "same shape"),
            (lambda: jax.jit(ops.unique)(X), "size=most"),
            (lambda: jax.jit(ops.bincount)(jnp.arange(3)), "minlength=bins"),
            (lambda: jax.jit(ops.segment_sum)(jnp.asarray(X), jnp.arange(3)), "num_segments"),
        ],
    )
    def test_shapes(self, call: Any, match: str) -> None:
        with pytest.raises(ShapeError, match=match):
            call()


class TestWhatKerasLacks:
    def test_mish(self) -> None:
        np.testing.assert_allclose(ops.mish(X), X * np.tanh(np.log1p(np.exp(X))), rtol=1e-5, atol=1e-6)

    def test_sparsemax_sums_to_one_and_shifts_what_stays(self) -> None:
        found = np.asarray(ops.sparsemax(X))
        np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)
        for row, x in zip(found, X, strict=True):
            shift = (x - row)[row > 0]
            np.testing.assert_allclose(shift, shift[0], atol=1e-6)
            assert (x[row == 0] <= shift[0] + 1e-6).all()

    def test_solve_with_stacks_of_vectors(self) -> None:
        a, b = np.stack([np.eye(3) * 2, np.tri(3)]).astype("float32"), X[:2, :3]
        np.testing.assert_allclose(np.einsum("nij,nj->ni", a, ops.solve(a, b)), b, rtol=1e-5)
        np.testing.assert_allclose(np.einsum("nij,nj->ni", a, ops.solve_triangular(a, b, lower=True)), b, rtol=1e-5)

    def test_factors_multiply_to_the_matrix(self) -> None:
        square = X[:, :3] @ X[:, :3].T
        values, vectors = ops.eigh(square)
        np.testing.assert_allclose(vectors * values @ vectors.T, square, rtol=1e-4, atol=1e-5)
        values, vectors = ops.eig(square)
        np.testing.assert_allclose(square @ np.asarray(vectors), vectors * values, rtol=1e-4, atol=1e-5)
        u, s, vt = ops.svd(X, full_matrices=False)
        np.testing.assert_allclose(u * s @ vt, X, rtol=1e-4, atol=1e-5)
        q, r = ops.qr(X.T)
        np.testing.assert_allclose(q @ r, X.T, rtol=1e-4, atol=1e-5)

    def test_istft_undoes_stft(self) -> None:
        x = np.random.default_rng(0).normal(size=(2, 32)).astype("float32")
        for window in ("hann", "hamming", None):
            parts = ops.stft(x, 8, 4, 8, window=window)
            np.testing.assert_allclose(ops.istft(parts, 8, 4, 8, window=window), x, rtol=1e-4, atol=1e-5)

    def test_fold_undoes_unfold_without_overlap(self) -> None:
        x = np.random.default_rng(0).normal(size=(2, 3, 4, 6)).astype("float32")
        np.testing.assert_array_equal(ops.fold(ops.unfold(x, 2, stride=2), (4, 6), 2, stride=2), x)

    def test_soft_cap_bounds_the_scores(self) -> None:
        q, k, v = (np.random.default_rng(i).normal(size=(1, 3, 2, 4)).astype("float32") for i in range(3))
        scores = np.einsum("bqhd,bkhd->bhqk", q, k) / 2
        scores = np.exp(scores / (1 + abs(scores) / 1.5))
        weights = scores / scores.sum(-1, keepdims=True)
        found = ops.dot_product_attention(q, k, v, attn_logits_soft_cap=1.5)
        np.testing.assert_allclose(found, np.einsum("bhqk,bkhd->bqhd", weights, v), rtol=1e-5, atol=1e-6)

    def test_beam_search_finds_the_likeliest_labels(self) -> None:
        logits = 2 * np.random.default_rng(3).normal(size=(1, 4, 3)).astype("float32")
        logp = np.asarray(jax.nn.log_softmax(logits[0]))
        total: dict[tuple[int, ...], float] = {}
        for path in np.ndindex(3, 3, 3, 3):
            labels = tuple(c for i, c in enumerate(path) if c and (not i or path[i - 1] != c))
            total[labels] = total.get(labels, 0.0) + float(np.exp(sum(logp[t, c] for t, c in enumerate(path))))
        ranked = sorted(total, key=lambda labels: -total[labels])[:3]
        paths, scores = ops.ctc_decode(logits, [4], strategy="beam_search", beam_width=40, top_paths=3)
        assert [tuple(int(c) for c in p if c >= 0) for p in paths[:, 0]] == ranked
        np.testing.assert_allclose(np.exp(scores[0]), [total[labels] for labels in ranked], rtol=1e-5)

    def test_elastic_transform_moves_pixels_and_depends_on_the_key(self) -> None:
        x = jnp.asarray(np.random.default_rng(0).uniform(size=(1, 8, 8, 1)).astype("float32"))
        with bind({}, key=jax.random.key(0)):
            one, two = ops.image.elastic_transform(x, 3.0, 1.0), ops.image.elastic_transform(x, 3.0, 1.0, seed=1)
        with bind({}, key=jax.random.key(0)):
            again = ops.image.elastic_transform(x, 3.0, 1.0)
        assert (one == again).all()
        assert not jnp.allclose(one, two)
        assert one.min() >= x.min() - 1e-6
        np.testing.assert_allclose(ops.image.elastic_transform(x, 0.0), x, atol=1e-6)

    def test_perspective_moves_the_corners(self) -> None:
        x = np.zeros((8, 8, 1), "float32")
        x[1, 1] = 1
        start, end = np.array([[1, 1], [6, 1], [1, 6], [6, 6]]), np.array([[3, 2], [6, 1], [1, 6], [6, 6]])
        found = ops.image.perspective_transform(x, start, end, "nearest")
        assert float(found[2, 3, 0]) == 1

    @pytest.mark.parametrize("op", ["resize", "rgb_to_grayscale", "rgb_to_hsv", "gaussian_blur", "pad_images"])
    def test_channels_first_is_channels_last_transposed(self, op: str) -> None:
        x = np.random.default_rng(0).uniform(size=(2, 6, 5, 3)).astype("float32")
        arguments: tuple[Any, ...] = {"resize": ((3, 4),), "pad_images": (1, 1, 0, 0)}.get(op, ())
        fn = getattr(ops.image, op)
        first = fn(np.moveaxis(x, -1, 1), *arguments, data_format="channels_first")
        np.testing.assert_allclose(np.moveaxis(first, 1, -1), fn(x, *arguments), rtol=1e-6)
        single = fn(np.moveaxis(x[0], -1, 0), *arguments, data_format="channels_first")
        np.testing.assert_allclose(single, first[0], rtol=1e-6)

    @pytest.mark.parametrize("op", ["conv", "max_pool", "adaptive_average_pool", "conv_transpose"])
    def test_channels_first_in_space(self, op: str) -> None:
        x = np.random.default_rng(0).uniform(size=(2, 6, 5, 3)).astype("float32")
        other = {"conv": np.ones((2, 2, 3, 4), "float32"), "conv_transpose": np.ones((2, 2, 4, 3), "float32")}.get(
            op, 2
        )
        first = getattr(ops, op)(np.moveaxis(x, -1, 1), other, data_format="channels_first")
        np.testing.assert_allclose(np.moveaxis(first, 1, -1), getattr(ops, op)(x, other), rtol=1e-6)

    def test_gradients_at_coinciding_points_are_finite(self) -> None:
        x = jnp.ones((2, 3))
        assert jnp.isfinite(jax.grad(lambda x: ops.cdist(x, x).sum())(x)).all()
        assert jnp.isfinite(jax.grad(lambda x: ops.divide_no_nan(1.0, x).sum())(0 * x)).all()
        assert jnp.isfinite(jax.grad(lambda x: ops.normalize(x).sum())(0 * x)).all()
