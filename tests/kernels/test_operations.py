"""Every operation's native form against its portable one in double precision, and what an operation is to JAX."""

import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lamina as lm
from lamina import native
from lamina.kernels import (
    adam,
    batch_normalization,
    convolution,
    crossentropy,
    dense,
    embedding,
    kernel_gradient,
    normalization,
    pooling,
)
from lamina.kernels import convolution_operations as convolutions
from lamina.kernels import joined_convolution as joined
from lamina.kernels.operation import Operation


def geometry(strides, pads, dilation, groups=1):
    return {"strides": strides, "pads": pads, "dilation": dilation, "groups": groups, "looped": False}


WIDE = geometry((1, 1), ((1, 1), (1, 1)), (1, 1))
ODD = geometry((2, 3), ((0, 1), (2, 0)), (2, 1))
GROUPS = geometry((1, 2), ((1, 0), (1, 1)), (1, 1), 2)
APART = geometry((2, 1), ((1, 1), (1, 0)), (1, 2), 19)
TILED = geometry((1, 1), ((4, 1), (0, 2)), (1, 1))
FAR = geometry((1, 1), ((1, 0), (5, 3)), (1, 1))
STRIDED = geometry((2, 2), ((1, 1), (1, 2)), (1, 1))
UNEVEN = geometry((2, 2), ((3, 0), (2, 2)), (1, 1))
BIG = geometry((1, 1), ((5, 2), (0, 4)), (2, 3))
JOINED = {"pads": ((2, 1), (0, 0)), "looped": False}
LINE = geometry((2,), ((2, 1),), (3,))
WINDOWS = {
    "apart": {"size": (2, 2), "strides": (2, 2), "pads": ((0, 0), (0, 0))},
    "over": {"size": (3, 2), "strides": (2, 1), "pads": ((1, 1), (0, 1))},
    "line": {"size": (3,), "strides": (4,), "pads": ((1, 0),)},
}

