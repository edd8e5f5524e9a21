"""Operations on bfloat16: computed in float32 and rounded once, or multiplied in tiles and summed up in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina import native
from lamina.kernels import batch_normalization_operations as batch_normalization
from lamina.kernels import convolution_operations as convolutions
from lamina.kernels import dense_operations as dense
from lamina.kernels import feed_forward, normalization
from lamina.kernels import joined_convolution as joined
from tests.kernels.cases import BIG, CASES, JOINED, LINE, NATIVE, ODD, STRIDED, WIDE, geometry


def is_half(operation, settings, shapes):
    return operation.is_half(*(jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in shapes), **settings)


# of each operation, the first case that has no form for half numbers
SINGLE = {id(case[0]): number for number, case in reversed(list(enumerate(CASES))) if not is_half(*case)}


@NATIVE
@pytest.mark.parametrize("number", SINGLE.values())
def test_half_numbers_are_computed_in_float32_and_rounded_once(number):
    operation, settings, shapes = CASES[number]
    rng = np.random.default_rng(number)
    arrays = [jnp.asarray(rng.normal(size=shape), jnp.bfloat16) for shape in shapes]
    assert operation.is_native(*arrays, **settings)
    found = jax.tree.leaves(jax.jit(lambda *arrays: operation(*arrays, **settings))(*arrays))
    exact = jax.tree.leaves(
        jax.jit(lambda *arrays: operation(*arrays, **settings))(*[a.astype("float32") for a in arrays])
    )
    portable = jax.tree.leaves(jax.eval_shape(lambda *arrays: operation.portable(*arrays, **settings), *arrays))
    for mine, single, shape in zip(found, exact, portable, strict=True):
        assert (mine.shape, mine.dtype) == (shape.shape, shape.dtype)
        np.testing.assert_array_equal(mine, single.astype(mine.dtype))


# slopes that change no number's digits, so that gradients in front of an activation are not rounded
HALF_CONVOLUTIONS = [
    (convolutions.CONVOLUTION, WIDE | {"slope": 0.0}, [(3, 13, 11, 32), (3, 3, 32, 70), (70,)]),
    (convolutions.CONVOLUTION, WIDE | {"slope": 1.0}, [(70, 4, 5, 16), (3, 3, 16, 16), (0,)]),
    (convolutions.CONVOLUTION, ODD | {"slope": 0.25}, [(3, 29, 28, 20), (2, 3, 20, 33), (33,)]),
    (convolutions.CONVOLUTION, BIG | {"slope": 0.25}, [(2, 31, 40, 21), (4, 3, 21, 17), (17,)]),
    (convolutions.CONVOLUTION, STRIDED | {"slope": 0.0}, [(5, 15, 12, 64), (4, 4, 64, 48), (48,)]),
    (convolutions.CONVOLUTION, LINE | {"slope": 0.0}, [(9, 170, 24), (3, 24, 19), (19,)]),
    (
        convolutions.OUTER,
        WIDE | {"lengths": (13, 11), "undone": 0.0, "slope": 1.0},
        [(3, 13, 11, 70), (3, 13, 11, 70), (3, 3, 32, 70), (0,)],
    ),
    (
        convolutions.OUTER,
        ODD | {"lengths": (29, 28), "undone": 0.25, "slope": 1.0},
        [(3, 14, 10, 33), (3, 14, 10, 33), (2, 3, 20, 33), (0,)],
    ),
    (
        convolutions.OUTER,
        BIG | {"lengths": (31, 40), "undone": 0.25, "slope": 0.0},
        [(2, 32, 38, 17), (2, 32, 38, 17), (4, 3, 21, 17), (21,)],
    ),
    (
        convolutions.OUTER,
        STRIDED | {"lengths": (15, 12), "undone": 1.0, "slope": 0.25},
        [(5, 7, 6, 48), (0,), (4, 4, 64, 48), (64,)],
    ),
    (
        convolutions.OUTER,
        geometry((3, 2), ((0, 0), (0, 1)), (1, 1)) | {"lengths": (30, 41), "undone": 0.0, "slope": 1.0},
        [(7, 10, 21, 19), (7, 10, 21, 19), (2, 2, 35, 19), (35,)],
    ),
    (
        convolutions.OUTER,
        LINE | {"lengths": (170,), "undone": 0.0, "slope": 1.0},
        [(9, 84, 19), (9, 84, 19), (3, 24, 19), (0,)],
    ),
    (convolutions.KERNEL, WIDE | {"size": (3, 3), "undone": 0.0}, [(3, 13, 11, 32), *[(3, 13, 11, 70)] * 2]),
    (convolutions.KERNEL, WIDE | {"size": (3, 3), "undone": 1.0}, [(70, 4, 5, 16), (70, 4, 5, 16), (0,)]),
    (convolutions.KERNEL, ODD | {"size": (2, 3), "undone": 0.25}, [(3, 29, 28, 20), *[(3, 14, 10, 33)] * 2]),
    (convolutions.KERNEL, BIG | {"size": (4, 3), "undone": 0.0}, [(2, 31, 40, 21), *[(2, 32, 38, 17)] * 2]),
    (convolutions.KERNEL, STRIDED | {"size": (4, 4), "undone": 0.25}, [(5, 15, 12, 64), *[(5, 7, 6, 48)] * 2]),
    (convolutions.KERNEL, LINE | {"size": (3,), "undone": 0.0}, [(9, 170, 24), *[(9, 84, 19)] * 2]),
    (
        joined.JOINED_CONVOLUTION,
        JOINED | {"slope": 0.25},
        [(3, 27, 26, 16), (3, 27, 26, 32), (3, 3, 48, 19), (19,)],
    ),
    (
        joined.OUTER_OF_JOINED,
        JOINED | {"lengths": (25, 26), "channels": (32, 16), "undone": 0.0},
        [(3, 26, 24, 20), (3, 26, 24, 20), (3, 3, 48, 20)],
    ),
    (
        joined.KERNEL_OF_JOINED,
        JOINED | {"undone": 0.25},
        [(5, 25, 26, 16), (5, 25, 26, 32), *[(5, 26, 24, 35)] * 2],
    ),
]


@pytest.mark.skipif("half_dense" not in native.load().names, reason="this processor has no products of halves")
@pytest.mark.parametrize(
    ("operation", "settings", "shapes"),
    [
        (dense.DENSE, {"slope": 1.0}, [(2, 48, 128), (128, 160), (160,), (0,)]),
        (dense.DENSE, {"slope": 0.2}, [(530, 70), (70, 330), (330,), (530, 330)]),
        (dense.DENSE, {"slope": 0.0}, [(33, 301), (301, 203), (0,), (33, 203)]),
        (dense.DENSE_TRANSPOSED, {}, [(2, 265, 70), (65, 70)]),
        (dense.DENSE_TRANSPOSED, {}, [(130, 420), (330, 420)]),
        (dense.DENSE_GELU, {}, [(2, 65, 420), (420, 130), (130,)]),
        (dense.DENSE_GELU_KEEPING, {}, [(530, 70), (70, 33), (0,)]),
        (dense.DENSE_GRADIENT, {"slope": 1.0, "back": True, "gelu": False}, [(96, 128), (128, 160), (0,), (96, 160)]),
        (dense.DENSE_GRADIENT, {"slope": 0.0, "back": True, "gelu": False}, [(530, 70), (70, 331), *[(530, 331)] * 2]),
        (dense.DENSE_GRADIENT, {"slope": 0.2, "back": False, "gelu": False}, [(33, 300), (300, 203), *[(33, 203)] * 2]),
        (dense.DENSE_GRADIENT, {"slope": 0.0, "back": True, "gelu": True}, [(130, 420), (420, 330), *[(130, 330)] * 2]),
        (feed_forward.FEED_FORWARD, {}, [(2, 265, 70), (70, 130), (130,), (130, 35), (35,), (2, 265, 35)]),
        (feed_forward.FEED_FORWARD_KEEPING, {}, [(577, 64), (64, 96), (0,), (96, 64), (0,), (0,)]),
        (feed_forward.FEED_FORWARD_GRADIENT, {"back": True}, [(530, 70), (70, 130), (130, 35), (530, 130), (530, 35)]),
        (feed_forward.FEED_FORWARD_GRADIENT, {"back": False}, [(1100, 64), (64, 96), (96, 32), (1100, 96), (1100, 32)]),
        *HALF_CONVOLUTIONS,
    ],
)
def test_half_numbers_are_multiplied_in_tiles_and_summed_up_in_float32(operation, settings, shapes):
    rng = np.random.default_rng(0)
    arrays = [jnp.asarray(rng.normal(size=shape), jnp.bfloat16) for shape in shapes]
    assert operation.is_half(*arrays, **settings)
    found = jax.jit(lambda *arrays: operation(*arrays, **settings))(*arrays)
    program = jax.jit(lambda *arrays: operation(*arrays, **settings)).lower(*arrays).as_text()
    assert "lamina.half_" in program
    with jax.enable_x64(True):
        exact = operation.portable(*[jnp.asarray(np.asarray(a, "float64")) for a in arrays], **settings)
    half = 2.0**-8  # what rounding once can change, of a number
    for mine, other in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
        assert mine.dtype == jnp.bfloat16
        assert mine.shape == other.shape
        # a gradient in front of an activation is rounded too, before it is multiplied, and what is between two layers
        between = operation.name.startswith("feed_forward")
        rounded_before = settings.get("gelu") or settings.get("slope") == 0.2 or between
        atol = (5e-3 if rounded_before else 1e-5) * np.abs(other).max(initial=0)
        np.testing.assert_allclose(np.asarray(mine, "float64"), other, rtol=1.01 * half, atol=atol)


def normalizations():
    """Operations, settings and arguments of bfloat16, but for numbers of rows and columns."""

    def draw(*shape, exact=False):
        return jnp.asarray(rng.normal(size=shape), "float32" if exact else "bfloat16")

    rng = np.random.default_rng(0)
    for shape, centered, others in (((3, 70, 37), True, True), ((33, 100), False, False)):
        rows, columns, like = shape[:-1], shape[-1], shape if others else (0,)
        gamma = draw(columns, exact=True)
        yield (
            normalization.LAYER_NORM_FORWARD,
            {"epsilon": 1e-3, "centered": centered},
            [draw(*shape), gamma, gamma[:0]],
        )
        scale = jnp.abs(draw(*rows, exact=True))
        given = [draw(*shape), gamma, draw(*rows, exact=True), scale, draw(*shape), draw(*like), draw(*like)]
        yield normalization.LAYER_NORM_GRADIENT, {"centered": centered}, given
    for shape, slope in (((5, 7, 9, 70), 0.2), ((530, 16), 1.0)):
        x, numbers = draw(*shape), [draw(shape[-1], exact=True) for _ in range(2)]
        found = [part.ravel() for part in normalization.moments(x, range(len(shape) - 1))]
        more, settings = draw(*shape) if slope == 1 else draw(0), {"epsilon": 1e-3, "slope": slope}
        yield batch_normalization.BATCH_MOMENTS, {}, [x]
        yield batch_normalization.BATCH_NORM, settings, [x, *numbers, *found, more]
        yield batch_normalization.BATCH_NORM_GRADIENT, settings, [x, *numbers, *found, draw(*shape)]


@pytest.mark.skipif("half_layer_norm" not in native.load().names, reason="this processor has no such kernels")
def test_half_numbers_are_normalized_in_float32_where_they_lie():
    for operation, settings, arrays in normalizations():
        assert operation.is_half(*arrays, **settings)
        found = jax.jit(lambda *arrays, operation=operation, settings=settings: operation(*arrays, **settings))(*arrays)
        with jax.enable_x64(True):
            exact = operation.portable(*[jnp.asarray(np.asarray(a, "float64")) for a in arrays], **settings)
        for mine, other in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
            assert mine.shape == other.shape
            assert mine.dtype == ("bfloat16" if mine.shape == arrays[0].shape else "float32")
            rounding = 2.0**-8 if mine.dtype == jnp.bfloat16 else 0
            atol = 4e-6 * max(np.abs(other).max(), 1)
            np.testing.assert_allclose(np.asarray(mine, "float64"), other, rtol=1.01 * rounding, atol=atol)


@pytest.mark.skipif("half_dense" not in native.load().names, reason="this processor has no products of halves")
def test_halves_that_are_no_numbers_stay_so_in_tiles():
    x = jnp.ones((64, 128), jnp.bfloat16).at[3, 5].set(jnp.nan).at[40, 100].set(jnp.inf)
    nothing = jnp.zeros(0, jnp.bfloat16)
    y = dense.DENSE(x, jnp.ones((128, 160), jnp.bfloat16), nothing, nothing, slope=1.0)
    assert np.isnan(np.asarray(y[3], "float32")).all()
    assert np.isinf(np.asarray(y[40], "float32")).all()
    np.testing.assert_array_equal(np.asarray(y[:3], "float32"), 128)
