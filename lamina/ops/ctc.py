"""Connectionist temporal classification: sequences of labels from longer sequences of outputs.

Graves et al. (2006), https://doi.org/10.1145/1143844.1143891
"""

from typing import Any

import jax
import jax.numpy as jnp

from lamina.core.errors import ConfigError
from lamina.core.state import Array
from lamina.ops.dispatch import op, public


@op
def ctc_loss(target: Any, output: Any, target_length: Any, output_length: Any, mask_index: int = 0) -> Array:
    """Minus the logarithm of the probability that the outputs spell the labels.

    Args:
        target: labels, shape ``(batch, labels)``.
        output: logits, shape ``(batch, steps, classes)``.
        target_length: how many labels count, shape ``(batch,)``.
        output_length: how many steps count, shape ``(batch,)``.
        mask_index: the class that stands for no label.

    Returns:
        Shape ``(batch,)``.
    """
    import optax

    target, output = jnp.asarray(target), jnp.asarray(output)
    output = output.astype(jnp.promote_types(output.dtype, jnp.float32))
    missing_labels = jnp.arange(target.shape[1]) >= jnp.asarray(target_length)[:, None]
    missing_steps = jnp.arange(output.shape[1]) >= jnp.asarray(output_length)[:, None]
    return optax.ctc_loss(
        output, missing_steps.astype(output.dtype), target, missing_labels.astype(output.dtype), blank_id=mask_index
    )


@op
def ctc_decode(
    inputs: Any,
    sequence_lengths: Any,
    strategy: str = "greedy",
    beam_width: int = 100,
    top_paths: int = 1,
    merge_repeated: bool = True,
    mask_index: int | None = 0,
) -> tuple[Array, Array]:
    """The labels that the outputs spell.

    Args:
        inputs: logits, shape ``(batch, steps, classes)``.
        sequence_lengths: how many steps count, shape ``(batch,)``.
        strategy: ``"greedy"``: the likeliest class at each step; ``"beam_search"``: the likeliest labels over all
            alignments, among the ``beam_width`` that are followed.
        beam_width: how many beginnings a beam search follows.
        top_paths: how many results a beam search gives.
        merge_repeated: whether the greedy strategy takes a class that is repeated without a gap as one label.
        mask_index: the class that stands for no label; the last one for ``None``.

    Returns:
        Labels of shape ``(top_paths, batch, steps)``, filled up with -1, and scores of shape ``(batch, top_paths)``:
        the log-probability with a beam search; with the greedy strategy, minus the sum of the greatest logits.
    """
    logits, lengths = jnp.asarray(inputs), jnp.asarray(sequence_lengths)
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    counts = jnp.arange(logits.shape[1]) < lengths[:, None]
    blank = logits.shape[-1] - 1 if mask_index is None else mask_index
    if strategy == "greedy":
        return _greedy(logits, counts, merge_repeated, blank)
    if strategy != "beam_search":
        raise ConfigError(f"strategy is 'greedy' or 'beam_search'; received {strategy!r}")
    if not 1 <= top_paths <= beam_width:
        raise ConfigError(f"top_paths={top_paths} must be from 1 to beam_width={beam_width}")
    paths, scores = jax.vmap(lambda x, c: _beam(jax.nn.log_softmax(x), c, blank, beam_width))(logits, counts)
    return jnp.moveaxis(paths[:, :top_paths], 1, 0), scores[:, :top_paths]


def _greedy(logits: Array, counts: Array, merge: bool, blank: int) -> tuple[Array, Array]:
    best = jnp.where(counts, jnp.argmax(logits, -1), blank)
    scores = -jnp.sum(jnp.where(counts, jnp.max(logits, -1), 0), -1, keepdims=True)
    if merge:
        repeated = jnp.pad(best[:, 1:] == best[:, :-1], ((0, 0), (1, 0)))
        best = jnp.where(repeated, blank, best)
    labels = jnp.where(best == blank, -1, best)
    order = jnp.argsort(labels < 0, axis=-1, stable=True)
    return jnp.take_along_axis(labels, order, -1)[None], scores


def _beam(logp: Array, counts: Array, blank: int, width: int) -> tuple[Array, Array]:
    """The likeliest labels for log-probabilities ``(steps, classes)``, best first, with their log-probabilities.

    For each beginning that is followed: its labels, its length, and the log-probabilities that its last step was blank
    or its last label.
    """
    steps, classes = logp.shape
    lost = jnp.asarray(-jnp.inf, logp.dtype)
    symbols = jnp.arange(classes)

    def step(state: Any, inputs: Any) -> Any:
        labels, length, ends_blank, ends_label = state
        now, counted = inputs
        last = jnp.where(length > 0, jnp.take_along_axis(labels, jnp.maximum(length - 1, 0)[:, None], 1)[:, 0], -1)
        either = jnp.logaddexp(ends_blank, ends_label)
        # as it is: one more blank, or its last label again
        stay_blank = either + now[blank]
        stay_label = jnp.where(last >= 0, ends_label + now[last], lost)
        # longer by one label; the same one again needs a blank between
        grown = jnp.where(symbols == last[:, None], ends_blank[:, None], either[:, None]) + now
        grown = jnp.where(symbols == blank, lost, grown)
        place = jnp.arange(steps) == length[:, None]
        longer = jnp.where(place[:, None, :], symbols[None, :, None], labels[:, None, :])
        candidates = jnp.concatenate([labels, longer.reshape(-1, steps)])
        lengths = jnp.concatenate([length, jnp.repeat(length + 1, classes)])
        blanks = jnp.concatenate([stay_blank, jnp.full(width * classes, lost)])
        tails = jnp.concatenate([stay_label, grown.reshape(-1)])
        # a beginning that grows may become one that is followed already: their probabilities add up
        same = jnp.all(candidates[width:, None, :] == labels[None], -1) & (either > lost)
        into = jnp.where(jnp.any(same, 1), jnp.argmax(same, 1), width)
        joined = jax.ops.segment_max(tails[width:], into, width + 1)[:width]
        # at most one beginning grows into a given other, so the greatest is the sum
        tails = tails.at[:width].set(jnp.logaddexp(tails[:width], joined))
        tails = tails.at[width:].set(jnp.where(into < width, lost, tails[width:]))
        _, kept = jax.lax.top_k(jnp.logaddexp(blanks, tails), width)
        new = (candidates[kept], lengths[kept], blanks[kept], tails[kept])
        return jax.tree.map(lambda a, b: jnp.where(counted, a, b), new, state), None

    start = (
        jnp.full((width, steps), -1),
        jnp.zeros(width, jnp.int32),
        jnp.full(width, lost).at[0].set(0),
        jnp.full(width, lost),
    )
    (labels, _, ends_blank, ends_label), _ = jax.lax.scan(step, start, (logp, counts))
    scores = jnp.logaddexp(ends_blank, ends_label)
    order = jnp.argsort(-scores)
    return labels[order], scores[order]


__all__ = public(__name__)