# operation, settings, shapes of its arguments
CASES = [
    (convolutions.CONVOLUTION, WIDE | {"slope": 0.0}, [(2, 5, 6, 3), (3, 3, 3, 70), (70,)]),
    (convolutions.CONVOLUTION, ODD | {"slope": 0.2}, [(3, 9, 8, 5), (2, 3, 5, 33), (33,)]),
    (convolutions.CONVOLUTION, GROUPS | {"slope": 1.0}, [(2, 6, 5, 16), (2, 3, 8, 32), (0,)]),
    (convolutions.CONVOLUTION, WIDE | {"slope": 0.0}, [(2, 7, 9, 20), (3, 3, 20, 37), (37,)]),
    (convolutions.CONVOLUTION, TILED | {"slope": 0.2}, [(3, 5, 4, 16), (3, 3, 16, 17), (17,)]),
    (convolutions.CONVOLUTION, FAR | {"slope": 0.2}, [(3, 6, 5, 16), (3, 3, 16, 32), (32,)]),
    (convolutions.CONVOLUTION, WIDE | {"slope": 0.0}, [(2, 7, 5, 18), (3, 3, 18, 3), (3,)]),
    (convolutions.CONVOLUTION, BIG | {"slope": 0.2}, [(2, 9, 11, 8), (4, 3, 8, 2), (2,)]),
    (convolutions.CONVOLUTION, STRIDED | {"slope": 0.2}, [(3, 9, 12, 32), (4, 4, 32, 16), (16,)]),
    (convolutions.CONVOLUTION, UNEVEN | {"slope": 1.0}, [(5, 8, 7, 16), (4, 4, 16, 48), (0,)]),
    (convolutions.CONVOLUTION, LINE | {"slope": 1.0}, [(2, 17, 4), (3, 4, 19), (19,)]),
    (convolutions.CONVOLUTION, APART | {"slope": 0.0}, [(5, 6, 5, 19), (2, 3, 1, 19), (19,)]),
    (convolutions.CONVOLUTION, APART | {"slope": 1.0}, [(2, 6, 5, 19), (2, 3, 1, 19), (0,)]),
    (
        convolutions.OUTER,
        ODD | {"lengths": (9, 8), "undone": 0.0, "slope": 1.0},
        [(3, 4, 3, 20), (3, 4, 3, 20), (2, 3, 18, 20), (0,)],
    ),
    (
        convolutions.OUTER,
        STRIDED | {"lengths": (9, 12), "undone": 0.0, "slope": 0.2},
        [(3, 4, 6, 16), (3, 4, 6, 16), (4, 4, 32, 16), (32,)],
    ),
    (
        convolutions.OUTER,
        UNEVEN | {"lengths": (9, 7), "undone": 1.0, "slope": 1.0},
        [(2, 5, 4, 16), (0,), (4, 4, 16, 16), (0,)],
    ),
    (
        convolutions.OUTER,
        GROUPS | {"lengths": (6, 5), "undone": 0.0, "slope": 1.0},
        [(2, 6, 3, 32), (2, 6, 3, 32), (2, 3, 8, 32), (0,)],
    ),
    (convolutions.OUTER, LINE | {"lengths": (17,), "undone": 1.0, "slope": 0.2}, [(2, 7, 19), (0,), (3, 4, 19), (4,)]),
    (convolutions.KERNEL, WIDE | {"size": (3, 3), "undone": 0.3}, [(3, 5, 6, 7), (3, 5, 6, 40), (3, 5, 6, 40)]),
    (
        convolutions.KERNEL,
        STRIDED | {"size": (4, 4), "undone": 0.3},
        [(5, 9, 12, 32), (5, 4, 6, 16), (5, 4, 6, 16)],
    ),
    (convolutions.KERNEL, GROUPS | {"size": (2, 3), "undone": 0.3}, [(2, 6, 5, 16), (2, 6, 3, 32), (2, 6, 3, 32)]),
    (convolutions.KERNEL, LINE | {"size": (3,), "undone": 1.0}, [(5, 17, 4), (5, 7, 16), (0,)]),
    *(
        (pooling.MAX_POOL, WINDOWS[name], [shape])
        for name, shape in [("apart", (2, 5, 6, 19)), ("over", (2, 6, 5, 3)), ("line", (3, 11, 4))]
    ),
    *(
        (pooling.AVERAGE_POOL, WINDOWS[name], [shape])
        for name, shape in [("apart", (2, 5, 6, 19)), ("over", (2, 6, 5, 3)), ("line", (3, 11, 4))]
    ),
    (pooling.AVERAGE_POOL_GRADIENT, WINDOWS["over"] | {"lengths": (6, 5)}, [(2, 3, 5, 3)]),
    (joined.JOINED_CONVOLUTION, JOINED | {"slope": 0.2}, [(2, 7, 6, 16), (2, 7, 6, 32), (3, 3, 48, 19), (19,)]),
    (joined.JOINED_CONVOLUTION, JOINED | {"slope": 1.0}, [(1, 3, 4, 32), (1, 3, 4, 16), (3, 3, 48, 16), (0,)]),
    (
        joined.OUTER_OF_JOINED,
        JOINED | {"lengths": (5, 6), "channels": (32, 16), "undone": 0.0},
        [(3, 6, 4, 20), (3, 6, 4, 20), (3, 3, 48, 20)],
    ),
    (joined.KERNEL_OF_JOINED, JOINED | {"undone": 0.2}, [(5, 5, 6, 16), (5, 5, 6, 32), *[(5, 6, 4, 35)] * 2]),
    (dense.DENSE, {"slope": 0.0}, [(5, 30), (30, 21), (21,), (0,)]),
    (dense.DENSE, {"slope": 0.2}, [(2, 7, 16), (16, 32), (32,), (0,)]),
    (dense.DENSE, {"slope": 1.0}, [(3, 4), (4, 2), (0,), (0,)]),
    (dense.DENSE, {"slope": 0.0}, [(1, 301), (301, 597), (597,), (0,)]),
    (dense.DENSE, {"slope": 0.2}, [(5, 331), (331, 420), (420,), (0,)]),
    (dense.DENSE, {"slope": 1.0}, [(1, 1), (1, 1), (1,), (0,)]),
    (dense.DENSE, {"slope": 0.2}, [(3, 67, 65), (65, 83), (83,), (0,)]),
    (dense.DENSE, {"slope": 1.0}, [(1000, 20), (20, 10), (0,), (0,)]),
    (dense.DENSE, {"slope": 0.2}, [(577, 37), (37, 69), (69,), (0,)]),
    (dense.DENSE, {"slope": 0.2}, [(530, 420), (420, 330), (330,), (0,)]),
    (dense.DENSE, {"slope": 0.2}, [(5, 331), (331, 420), (420,), (5, 420)]),
    (dense.DENSE, {"slope": 1.0}, [(2, 7, 16), (16, 35), (0,), (2, 7, 35)]),
    (dense.DENSE, {"slope": 0.2}, [(577, 37), (37, 69), (69,), (577, 69)]),
    (dense.DENSE, {"slope": 1.0}, [(70, 420), (420, 330), (330,), (70, 330)]),
    (dense.DENSE_TRANSPOSED, {}, [(2, 20, 67), (83, 67)]),
    (dense.DENSE_TRANSPOSED, {}, [(530, 70), (65, 70)]),
    (dense.DENSE_TRANSPOSED, {}, [(530, 420), (330, 420)]),
    (dense.DENSE_GELU, {}, [(2, 20, 67), (67, 83), (83,)]),
    (dense.DENSE_GELU, {}, [(530, 70), (70, 300), (0,)]),
    (dense.DENSE_GELU, {}, [(130, 420), (420, 330), (330,)]),
    (dense.DENSE_GELU, {}, [(33, 5), (5, 7), (7,)]),
    (dense.DENSE_GRADIENT, {"slope": 0.0, "back": True, "kept": True}, [(10, 331), (331, 420), *[(10, 420)] * 2]),
    (dense.DENSE_GRADIENT, {"slope": 0.2, "back": True, "kept": False}, [(1030, 7), (7, 21), (1030, 21), (1030, 21)]),
    (dense.DENSE_GRADIENT, {"slope": 0.0, "back": True, "kept": False}, [(70, 50), (50, 70), (70, 70), (70, 70)]),
    (dense.DENSE_GRADIENT, {"slope": 1.0, "back": True, "kept": False}, [(70, 50), (50, 70), (0,), (70, 70)]),
    (dense.DENSE_GRADIENT, {"slope": 1.0, "back": False, "kept": False}, [(600, 131), (131, 32), (0,), (600, 32)]),
    (dense.DENSE_GRADIENT, {"slope": 0.0, "back": True, "kept": False}, [(577, 69), (69, 37), (577, 37), (577, 37)]),
    (dense.DENSE_GRADIENT, {"slope": 1.0, "back": True, "kept": False}, [(530, 420), (420, 330), (0,), (530, 330)]),
    (dense.DENSE_BACK, {"slope": 0.0, "back": True, "kept": False}, [(331, 420), (70, 420), (70, 420)]),
    (dense.DENSE_BACK, {"slope": 1.0, "back": False, "kept": False}, [(30, 21), (0,), (33, 21)]),
    (dense.DENSE_BACK, {"slope": 0.0, "back": True, "kept": True}, [(67, 83), (5, 83), (5, 83)]),
    (kernel_gradient.KERNEL_GRADIENT, {}, [(70, 331), (70, 420)]),
    (kernel_gradient.KERNEL_GRADIENT, {}, [(600, 5), (600, 64)]),
    (kernel_gradient.KERNEL_GRADIENT, {}, [(3, 101), (3, 16)]),
    (normalization.LAYER_NORM, {"epsilon": 1e-3, "centered": True}, [(3, 5, 37), (37,), (37,)]),
    (normalization.LAYER_NORM, {"epsilon": 1e-3, "centered": False}, [(300, 8), (8,), (0,)]),
    (normalization.LAYER_NORM, {"epsilon": 1e-3, "centered": True}, [(7, 1), (0,), (0,)]),
    (batch_normalization.BATCH_MOMENTS, {}, [(2, 13, 12, 21)]),
    (batch_normalization.BATCH_MOMENTS, {}, [(300, 3)]),
]
NATIVE = pytest.mark.skipif(not native.load().names, reason="the native kernels were not built")


