"""Muon: orthogonal steps for matrices, Adam for everything else."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Self

import jax.numpy as jnp

from lamina.core.errors import ConfigError
from lamina.core.registry import register
from lamina.core.state import Array
from lamina.optimizers.adam import Adam
from lamina.optimizers.base import Optimizer
from lamina.optimizers.rules import Transformation, by_kind, check, check_whole, per_variable


@register("optimizers")
class Muon(Optimizer):
    r"""Momentum whose step for a matrix is made nearly orthogonal by a few Newton-Schulz iterations.

    .. math:: m \leftarrow \mu m + g, \qquad w \leftarrow w - \eta\, \rho \sqrt{\max(\text{rows, columns})}\, O(m)

    where each iteration of :math:`O` is :math:`x \leftarrow a x + (b\, x x^T + c\, (x x^T)^2) x`. Variables that are
    not matrices, embeddings and those that ``exclude_layers`` names are updated by Adam.

    Args:
        learning_rate: :math:`\eta`.
        adam_beta_1: Adam's first decay rate.
        adam_beta_2: Adam's second decay rate.
        adam_weight_decay: the weight decay of the variables that Adam updates.
        epsilon: Adam's small number.
        weight_decay: the weight decay of the matrices.
        exclude_layers: regular expressions; a matrix whose path one is found in is left to Adam. The output layer is
            best left to it too.
        exclude_embeddings: whether matrices with "embedding" in their path are left to Adam.
        muon_a: :math:`a`.
        muon_b: :math:`b`.
        muon_c: :math:`c`.
        adam_lr_ratio: Adam's learning rate as a share of :math:`\eta`.
        momentum: :math:`\mu`.
        ns_steps: the number of Newton-Schulz iterations.
        nesterov: whether to use :math:`g + \mu m` in place of :math:`m`.
        rms_rate: :math:`\rho`; ``None`` for steps without the factor.
        kwargs: see :class:`Optimizer`.

    References: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; Liu et al., "Muon is
    scalable for LLM training", 2025.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        adam_beta_1: float = 0.9,
        adam_beta_2: float = 0.999,
        adam_weight_decay: float | None = 0.004,
        epsilon: float = 1e-7,
        weight_decay: float | None = 0.004,
        *,
        exclude_layers: Sequence[str] | None = None,
        exclude_embeddings: bool = True,
        muon_a: float = 3.4445,
        muon_b: float = -4.775,
        muon_c: float = 2.0315,
        adam_lr_ratio: float = 1.0,
        momentum: float = 0.95,
        ns_steps: int = 5,
        nesterov: bool = True,
        rms_rate: float | None = 0.2,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, weight_decay, **kwargs)
        check(self, "momentum", momentum, lambda x: 0 <= x <= 1, "a number from 0 to 1")
        check_whole(self, "ns_steps", ns_steps, 1)
        check(self, "adam_weight_decay", adam_weight_decay, lambda x: x is None or x >= 0, "a number of at least 0")
        self._adam = Adam(beta_1=adam_beta_1, beta_2=adam_beta_2, epsilon=epsilon).transform
        self.adam_beta_1, self.adam_beta_2, self.epsilon = adam_beta_1, adam_beta_2, epsilon
        self.adam_weight_decay, self.adam_lr_ratio = adam_weight_decay, adam_lr_ratio
        self.exclude_layers, self.exclude_embeddings = list(exclude_layers or []), exclude_embeddings
        self.muon_a, self.muon_b, self.muon_c = muon_a, muon_b, muon_c
        self.momentum, self.ns_steps, self.nesterov, self.rms_rate = momentum, ns_steps, nesterov, rms_rate

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        for pattern in config.get("exclude_layers") or ():
            if len(re.findall(r"[*+?{]", str(pattern))) > 1:  # two are enough to search for hours
                raise ConfigError(
                    f"a pattern of Muon's exclude_layers in a file repeats once at most; received {pattern!r}"
                )
        return super().from_config(config)

    def _orthogonal(self, path: str, value: Any) -> bool:
        """Whether the variable is updated by Muon itself."""
        if value.ndim != 2 or (self.exclude_embeddings and "embedding" in path.lower()):
            return False
        return not any(re.search(pattern, path) for pattern in self.exclude_layers)

    def decay_of(self, path: str, variable: Any) -> float | None:
        return self.weight_decay if self._orthogonal(path, variable) else self.adam_weight_decay

    def transform(self, learning_rate: Any, step: Any) -> Transformation:
        def rule(g: Array, w: Array, m: Array) -> tuple[Array, ...]:
            m = m + (g + m * (self.momentum - 1))
            update = learning_rate * self.orthogonalize(g + self.momentum * m if self.nesterov else m)
            if self.rms_rate is not None:
                update = update * (max(w.shape) ** 0.5 * self.rms_rate)
            return -update, m

        return by_kind(
            self._orthogonal,
            per_variable(rule, momentum=0.0),
            self._adam(learning_rate * self.adam_lr_ratio, step),
        )

    def orthogonalize(self, x: Array) -> Array:
        """A matrix with the singular vectors of ``x`` and singular values near 1."""
        if x.shape[0] > x.shape[1]:
            return self.orthogonalize(x.T).T
        x = x / (jnp.linalg.norm(x) + 1e-7)
        for _ in range(self.ns_steps):
            square = x @ x.T
            x = self.muon_a * x + (self.muon_b * square + self.muon_c * square @ square) @ x
        return x
