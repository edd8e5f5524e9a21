from lamina.layers import attention, einsum
from lamina.layers import multi_head_attention as heads
from tests.catalogue import Case

PAIR, SELF = ((2, 4, 6), (2, 5, 6)), ((2, 4, 6), (2, 4, 6))

CASES = [
    Case(lambda: attention.Attention(use_scale=True), ([(2, 3, 4), (2, 5, 4)],)),
    Case(lambda: attention.Attention(score_mode="concat"), ([(2, 3, 4), (2, 5, 6), (2, 5, 4)],), label="concat"),
    Case(lambda: attention.Attention(dropout=0.3), ([(2, 3, 4), (2, 5, 4)],), label="dropout"),
    Case(lambda: attention.AdditiveAttention(), ([(2, 3, 4), (2, 5, 4)],)),
    Case(lambda: heads.MultiHeadAttention(2, 3), SELF, masked=True),
    Case(
        lambda: heads.MultiHeadAttention(2, 3, value_dim=5, output_shape=(2, 3), use_gate=True, dropout=0.3),
        PAIR,
        label="gate",
    ),
    Case(
        lambda: heads.MultiHeadAttention(2, 3, sliding_window=2, use_bias=False),
        SELF,
        kwargs={"use_causal_mask": True},
        label="causal",
    ),
    Case(lambda: heads.MultiHeadAttention(2, 3, attention_axes=(2,)), ((2, 3, 4, 5), (2, 3, 2, 5)), label="axes"),
    Case(lambda: heads.GroupQueryAttention(3, 4, 2), SELF, masked=True),
    Case(lambda: einsum.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de"), ((2, 3, 4),)),
    Case(lambda: einsum.EinsumDense("...x,xy->...y", 3, activation="tanh"), ((2, 3, 4),), label="ellipsis"),
]