@pytest.mark.skipif(shutil.which("c++") is None, reason="there is no compiler to build kernels with")
def test_kernels_were_built():
    assert native.load().how.startswith("native, for ")
    sources = (Path(lm.__file__).parent / "native").glob("*.cc")
    text = "".join(source.read_text() for source in sources)
    named = set(re.findall(r"LAMINA_HANDLER(?:_IF\(.+?, |\()(\w+), ", text))
    always = {name for name in named if not name.startswith("half_")}  # the others only on some processors
    assert always < named
    assert always <= native.load().names <= named


@NATIVE
@pytest.mark.parametrize("number", range(len(CASES)))
def test_native_against_portable_in_double_precision(number):
    operation, settings, shapes = CASES[number]
    rng = np.random.default_rng(number)
    arrays = [rng.normal(size=shape).astype("float32") for shape in shapes]
    assert operation.is_native(*arrays, **settings)

    def with_gradients(*arrays):
        results, vjp = jax.vjp(lambda *arrays: operation(*arrays, **settings), *arrays)
        weights = jax.tree.map(lambda r: jnp.cos(jnp.arange(r.size, dtype=r.dtype)).reshape(r.shape), results)
        return results, vjp(weights)

    found = jax.jit(with_gradients)(*arrays)
    with jax.enable_x64(True):
        doubled = [array.astype("float64") for array in arrays]
        assert not operation.is_native(*doubled, **settings)
        expected = jax.jit(with_gradients)(*doubled)
    for mine, exact in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert mine.dtype == "float32"
        assert mine.shape == exact.shape
        np.testing.assert_allclose(mine, exact, rtol=0, atol=2e-6 * max(np.abs(exact).max(initial=0), 1))


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


