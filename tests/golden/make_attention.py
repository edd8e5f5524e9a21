"""Makes attention.npz: attention layers and EinsumDense in Keras, and multi-head attention in PyTorch.

Run with a Python that has Keras and PyTorch:  python -m tests.golden.make_attention
"""

from pathlib import Path

import numpy as np

from tests.golden.layer_cases import GoldenCase, record

QV = ([(2, 3, 4), (2, 5, 4)],)
QVK = ([(2, 3, 4), (2, 5, 6), (2, 5, 4)],)
SELF = ((2, 4, 6), (2, 4, 6))
CROSS = ((2, 3, 6), (2, 5, 4), (2, 5, 3))
HEADS = {"num_heads": 2, "key_dim": 3}
GROUPS = {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2}
SCORES = {"return_attention_scores": True}

CASES = [
    GoldenCase("luong", "Attention", {}, QV, SCORES),
    GoldenCase("luong_scaled", "Attention", {"use_scale": True}, QVK, SCORES),
    GoldenCase("luong_concat", "Attention", {"score_mode": "concat", "use_scale": True}, QVK, SCORES),
    GoldenCase("luong_concat_plain", "Attention", {"score_mode": "concat"}, QV),
    GoldenCase("luong_masked", "Attention", {}, QV, SCORES, masks={"mask": [(2, 3), (2, 5)]}),
    GoldenCase("luong_value_masked", "Attention", {}, QV, SCORES, masks={"mask": [None, (2, 5)]}),
    GoldenCase(
        "luong_causal",
        "Attention",
        {"use_scale": True},
        ([(2, 4, 3), (2, 4, 3)],),
        {**SCORES, "use_causal_mask": True},
        masks={"mask": [(2, 4), (2, 4)]},
    ),
    GoldenCase("luong_dropout_infer", "Attention", {"dropout": 0.5}, QV),
    GoldenCase("additive", "AdditiveAttention", {}, QVK, SCORES),
    GoldenCase("additive_plain", "AdditiveAttention", {"use_scale": False}, QV, SCORES),
    GoldenCase("additive_masked", "AdditiveAttention", {}, QV, SCORES, masks={"mask": [(2, 3), (2, 5)]}),
    GoldenCase("heads", "MultiHeadAttention", HEADS, SELF, SCORES),
    GoldenCase("heads_train", "MultiHeadAttention", HEADS, SELF, training=True),
    GoldenCase("heads_fused", "MultiHeadAttention", HEADS, SELF, {"use_causal_mask": True}),
    GoldenCase("heads_causal", "MultiHeadAttention", HEADS, SELF, {**SCORES, "use_causal_mask": True}),
    GoldenCase("heads_cross", "MultiHeadAttention", {**HEADS, "value_dim": 5, "output_shape": 7}, CROSS, SCORES),
    GoldenCase("heads_no_bias", "MultiHeadAttention", {**HEADS, "use_bias": False}, SELF),
    GoldenCase("heads_gate", "MultiHeadAttention", {**HEADS, "value_dim": 2, "use_gate": True}, SELF, SCORES),
    GoldenCase("heads_gate_fused", "MultiHeadAttention", {**HEADS, "use_gate": True}, SELF),
    GoldenCase("heads_window", "MultiHeadAttention", {**HEADS, "sliding_window": 2}, SELF, SCORES),
    GoldenCase(
        "heads_window_causal", "MultiHeadAttention", {**HEADS, "sliding_window": 2}, SELF, {"use_causal_mask": True}
    ),
    GoldenCase("heads_mask", "MultiHeadAttention", HEADS, CROSS, SCORES, masks={"attention_mask": (2, 3, 5)}),
    GoldenCase("heads_mask_heads", "MultiHeadAttention", HEADS, CROSS, SCORES, masks={"attention_mask": (2, 2, 3, 5)}),
    GoldenCase("heads_mask_shared", "MultiHeadAttention", HEADS, CROSS, SCORES, masks={"attention_mask": (3, 5)}),
    GoldenCase(
        "heads_mask_keys",
        "MultiHeadAttention",
        HEADS,
        CROSS,
        SCORES,
        masks={"value_mask": (2, 5), "key_mask": (2, 5), "attention_mask": (2, 3, 5)},
    ),
    GoldenCase("heads_travel", "MultiHeadAttention", HEADS, SELF, SCORES, travel=((2, 4), (2, 4))),
    GoldenCase("heads_plane", "MultiHeadAttention", HEADS, ((2, 2, 3, 4), (2, 2, 3, 4)), SCORES),
    GoldenCase(
        "heads_axis",
        "MultiHeadAttention",
        {**HEADS, "attention_axes": 2},
        ((2, 3, 4, 5), (2, 3, 2, 5)),
        SCORES,
        masks={"attention_mask": (2, 4, 2)},
    ),
    GoldenCase(
        "heads_first_axis",
        "MultiHeadAttention",
        {**HEADS, "attention_axes": (1,)},
        ((2, 3, 4, 5), (2, 2, 4, 5)),
        SCORES,
    ),
    GoldenCase("heads_output", "MultiHeadAttention", {**HEADS, "output_shape": (2, 3)}, SELF),
    GoldenCase("groups", "GroupQueryAttention", GROUPS, SELF, SCORES),
    GoldenCase("groups_one", "GroupQueryAttention", {**GROUPS, "num_key_value_heads": 1}, SELF),
    GoldenCase("groups_gate", "GroupQueryAttention", {**GROUPS, "use_gate": True, "use_bias": False}, SELF),
    GoldenCase(
        "groups_masked",
        "GroupQueryAttention",
        {**GROUPS, "sliding_window": 3},
        ((2, 3, 6), (2, 5, 6), (2, 5, 6)),
        {**SCORES, "use_causal_mask": True},
        masks={"attention_mask": (2, 3, 5)},
    ),
    GoldenCase(
        "einsum", "EinsumDense", {"equation": "abc,cd->abd", "output_shape": (None, 6), "bias_axes": "d"}, ((2, 3, 4),)
    ),
    GoldenCase(
        "einsum_left", "EinsumDense", {"equation": "...x,xy->...y", "output_shape": 3, "bias_axes": "y"}, ((2, 3, 4),)
    ),
    GoldenCase(
        "einsum_right",
        "EinsumDense",
        {"equation": "ab...,bcd->acd...", "output_shape": (3, 2), "bias_axes": "c", "activation": "tanh"},
        ((2, 4, 3),),
    ),
    GoldenCase(
        "einsum_heads", "EinsumDense", {"equation": "abcd,cde->abe", "output_shape": (None, 5)}, ((2, 3, 2, 4),)
    ),
    GoldenCase(
        "einsum_shared",
        "EinsumDense",
        {"equation": "abc,bcd->abd", "output_shape": (3, 5), "bias_axes": "bd"},
        ((2, 3, 4),),
    ),
]


