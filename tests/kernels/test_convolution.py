"""Convolution kernels against ``lax``, over sizes, strides, paddings, dilations and groups: values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

import lamina as lm
from lamina.core.loops import in_loop
from lamina.core.transforms import scan
from lamina.kernels import convolution as kernels
from lamina.kernels import convolution_operations
from lamina.kernels.convolution_operations import CONVOLUTION, LARGE
from lamina.kernels.joined_convolution import concatenate
from tests.kernels.cases import NATIVE

LAYOUTS = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}


@st.composite
def problems(draw, groups=True):
    """Arguments of a convolution whose window fits."""
    rank = draw(st.sampled_from([1, 2, 2, 3]))
    many = st.integers(1, 3)
    size, strides, dilation = (tuple(draw(many) for _ in range(rank)) for _ in range(3))
    lengths = tuple((k - 1) * d + 1 + draw(st.integers(0, 4)) for k, d in zip(size, dilation, strict=True))
    count = draw(st.integers(1, 3)) if groups else 1
    channels, filters = count * draw(st.integers(1, 2)), count * draw(st.integers(1, 2))
    padding = draw(st.sampled_from(["valid", "same"]))
    return lengths, size, strides, dilation, padding, count, channels, filters, draw(st.integers(0, 9))


def reference(x, kernel, strides, padding, dilation, groups):
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding.upper(),
        rhs_dilation=dilation,
        dimension_numbers=LAYOUTS[x.ndim - 2],
        feature_group_count=groups,
    )


def same_with_gradients(ours, theirs, *args):
    """Both give the same values, and the same gradients of a weighted sum of them."""

    @jax.jit
    def run(*args):
        results = []
        for fn in (ours, theirs):
            y, vjp = jax.vjp(fn, *args)
            results.append((y, vjp(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))))
        return results

    for mine, other in zip(*map(jax.tree.leaves, run(*args)), strict=True):
        assert mine.shape == other.shape
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-4)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(problems())
def test_conv_against_lax(problem):
    lengths, size, strides, dilation, padding, groups, channels, filters, seed = problem
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, *lengths, channels)).astype("float32")
    kernel = rng.normal(size=(*size, channels // groups, filters)).astype("float32")
    same_with_gradients(
        lambda x, k: kernels.conv(x, k, strides, padding, dilation, groups),
        lambda x, k: reference(x, k, strides, padding, dilation, groups),
        x,
        kernel,
    )


@settings(max_examples=6, deadline=None, derandomize=True)
@given(problems(groups=False), st.sampled_from([1, 2]))
def test_depthwise_against_lax(problem, multiplier):
    lengths, size, strides, dilation, padding, _, channels, _, seed = problem
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, *lengths, channels)).astype("float32")
    kernel = rng.normal(size=(*size, channels, multiplier)).astype("float32")
    flat = (*size, 1, channels * multiplier)
    same_with_gradients(
        lambda x, k: kernels.depthwise_conv(x, k, strides, padding, dilation),
        lambda x, k: reference(x, k.reshape(flat), strides, padding, dilation, channels),
        x,
        kernel,
    )


@settings(max_examples=8, deadline=None, derandomize=True)
@given(problems(groups=False))
def test_transpose_against_lax(problem):
    lengths, size, strides, dilation, padding, _, channels, filters, seed = problem
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, *lengths, channels)).astype("float32")
    kernel = rng.normal(size=(*size, filters, channels)).astype("float32")
    reach = [(k - 1) * d for k, d in zip(size, dilation, strict=True)]
    grown = [kernels.transpose_pads(k, s, padding, None, d) for k, s, d in zip(size, strides, dilation, strict=True)]
    pads = [(r + before, r + after) for r, (before, after) in zip(reach, grown, strict=True)]
    same_with_gradients(
        lambda x, k: kernels.conv_transpose(x, k, strides, padding, dilation=dilation),
        lambda x, k: lax.conv_transpose(
            x, k, strides, pads, dilation, dimension_numbers=LAYOUTS[x.ndim - 2], transpose_kernel=True
        ),
        x,
        kernel,
    )


def plain_sum(x, kernel):
    """A convolution one product after the other."""
    rows, columns = x.shape[1] - 2, x.shape[2] - 2
    total = np.zeros((len(x), rows, columns, kernel.shape[3]), x.dtype)
    for y, z, channel in np.ndindex(kernel.shape[:3]):
        total += x[:, y : y + rows, z : z + columns, channel : channel + 1] * kernel[y, z, channel]
    return total


@NATIVE
@pytest.mark.parametrize("width", [8, 10])  # tiles of four and of two results
def test_minimal_filtering_errs_no_more_than_a_plain_sum(width):
    rng = np.random.default_rng(width)
    x, kernel = (rng.normal(size=shape).astype("float32") for shape in [(4, 9, width + 2, 64), (3, 3, 64, 32)])
    given = rng.normal(size=(4, 7, width, 32)).astype("float32")
    found, vjp = jax.vjp(lambda x, kernel: kernels.conv(x, kernel, padding="valid"), x, kernel)
    of_x = vjp(jnp.asarray(given))[0]
    around = np.pad(given, ((0, 0), (2, 2), (2, 2), (0, 0)))
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    for mine, arrays in [(found, (x, kernel)), (of_x, (around, turned))]:
        exact, plain = plain_sum(*(array.astype("float64") for array in arrays)), plain_sum(*arrays)
        assert np.abs(mine - exact).max() < 1.2 * np.abs(plain - exact).max()


@pytest.mark.parametrize(("limit", "value"), [("MAX_TAPS", 2), ("MAX_PATCHES", 10)])
def test_large_windows_go_to_xla(monkeypatch, limit, value):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):  # which has no native form
        x, kernel = (jnp.asarray(rng.normal(size=shape)) for shape in [(1, 9, 4), (3, 4, 2)])

        def both():
            return kernels.conv(x, kernel, 2, "same"), kernels.conv_transpose(x, kernel.swapaxes(1, 2), 2, "same")

        expected = both()
        monkeypatch.setattr(convolution_operations, limit, value)
        jax.clear_caches()
        for mine, other in zip(both(), expected, strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-12, atol=1e-12)


def test_a_window_that_does_not_fit_has_no_place():
    assert kernels.conv(jnp.ones((1, 2, 1)), jnp.ones((3, 1, 1))).shape == (1, 0, 1)
    assert kernels.conv(jnp.ones((1, 2, 1)), jnp.ones((3, 1, 1)), padding=[(1, 0)]).shape == (1, 1, 1)


def test_causal_sees_nothing_later():
    slope = jax.jacobian(lambda x: kernels.conv(x[None, :, None], jnp.ones((3, 1, 1)), 1, "causal", 2)[0, :, 0])
    np.testing.assert_array_equal(slope(jnp.ones(6)), sum(np.eye(6, k=-2 * i) for i in range(3)))


def test_dtypes():
    x, kernel = jnp.ones((1, 4, 2)), jnp.ones((3, 2, 5), "bfloat16")
    assert kernels.conv(x.astype("bfloat16"), kernel).dtype == jnp.bfloat16
    assert kernels.conv(x.astype("uint8"), kernel.astype("float32")).dtype == jnp.float32
    ones = jnp.ones((16, 16, 1, 1), "bfloat16") * 1.01
    y = kernels.conv(jnp.ones((1, 16, 16, 1), "bfloat16"), ones)  # sums in bfloat16 would stop growing at 256
    np.testing.assert_allclose(np.float32(y), 16 * 16 * np.float32(ones[0, 0, 0, 0]), rtol=0.01)


def test_higher_and_forward_derivatives():
    rng = np.random.default_rng(0)
    x, kernel = (jnp.asarray(rng.normal(size=shape), "float32") for shape in [(1, 4, 4, 2), (2, 2, 2, 3)])

    def energy(conv):
        return lambda x: jnp.sum(conv(x, kernel) ** 3)

    plain = energy(lambda x, k: reference(x, k, (1, 1), "valid", (1, 1), 1))
    direction = jnp.ones_like(x)
    for ours, theirs in zip(
        jax.jvp(jax.grad(energy(kernels.conv)), (x,), (direction,)),
        jax.jvp(jax.grad(plain), (x,), (direction,)),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_large_portable_ones_are_xlas_own_but_not_inside_loops():
    x, kernel = jnp.ones((16, 16, 16, 16)), jnp.ones((3, 3, 16, 64))

    def used(x, kernel, looped=False, stride=1):
        geometry = {"strides": (stride, stride), "pads": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
        portable = functools.partial(CONVOLUTION.portable, slope=1.0, looped=looped, **geometry)
        traced = jax.jit(portable).trace(x, kernel, jnp.zeros(0))
        lowered = {name: traced.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "cuda")}
        assert "stablehlo.convolution" in lowered["cuda"]  # where the vendor's library is the fast way
        return "stablehlo.convolution" in lowered["cpu"]

    assert 2 * 16 * 14 * 14 * kernel.size > LARGE
    assert used(x, kernel)
    assert not used(x[:1], kernel)
    assert not used(x, jnp.tile(kernel, (1, 1, 1, 4)), stride=2)
    assert not used(x, kernel, looped=True)

    def total(x, kernel):
        return scan(lambda carry, _: (carry + kernels.conv(x, kernel).sum(), None), 0.0, length=2)[0]

    assert "looped=True" in str(jax.make_jaxpr(total)(x, kernel))
    assert not in_loop()
    rng = np.random.default_rng(0)
    same_with_gradients(
        lambda x, k: kernels.conv(x, k, 1, "same"),
        lambda x, k: reference(x, k, (1, 1), "same", (1, 1), 1),
        rng.normal(size=(16, 16, 16, 16)).astype("float32"),
        0.1 * rng.normal(size=kernel.shape).astype("float32"),
    )


def of_two(join, first, second, kernel, bias, **options):
    """A number, and the gradients, of a convolution of two arrays that are joined along their channels."""

    def total(*arrays):
        first, second, kernel, bias = arrays
        return jnp.sum(jnp.sin(kernels.conv(join([first, second]), kernel, bias=bias, slope=0.1, **options)))

    return jax.value_and_grad(total, argnums=(0, 1, 2, 3))(first, second, kernel, bias)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_both_parts_of_a_concatenation_are_read_where_they_are(padding):
    rng = np.random.default_rng(0)
    shapes = ((2, 6, 5, 16), (2, 6, 5, 32), (3, 3, 48, 20), (20,))
    arrays = [jnp.asarray(rng.normal(size=shape), "float32") for shape in shapes]
    joined = jax.jit(functools.partial(of_two, concatenate, padding=padding))
    plain = jax.jit(functools.partial(of_two, lambda parts: jnp.concatenate(parts, -1), padding=padding))
    assert "joined_convolution" in str(joined.trace(*arrays).jaxpr)
    for mine, expected in zip(jax.tree.leaves(joined(*arrays)), jax.tree.leaves(plain(*arrays)), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("channels", "size", "options"),
    [((16, 8), 3, {}), ((16, 16), 3, {"strides": 2}), ((16, 16), 3, {"groups": 2}), ((16, 16), 1, {})],
)
def test_other_convolutions_are_given_the_concatenation(channels, size, options):
    def convolved(first, second, kernel):
        return kernels.conv(concatenate([first, second]), kernel, padding="same", **options)

    first, second = (jnp.ones((1, 4, 4, count)) for count in channels)
    kernel = jnp.ones((size, size, sum(channels) // options.get("groups", 1), 16))
    assert "joined" not in str(jax.make_jaxpr(convolved)(first, second, kernel))


def test_a_wider_bias_widens_both_parts_of_a_concatenation():
    parts, kernel = [jnp.ones((1, 4, 4, 16), "bfloat16")] * 2, jnp.ones((3, 3, 32, 16), "bfloat16")
    found = jax.jit(lambda *parts: kernels.conv(concatenate(parts), kernel, bias=jnp.ones(16)))(*parts)
    np.testing.assert_array_equal(found, np.full((1, 2, 2, 16), 289, "float32"))


def test_layers_hand_on_what_a_concatenation_is_made_of():
    x = lm.Input((4, 4, 16))
    y = lm.layers.Concatenate()([lm.layers.Conv2D(16, 3, padding="same")(x), x])
    model = lm.Model(x, lm.layers.Conv2D(16, 3, padding="same")(y))
    gradient = jax.grad(lambda x: jnp.sum(model(x)))
    assert "joined_convolution_outer" in str(jax.make_jaxpr(gradient)(jnp.ones((1, 4, 4, 16))))