@pytest.mark.skipif("half_dense" not in native.load().names, reason="this processor has no products of tiles")
@pytest.mark.parametrize(
    ("operation", "settings", "shapes"),
    [
        (dense.DENSE, {"slope": 1.0}, [(2, 48, 128), (128, 160), (160,), (0,)]),
        (dense.DENSE, {"slope": 0.2}, [(530, 70), (70, 330), (330,), (530, 330)]),
        (dense.DENSE, {"slope": 0.0}, [(33, 301), (301, 203), (0,), (33, 203)]),
        (dense.DENSE_TRANSPOSED, {}, [(2, 265, 70), (65, 70)]),
        (dense.DENSE_TRANSPOSED, {}, [(130, 420), (330, 420)]),
        (dense.DENSE_GELU, {}, [(2, 65, 420), (420, 130), (130,)]),
        (dense.DENSE_GELU_SLOPES, {}, [(530, 70), (70, 33), (0,)]),
        (dense.DENSE_GRADIENT, {"slope": 1.0, "back": True, "kept": False}, [(96, 128), (128, 160), (0,), (96, 160)]),
        (dense.DENSE_GRADIENT, {"slope": 0.0, "back": True, "kept": False}, [(530, 70), (70, 331), *[(530, 331)] * 2]),
        (dense.DENSE_GRADIENT, {"slope": 0.2, "back": False, "kept": False}, [(33, 300), (300, 203), *[(33, 203)] * 2]),
        (dense.DENSE_GRADIENT, {"slope": 0.0, "back": True, "kept": True}, [(130, 420), (420, 330), *[(130, 330)] * 2]),
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
        # a gradient in front of an activation is rounded too, before it is multiplied
        rounded_before = settings.get("kept") or settings.get("slope") == 0.2
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


@pytest.mark.skipif("half_dense" not in native.load().names, reason="this processor has no products of tiles")
def test_halves_that_are_no_numbers_stay_so_in_tiles():
    x = jnp.ones((64, 128), jnp.bfloat16).at[3, 5].set(jnp.nan).at[40, 100].set(jnp.inf)
    y = jax.jit(dense.dense)(x, jnp.ones((128, 160), jnp.bfloat16))
    assert np.isnan(np.asarray(y[3], "float32")).all()
    assert np.isinf(np.asarray(y[40], "float32")).all()
    np.testing.assert_array_equal(np.asarray(y[:3], "float32"), 128)


@NATIVE
@pytest.mark.parametrize(("shape", "rows", "features"), [((7,), 5, 3), ((3, 40), 300, 130), ((2, 3, 4), 9, 16)])
def test_gradient_of_a_table_adds_what_its_picks_are_given(shape, rows, features):
    rng = np.random.default_rng(0)
    table, given = (rng.normal(size=(*size, features)).astype("float32") for size in ((rows,), shape))
    numbers = rng.integers(-rows - 2, rows + 2, shape).astype("int32")  # some pick nothing
    assert embedding.EMBEDDING_GRADIENT.is_native(numbers, given, rows=rows)
    taken, vjp = jax.vjp(lambda table: embedding.take_rows(table, jnp.asarray(numbers)), table)
    found = jax.jit(vjp)(given)[0]
    expected, places = np.zeros((rows, features)), numbers + rows * (numbers < 0)
    there = (places >= 0) & (places < rows)
    np.add.at(expected, places[there], given[there])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(taken[there], table[places[there]])
    assert np.isnan(taken[~there]).all()


@NATIVE
def test_gelu_and_its_slopes_are_right_to_the_last_places():
    def gelu(x):
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    x = np.linspace(-12, 12, 4001, dtype="float32")[:, None]
    found = jax.jit(lambda x: dense.DENSE_GELU_SLOPES(x, jnp.ones((1, 1)), jnp.zeros(0)))(x)
    exact, step = x.astype("float64"), 1e-6
    np.testing.assert_allclose(found[0], gelu(exact), rtol=2e-7, atol=3e-7)
    np.testing.assert_allclose(found[1], (gelu(exact + step) - gelu(exact - step)) / (2 * step), rtol=0, atol=3e-7)
    ends = jnp.array([np.nan, np.inf, 1e30, -1e30])[:, None].repeat(32, 1).reshape(-1, 1)
    values, slopes = dense.DENSE_GELU_SLOPES(ends, jnp.ones((1, 1)), jnp.zeros(0))
    np.testing.assert_array_equal(values[::32, 0], [np.nan, np.inf, np.float32(1e30), 0])
    np.testing.assert_allclose(slopes[::32, 0], [np.nan, 1, 1, 0], rtol=0, atol=1e-20)


@NATIVE
@pytest.mark.parametrize(("rows", "classes"), [(40, 37), (3, 1000), (603, 2), (125, 11)])
def test_crossentropy_against_the_portable_form(rows, classes):
    rng = np.random.default_rng(classes)
    scores = (5 * rng.normal(size=(rows, classes))).astype("float32")
    labels, weights = rng.integers(0, classes, rows).astype("int32"), rng.normal(size=rows)
    labels[:2] = -1, classes  # which are no classes
    labels = jnp.asarray(labels)
    assert crossentropy.CROSSENTROPY.is_native(scores, labels)

    def with_gradient(scores):
        losses, vjp = jax.vjp(lambda x: crossentropy.sparse_crossentropy(x, labels), scores)
        return losses, *vjp(jnp.asarray(weights, scores.dtype))

    losses, gradient = jax.jit(with_gradient)(scores)
    with jax.enable_x64(True):
        exact, exact_gradient = jax.jit(with_gradient)(scores.astype("float64"))
    assert np.isnan(losses[:2]).all()
    assert np.isfinite(losses[2:]).all()
    np.testing.assert_allclose(losses, exact, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(gradient, exact_gradient, rtol=0, atol=2e-6)
    scores[2, 1] = np.nan
    assert np.isnan(jax.jit(with_gradient)(scores)[0][2])


@NATIVE
def test_the_update_of_adam_against_the_portable_form():
    rng = np.random.default_rng(0)
    shapes = {"large": (300, 307), "scalar": (), "empty": (0, 3), "vector": (33,), "matrix": (170, 190)}
    gradients, values, first, second = (
        {name: rng.normal(size=shape).astype("float32") for name, shape in shapes.items()} for _ in range(4)
    )
    second = {name: np.square(v) for name, v in second.items()}
    second["vector"][:5] = gradients["vector"][:5] = 0  # nothing has moved yet

    def update(rate, *arrays):
        return adam.adam(*arrays, rate, **SETTINGS)

    found = jax.jit(update)(0.05, gradients, values, first, second)
    with jax.enable_x64(True):
        doubled = jax.tree.map(lambda a: a.astype("float64"), (gradients, values, first, second))
        exact = jax.jit(update)(0.05, *doubled)
    assert "lamina.adam" in jax.jit(update).lower(0.05, gradients, values, first, second).as_text()
    assert [list(arrays) for arrays in found] == [sorted(shapes)] * 3
    for mine, true in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
        np.testing.assert_allclose(mine, true, rtol=1e-6, atol=1e-6)


SETTINGS = {"beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-3}


@NATIVE
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(40, 260, 300), (300, 97, 7), (3, 5, 64)])
def test_the_update_of_a_kernel_with_its_gradient(rows, inputs, outputs):
    rng = np.random.default_rng(0)
    factors = [rng.normal(size=(rows, columns)).astype("float32") for columns in (inputs, outputs)]
    value, first, second = (rng.normal(size=(inputs, outputs)).astype("float32") for _ in range(3))
    second = np.square(second) + np.float32(0.1)  # near zero, a last place of the gradient would count for much
    rate, arrays = np.float32(0.05), (*factors, value, first, second)
    assert adam.ADAM_OF_KERNEL.is_native(rate, *arrays, **SETTINGS)
    found = jax.jit(lambda *arrays: adam.ADAM_OF_KERNEL(*arrays, **SETTINGS))(rate, *arrays)
    with jax.enable_x64(True):
        exact = adam.ADAM_OF_KERNEL.portable(*[jnp.asarray(a, "float64") for a in (rate, *arrays)], **SETTINGS)
    for mine, true in zip(found, exact, strict=True):
        np.testing.assert_allclose(mine, true, rtol=2e-6, atol=2e-6)


def loss_and_kernels(scale):
    def loss(kernels, x):
        for kernel in kernels:
            x = dense.dense(x, kernel, jnp.zeros(kernel.shape[1]), slope=0.0)
        return jnp.sum(jnp.square(x)) * scale

    return loss, {"a": jnp.full((300, 256), 0.01), "b": jnp.full((256, 257), -0.02).at[::2].set(0.03)}


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_kernel_whose_gradient_nobody_else_wants_is_updated_with_it(scale):
    loss, kernels = loss_and_kernels(1 / scale)
    x = jnp.sin(jnp.arange(33.0 * 300)).reshape(33, 300)

    def step(kernels, x):
        gradients = jax.grad(lambda kernels: loss(kernels.values(), x))(kernels)
        if scale != 1:  # of what the optimizer is given, this is no longer the product
            gradients = {name: gradient * scale for name, gradient in gradients.items()}
        return adam.adam(gradients, kernels, kernels, kernels, 0.1, **SETTINGS)

    program = str(jax.make_jaxpr(step)(kernels, x))
    assert program.count("= adam_of_kernel[") == (2 if scale == 1 else 0)
    found = jax.jit(step)(kernels, x)
    text = jax.jit(step).lower(kernels, x).as_text()
    if native.load().names and scale == 1:
        assert "lamina.kernel_gradient" not in text
    gradients = jax.grad(lambda kernels: loss(kernels.values(), x) * scale)(kernels)
    exact = adam.adam(gradients, kernels, kernels, kernels, 0.1, **SETTINGS)
    for mine, true in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
        np.testing.assert_allclose(mine, true, rtol=1e-5, atol=1e-5)


@NATIVE
def test_roots_and_inverses_of_what_is_zero_or_not_finite():
    def update(gradient, first, second, epsilon):
        four = [jnp.full(20, number, "float32") for number in (gradient, 1.0, first, second)]
        found = jax.jit(lambda *a: adam.ADAM(*a, beta_1=0.5, beta_2=0.5, epsilon=epsilon))(jnp.float32(1), *four)
        np.testing.assert_array_equal(found[0], found[0][0])
        return float(found[0][0])

    assert update(0.0, 0.0, 0.0, 1e-7) == 1
    assert update(1e20, 1.0, 1.0, 1e-7) == 1  # its square is infinite
    assert update(1.0, 1.0, 1.0, 0.0) == 0
    assert update(2.0, 0.0, 0.0, 0.0) == pytest.approx(1 - 2**-0.5, rel=1e-6)
    assert update(1.0, 1.0, 0.0, 1e-7) == pytest.approx(1 - 2**0.5, rel=1e-6)
    assert update(0.0, 1.0, 0.0, 0.0) == -np.inf
    assert np.isnan(update(np.nan, 1.0, 1.0, 1e-7))


@NATIVE
def test_not_a_number_stays_one():
    x = jnp.ones((1, 4, 4, 2)).at[0, 1, 1, 0].set(jnp.nan)
    for slope in 0.0, 0.2, 1.0:
        assert np.isnan(convolution.conv(x, jnp.ones((1, 1, 2, 3)), slope=slope)[0, 1, 1]).all()
    assert np.isnan(pooling.max_pool(x, 2)[0, 0, 0, 0])
    assert np.isnan(normalization.layer_norm(x)[0, 1, 1]).all()


def test_the_form_is_chosen_when_lowered():
    x, kernel = jnp.ones((1, 4, 4, 8)), jnp.ones((3, 3, 8, 8))
    traced = jax.jit(convolution.conv).trace(x, kernel)
    assert ("lamina.convolution" in traced.lower(lowering_platforms=("cpu",)).as_text()) == bool(native.load().names)
    assert "lamina.convolution" not in traced.lower(lowering_platforms=("cuda",)).as_text()


def test_an_operation_can_be_mapped_and_differentiated_twice():
    def slow(x):
        return jnp.sum(x * x) * x

    cube = Operation(
        "test_cube", slow, backward=lambda p, r, g, w: [jnp.sum(g[0] * p[0]) * 2 * p[0] + g[0] * jnp.sum(p[0] ** 2)]
    )
    x, v = jnp.array([1.0, 2.0]), jnp.array([0.5, -1.0])

    def energy(fn):
        return lambda x: jnp.sum(jnp.sin(fn(x)))

    for order in (
        jax.grad,
        lambda f: jax.grad(lambda x: jnp.sum(jax.grad(f)(x) * v)),
        jax.hessian,
        lambda f: lambda x: jax.jvp(f, (x,), (v,))[1],
        lambda f: lambda x: jax.vmap(jax.grad(f))(jnp.stack([x, v])),
    ):
        np.testing.assert_allclose(order(energy(cube))(x), order(energy(slow))(x), rtol=2e-5)


@NATIVE
def test_the_environment_can_ask_for_the_portable_forms(monkeypatch):
    monkeypatch.setenv("LAMINA_KERNELS", "portable")
    assert native.load.__wrapped__() == ("portable, as LAMINA_KERNELS says", frozenset(), None)
    monkeypatch.setenv("LAMINA_KERNELS", "fast")
    with pytest.raises(ValueError, match="LAMINA_KERNELS is 'native' or 'portable'; received 'fast'"):
        native.load.__wrapped__()


def test_a_mistake_in_the_environment_is_told_without_the_inside_of_jax(monkeypatch):
    monkeypatch.setenv("LAMINA_KERNELS", "fast")
    monkeypatch.setattr(native, "load", native.load.__wrapped__)
    model = lm.Sequential([lm.Input((3,)), lm.layers.LayerNormalization()])
    model.compile("sgd", "mse")
    with pytest.raises(lm.ConfigError, match="LAMINA_KERNELS") as caught:
        model.fit(np.zeros((4, 3), "float32"), np.zeros((4, 3), "float32"), verbose=0)
    assert caught.value.__cause__ is None