def torch_attention() -> dict[str, np.ndarray]:
    """Output, weights and gradients of torch.nn.MultiheadAttention, with its own parameters."""
    import torch

    rng = np.random.default_rng(11)
    query, value = (rng.normal(size=shape).astype("float32") for shape in ((2, 3, 8), (2, 5, 8)))
    missing = np.array([[False, False, True, False, True], [False, True, False, False, False]])
    torch.manual_seed(3)
    attention = torch.nn.MultiheadAttention(8, 4, batch_first=True)
    with torch.no_grad():
        attention.in_proj_bias.normal_()
        attention.out_proj.bias.normal_()
    q, v = (torch.tensor(x, requires_grad=True) for x in (query, value))
    output, weights = attention(
        q, v, v, key_padding_mask=torch.tensor(missing), average_attn_weights=False, need_weights=True
    )
    (output**2).sum().backward()
    return {
        "torch/query": query,
        "torch/value": value,
        "torch/missing": missing,
        "torch/in_weight": attention.in_proj_weight.detach().numpy(),
        "torch/in_bias": attention.in_proj_bias.detach().numpy(),
        "torch/out_weight": attention.out_proj.weight.detach().numpy(),
        "torch/out_bias": attention.out_proj.bias.detach().numpy(),
        "torch/output": output.detach().numpy(),
        "torch/weights": weights.detach().numpy(),
        "torch/query_gradient": q.grad.numpy(),
        "torch/value_gradient": v.grad.numpy(),
        "torch/in_weight_gradient": attention.in_proj_weight.grad.numpy(),
    }


if __name__ == "__main__":
    record(CASES, str(Path(__file__).with_name("attention.npz")), **torch_attention())
