"""Arguments to try each op on, as NumPy arrays. The script that makes the golden values reads them too."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Example:
    """One call.

    Attributes:
        op: the op's name.
        args: its arguments.
        kwargs: those given by name.
        symbolic: whether it can stand in a network.
        golden: the values come from Keras, though NumPy has a function of the name.
        label: tells several calls of one op apart.
    """

    op: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    symbolic: bool = True
    golden: bool = False
    label: str = ""

    @property
    def name(self) -> str:
        """The id in pytest's output, and the key of the golden values."""
        return self.op + (f"-{self.label}" if self.label else "")

    @property
    def from_keras(self) -> bool:
        """Whether the values come from Keras rather than from NumPy."""
        plain = self.op in (*NOT_KERAS, "shape", "ndim", "size") or hasattr(np, self.op) or hasattr(np.linalg, self.op)
        return self.golden or not plain


#: what Keras lacks, or what says something else there; these have tests of their own
NOT_KERAS = (
    "mish",
    "_index",
    "dtype",
    "is_tensor",
    "convert_to_tensor",
    "convert_to_numpy",
    "stop_gradient",
    "sparsemax",
)


def _x(*shape: int, low: float = -2.0, high: float = 2.0, seed: int = 0) -> Any:
    return np.random.default_rng((seed, *shape)).uniform(low, high, shape).astype("float32")


def _i(*shape: int, low: int = 0, high: int = 5, seed: int = 0) -> Any:
    return np.random.default_rng((seed, *shape)).integers(low, high, shape).astype("int32")


A, B = _x(3, 4), _x(3, 4, seed=1)
UNIT, POSITIVE, ABOVE_ONE = A / 2.5, abs(A) + 0.1, abs(A) + 1.1
N, M = _i(3, 4), _i(3, 4, low=1, seed=1)
BOOL, C = A > 0, (A + 1j * B).astype("complex64")
GAPS = np.where(A > 1, np.nan, A).astype("float32")
SPD = (lambda m: (m @ m.T + 3 * np.eye(3)).astype("float32"))(_x(3, 3))
SQUARE = _x(3, 3, seed=2) + 2 * np.eye(3, dtype="float32")
PICTURE, PICTURES = _x(5, 6, 3, low=0, high=1), _x(2, 5, 6, 3, low=0, high=1)
SEQUENCE, VOLUME = _x(2, 7, 3), _x(2, 4, 5, 4, 2)

FLOATS = """abs absolute angle arcsinh arctan cbrt ceil cos cosh deg2rad exp exp2 expm1 fabs floor i0 isfinite isinf
isnan isneginf isposinf isreal nan_to_num negative rad2deg reciprocal round sign signbit sin sinc sinh square tan tanh
trunc ravel copy conj conjugate real imag corrcoef fliplr flipud ones_like zeros_like argsort sort transpose
all any amax amin argmax argmin average count_nonzero max mean median min prod ptp std sum var cumprod cumsum
diff flip squeeze nanargmax nanargmin nancumprod nancumsum nanmax nanmean nanmedian nanmin nanprod nanstd nansum nanvar
shape ndim size diag diagonal diagflat trace tril triu array rot90
celu elu gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu log_sigmoid log_softmax mish relu
relu6 selu sigmoid silu soft_shrink softmax softplus softsign sparse_plus sparse_sigmoid sparsemax squareplus swish
tanh_shrink erf erfc normalize logsumexp layer_normalization rms_normalization stop_gradient convert_to_tensor
convert_to_numpy dtype is_tensor nonzero rfft"""
PAIRS = """add subtract multiply divide true_divide arctan2 maximum minimum fmax fmin hypot logaddexp logaddexp2 greater
greater_equal less less_equal equal not_equal heaviside nextafter fmod mod floor_divide allclose isclose isin append
vdot outer kron ldexp"""
WHOLE = "bitwise_and bitwise_or bitwise_xor bitwise_left_shift bitwise_right_shift left_shift right_shift gcd lcm"

REDUCTIONS = "all any amax amin argmax argmin max mean median min prod ptp std sum var"
GAPPED = "nanargmax nanargmin nancumprod nancumsum nanmax nanmean nanmin nanprod nanstd nansum nanvar"

NOT_SYMBOLIC = {"shape", "ndim", "dtype", "is_tensor", "convert_to_numpy", "nonzero"}

EXAMPLES = [
    *(Example(op, (A,), symbolic=op not in NOT_SYMBOLIC) for op in FLOATS.split()),
    *(Example(op, (A, B if op != "ldexp" else N)) for op in PAIRS.split()),
    *(Example(op, (N, M)) for op in WHOLE.split()),
    *(Example(op, (N,)) for op in ("bitwise_invert", "bitwise_not")),
    *(Example(op, (UNIT,)) for op in ("arccos", "arcsin", "arctanh", "erfinv")),
    *(Example(op, (POSITIVE,)) for op in ("log", "log10", "log1p", "log2", "sqrt", "rsqrt")),
    Example("arccosh", (ABOVE_ONE,)),
    *(Example(op, (BOOL, BOOL[::-1])) for op in ("logical_and", "logical_or", "logical_xor")),
    Example("logical_not", (BOOL,)),
    *(Example(op, (A,), {"axis": 1, "keepdims": True}, label="axis") for op in REDUCTIONS.split()),
    *(Example(op, (GAPS,), {"axis": -1}, label="gaps") for op in GAPPED.split()),
    *(Example(op, (A,), {"axis": 1}, label="axis") for op in ["cumsum", "argsort", "sort", "flip", "diff"]),
    *(Example(op, (A, 0.3), {"axis": 1}) for op in ("quantile", "nanquantile")),
    *(Example(op, (A, [20.0, 70.0]), {"keepdims": True, "axis": 0}) for op in ("percentile", "nanpercentile")),
    *(Example(op, (5,), symbolic=False) for op in ("bartlett", "blackman", "hamming", "hanning")),
    Example("kaiser", (5, 2.0), symbolic=False),
    Example("sum", (A,), {"axis": [0, 1]}, label="axes", golden=True),
    Example("max", (A,), {"initial": 1.0}, label="initial"),
    Example("prod", (N,), {"dtype": "float32"}, label="dtype"),
    Example("average", (A,), {"axis": 1, "weights": POSITIVE}, label="weights"),
    Example("power", (POSITIVE, B)),
    Example("arange", (1, 7, 2), symbolic=False),
    Example("argpartition", (A[0], 2), golden=True),
    Example("array_split", (A, 2), {"axis": 1}),
    Example("bincount", (N.ravel(),), {"minlength": 7}),
    Example("bincount", (N,), {"weights": A, "minlength": 7}, label="rows", golden=True),
    Example("broadcast_to", (A, (2, 3, 4))),
    Example("cast", (A, "int32")),
    Example("saturate_cast", (200 * A, "uint8")),
    Example("clip", (A, -0.5, 0.5)),
    Example("concatenate", ([A, B],), {"axis": 1}),
    *(Example(op, ([A, B],)) for op in ("stack", "hstack", "vstack", "dstack")),
    Example("stack", ([A, B],), {"axis": -1}, label="axis"),
    Example("correlate", (A[0], B[0, :2])),
    Example("cross", (_x(2, 3), _x(2, 3, seed=1))),
    Example("digitize", (A, np.array([-1.0, 0.0, 1.0], "float32"))),
    Example("divide_no_nan", (A, np.where(B > 0, B, 0))),
    Example("dot", (A, B.T)),
    Example("inner", (A, B)),
    Example("matmul", (A, B.T)),
    Example("tensordot", (A, B), {"axes": 2}),
    Example("tensordot", (A, B), {"axes": [[0], [0]]}, label="axes"),
    Example("einsum", ("ij,kj->ik", A, B)),
    Example("dsplit", (_x(2, 2, 4), 2)),
    Example("hsplit", (A, 2)),
    Example("vsplit", (A, [1, 2])),
    Example("split", (A, [1, 3]), {"axis": 1}),
    Example("empty", ((2, 3),), symbolic=False, label="shape"),
    Example("empty_like", (A,), label="shape"),
    Example("expand_dims", (A, (0, -1))),
    Example("eye", (3,), {"M": 4, "k": 1}, symbolic=False),
    Example("identity", (3,), symbolic=False),
    Example("full", ((2, 3), 7.0), symbolic=False),
    Example("full_like", (A, 7)),
    Example("geomspace", (1.0, 8.0), {"num": 4}, symbolic=False),
    Example("get_item", (A, (slice(None), 1)), golden=True),
    Example("_index", (A, slice(1, None), [2, 0])),
    Example("histogram", (A,), {"bins": 4, "range": (-2, 2)}),
    Example("linspace", (0.0, 1.0), {"num": 5}, symbolic=False),
    Example("logspace", (0.0, 2.0), {"num": 3}, symbolic=False),
    Example("meshgrid", (A[0], B[:, 0]), {"indexing": "ij"}),
    Example("moveaxis", (_x(2, 3, 4), [0, 1], [2, 0])),
    Example("nan_to_num", (GAPS,), {"nan": 9.0}, label="gaps"),
    Example("ones", ((2, 3),), {"dtype": "int32"}, symbolic=False),
    Example("zeros", ((2, 3),), symbolic=False),
    Example("pad", (A, [[1, 0], [0, 2]]), {"constant_values": 3.0}),
    Example("pad", (A, 1, "reflect"), label="reflect"),
    Example("repeat", (A, 2), {"axis": 1}),
    Example("repeat", (A, [1, 2, 0]), {"axis": 0}, label="each"),
    Example("reshape", (A, (2, -1))),
    Example("roll", (A, 2), {"axis": 1}),
    Example("round", (A,), {"decimals": 1}, label="decimals"),
    Example("searchsorted", (np.sort(A[0]), B[0]), {"side": "right"}),
    Example("select", ([A > 0, A < -1], [A, B]), {"default": 5.0}),
    Example("squeeze", (A[:, None],), {"axis": 1}, label="axis"),
    Example("swapaxes", (_x(2, 3, 4), 0, 2)),
    Example("take", (A, N[:2, :2] % 3), {"axis": 0}),
    Example("take_along_axis", (A, N % 4), {"axis": 1}),
    Example("tile", (A, (2, 1))),
    Example("transpose", (_x(2, 3, 4),), {"axes": [2, 0, 1]}, label="axes"),
    Example("trapezoid", (A,), {"dx": 0.5}),
    Example("tri", (3,), {"k": 1}, symbolic=False),
    Example("tril", (A,), {"k": -1}, label="k"),
    Example("unique", (N,), {"return_counts": True, "size": 5}, golden=True),
    Example("unravel_index", (N, (2, 3))),
    Example("vander", (A[0],), {"N": 3, "increasing": True}),
    Example("view", (A,), {"dtype": "int32"}),
    Example("view_as_complex", (_x(3, 2),)),
    Example("view_as_real", (C,)),
    Example("where", (BOOL, A, B)),
    Example("rearrange", (_x(2, 6, 4), "b (h p) c -> p b (h c)"), {"p": 3}),
    # linear algebra
    *(Example(op, (SPD,)) for op in ("cholesky", "det", "inv", "slogdet", "logdet", "pinv", "matrix_rank")),
    Example("cholesky_inverse", (np.linalg.cholesky(SPD),)),
    Example("cholesky_inverse", (np.linalg.cholesky(SPD).T.copy(),), {"upper": True}, label="upper"),
    Example("eig", (SPD,), label="shape"),
    Example("eigh", (SPD,), label="shape"),
    Example("qr", (A.T.copy(),), label="shape"),
    Example("svd", (A,), {"full_matrices": False}, label="shape"),
    Example("svd", (A,), {"compute_uv": False}),
    Example("lu_factor", (SQUARE,)),
    Example("lstsq", (A.T.copy(), B[0]), golden=True),
    Example("matrix_rank", (np.diag(np.array([1, 1e-2, 3], "float32")),), {"tol": 0.1}, label="tol"),
    Example("norm", (A,), {"ord": 1, "axis": 1}),
    Example("norm", (A,), label="whole"),
    Example("solve", (SQUARE, A)),
    Example("solve_triangular", (np.tril(SQUARE), A), {"lower": True}),
    # math
    Example("segment_sum", (A, np.array([0, 2, 2])), {"num_segments": 3}),
    Example("segment_max", (A, np.array([0, 2, 2])), {"num_segments": 3}),
    Example("segment_min", (A, np.array([0, 2, 2])), {"num_segments": 3}),
    Example("segment_prod", (A, np.array([0, 1, 1])), {"num_segments": 2, "sorted": True}),
    Example("top_k", (A, 2)),
    Example("in_top_k", (np.array([1, 0, 3]), A, 2)),
    Example("logsumexp", (A,), {"axis": 1, "keepdims": True}, label="axis"),
    Example("cdist", (A, B)),
    *(Example(op, ((A, B),), golden=True) for op in ("fft", "fft2", "ifft2")),
    Example("rfft", (A,), {"fft_length": 6}, label="length"),
    Example("irfft", ((_x(3, 4), _x(3, 4, seed=1)),)),
    Example("extract_sequences", (_x(2, 9), 4, 2)),
    Example("stft", (_x(2, 20), 6, 3, 8)),
    Example("stft", (_x(2, 20), 6, 3, 8), {"window": "hamming", "center": False}, label="hamming"),
    Example("stft", (_x(2, 20), 6, 3, 8), {"window": None}, label="none"),
    Example("istft", ((_x(2, 7, 5), _x(2, 7, 5, seed=1)), 8, 2, 8), {"length": 12}),
    # nn
    Example("softmax", (A,), {"axis": 0}, label="axis"),
    Example("threshold", (A, 0.5, -1.0)),
    Example("moments", (A, [0])),
    Example("moments", (A, 1), {"keepdims": True}, label="keepdims", golden=True),
    Example("normalize", (A,), {"axis": 0, "order": 3}, label="order"),
    Example(
        "batch_normalization",
        (A, B[0], POSITIVE[0], -1),
        {"offset": A[1], "scale": B[1]},
    ),
    Example("layer_normalization", (A, B[0], A[0]), {"epsilon": 1e-3}, label="scaled"),
    Example("rms_normalization", (A, B[0]), label="scaled"),
    Example("one_hot", (np.array([[0, 2], [-1, 4]]), 4), {"axis": 1}),
    Example("multi_hot", (np.array([[0, 2], [1, 1]]), 4)),
    Example("binary_crossentropy", (POSITIVE / 3, UNIT**2 + 0.1)),
    Example("binary_crossentropy", (POSITIVE / 3, A), {"from_logits": True}, label="logits"),
    Example("categorical_crossentropy", (POSITIVE / 3, POSITIVE)),
    Example("categorical_crossentropy", (POSITIVE / 3, A), {"from_logits": True, "axis": 0}, label="logits"),
    Example("sparse_categorical_crossentropy", (np.array([1, 0, 3]), POSITIVE)),
    Example("sparse_categorical_crossentropy", (np.array([[1], [0], [9]]), A), {"from_logits": True}, label="logits"),
    Example("dot_product_attention", (_x(2, 5, 2, 4), _x(2, 3, 2, 4), _x(2, 3, 2, 4, seed=1)), {"is_causal": True}),
    Example(
        "dot_product_attention",
        (_x(2, 5, 2, 4), _x(2, 3, 2, 4), _x(2, 3, 2, 4, seed=1)),
        {
            "bias": _x(2, 2, 5, 3),
            "mask": np.tri(5, 3, 1, dtype=bool)[None, None],
            "scale": 0.7,
            "flash_attention": False,
        },
        label="mask",
    ),
    Example("polar", (POSITIVE, B)),
    Example("psnr", (A, B, 2.0)),
    Example(
        "ctc_loss",
        (np.array([[1, 2, 2], [3, 1, 0]]), _x(2, 8, 4), np.array([3, 2]), np.array([8, 6])),
    ),
    Example("ctc_decode", (_x(2, 8, 4), np.array([8, 5]))),
    Example("ctc_decode", (_x(2, 8, 4), np.array([8, 5])), {"merge_repeated": False, "mask_index": 3}, label="all"),
    Example(
        "ctc_decode",
        (3 * _x(2, 6, 4), np.array([6, 4])),
        {"strategy": "beam_search", "beam_width": 20, "top_paths": 3},
        label="beam",
    ),
    # space
    Example("conv", (SEQUENCE, _x(3, 3, 4)), {"padding": "same", "strides": 2}),
    Example("conv", (PICTURES, _x(2, 3, 3, 4)), {"dilation_rate": (2, 1)}, label="2d"),
    Example("conv", (_x(2, 5, 4), _x(2, 2, 6)), label="groups"),
    Example("depthwise_conv", (PICTURES, _x(2, 2, 3, 2)), {"padding": "same"}),
    Example("separable_conv", (PICTURES, _x(2, 2, 3, 2), _x(1, 1, 6, 4))),
    Example("conv_transpose", (SEQUENCE, _x(3, 4, 3)), {"strides": 2}),
    Example("conv_transpose", (SEQUENCE, _x(4, 4, 3)), {"strides": 2, "padding": "same"}, label="same"),
    Example("conv_transpose", (SEQUENCE, _x(2, 4, 3)), {"strides": 3}, label="far"),
    Example(
        "conv_transpose",
        (PICTURES, _x(3, 2, 4, 3)),
        {"strides": 2, "padding": "same", "output_padding": 1},
        label="output_padding",
    ),
    Example("conv_transpose", (SEQUENCE, _x(3, 4, 3)), {"dilation_rate": 2, "padding": "same"}, label="dilated"),
    Example("max_pool", (PICTURES, 2), {"strides": 2}),
    Example("max_pool", (PICTURES, (3, 2)), {"strides": (2, 1), "padding": "same"}, label="same"),
    Example("average_pool", (PICTURES, 2), {"strides": 1, "padding": "same"}),
    Example("adaptive_max_pool", (PICTURES, (3, 4))),
    Example("adaptive_average_pool", (VOLUME, 3)),
    Example("depth_to_space", (_x(2, 3, 2, 8), 2)),
    Example("depth_to_space", (_x(2, 8, 3, 2), 2), {"data_format": "channels_first"}, label="first"),
    Example("space_to_depth", (_x(2, 4, 6, 3), 2)),
    Example("space_to_depth", (_x(2, 3, 4, 6), 2), {"data_format": "channels_first"}, label="first"),
    Example("unfold", (_x(2, 3, 5, 6), (2, 3)), {"padding": 1, "stride": 2}),
    Example("fold", (_x(2, 12, 20), (5, 6), 2)),
    Example("fold", (_x(2, 8, 9), 5, 2), {"padding": 1, "stride": 2, "dilation": 2}, label="stride"),
    # core
    Example("scatter", (np.array([[0, 1], [2, 3], [2, 3]]), np.array([1.0, 2.0, 3.0], "float32"), (3, 4))),
    *(
        Example(
            "scatter_update",
            (A, np.array([[0], [2]]), B[:2]),
            {"reduction": reduction} if reduction else {},
            label=str(reduction or ""),
        )
        for reduction in (None, "add", "mul", "min", "max")
    ),
    Example("slice", (A, np.array([1, 0]), (2, 3))),
    Example("slice_update", (A, np.array([1, 2]), B[:2, :2])),
    Example("unstack", (A,), {"axis": 1}, golden=True),
    # pictures
    Example("rgb_to_grayscale", (PICTURES,)),
    Example("rgb_to_hsv", (PICTURES,)),
    Example("hsv_to_rgb", (PICTURES,)),
    Example("resize", (PICTURE, (3, 8)), {"antialias": True}, golden=True),
    Example(
        "resize",
        (PICTURES, (4, 4)),
        {"interpolation": "nearest", "crop_to_aspect_ratio": True},
        label="crop",
        golden=True,
    ),
    Example(
        "resize",
        (PICTURES, (4, 4)),
        {"interpolation": "bicubic", "pad_to_aspect_ratio": True},
        label="pad",
        golden=True,
    ),
    Example("pad_images", (PICTURES, 1, 2, 3), {"target_width": 9}),
    Example(
        "crop_images", (PICTURE,), {"top_cropping": 1, "target_height": 3, "left_cropping": 0, "right_cropping": 2}
    ),
    Example("extract_patches", (PICTURES, (3, 2)), {"strides": 1}),
    Example("extract_patches", (PICTURES, 3), {"strides": 2, "padding": "same"}, label="same"),
    Example("extract_patches_3d", (VOLUME, 2), {"dilation_rate": 2, "strides": 1}),
    Example("map_coordinates", (A, _x(2, 5, low=-1, high=5), 1), {"fill_mode": "reflect"}),
    Example("affine_transform", (PICTURES, np.array([[1.1, 0.2, 0.3, -0.1, 0.9, 0.5, 0, 0]] * 2, "float32"))),
    Example(
        "perspective_transform",
        (
            PICTURES,
            np.array([[[0, 0], [5, 0], [0, 4], [5, 4]]] * 2, "float32"),
            np.array([[[1, 0.5], [4, 0], [0, 4], [5, 3]]] * 2, "float32"),
        ),
    ),
    Example("gaussian_blur", (PICTURES,), {"kernel_size": (3, 5), "sigma": (1.0, 0.5), "data_format": "channels_last"}),
    Example("elastic_transform", (PICTURES,), {"alpha": 2.0, "sigma": 1.0}, label="shape"),
    Example("scale_and_translate", (A, (4, 6), [1.5, 1.2], [0.2, -0.3], (0, 1), "linear")),
    Example("sobel_edges", (PICTURES,)),
    Example("ssim", (PICTURES, PICTURES[::-1].copy()), {"filter_size": 3}),
]
