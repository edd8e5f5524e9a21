"""LossScaleOptimizer: float16 training whose small gradients do not vanish."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from lamina.core import registry
from lamina.core.errors import ConfigError
from lamina.core.registry import register
from lamina.core.state import Variable
from lamina.optimizers.base import Optimizer, new_variable
from lamina.optimizers.rules import Arrays, cast_like, check, check_whole


@register("optimizers")
class LossScaleOptimizer(Optimizer):
    """Multiplies the loss by a large number, and divides the gradients by it before another optimizer sees them.

    A step whose gradients are not finite is skipped and halves the scale; after ``dynamic_growth_steps`` steps without
    one the scale is doubled.

    Args:
        inner_optimizer: the optimizer that does the work.
        initial_scale: the scale at first.
        dynamic_growth_steps: how many finite steps in a row double the scale.
        name: its name.

    Reference: Micikevicius et al., "Mixed precision training", 2018.

    >>> optimizer = LossScaleOptimizer("sgd", initial_scale=8.0)
    >>> float(optimizer.scale_loss(0.5))
    4.0
    """

    def __init__(
        self,
        inner_optimizer: Any,
        initial_scale: float = 2.0**15,
        dynamic_growth_steps: int = 2000,
        name: str | None = None,
    ) -> None:
        inner = registry.get("optimizers", inner_optimizer)
        if not isinstance(inner, Optimizer) or isinstance(inner, LossScaleOptimizer):
            raise ConfigError(f"LossScaleOptimizer expects another optimizer to wrap; received {inner_optimizer!r}")
        check(self, "initial_scale", initial_scale, lambda x: x > 0, "a number above 0")
        check_whole(self, "dynamic_growth_steps", dynamic_growth_steps, 1)
        inner.loss_scale_factor = None
        self.name = name or "loss_scale_optimizer"
        self.initial_scale, self.dynamic_growth_steps = initial_scale, dynamic_growth_steps
        self.step_counter = new_variable(0, int, "step_counter")
        self.dynamic_scale = new_variable(initial_scale, float, "dynamic_scale")
        self.inner_optimizer = inner

    @classmethod
    def config_names(cls) -> list[str]:
        return ["inner_optimizer", "initial_scale", "dynamic_growth_steps", "name"]

    def get_config(self) -> dict[str, Any]:
        return {name: registry.serialize(getattr(self, name)) for name in self.config_names()}

    def step(self, values: Arrays, gradients: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
        scale, count = state["dynamic_scale"], state["step_counter"]
        prefix = "inner_optimizer/"
        inner = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}

        def update() -> tuple[Arrays, Arrays, jax.Array, jax.Array]:
            new, after = self.inner_optimizer.step(values, jax.tree.map(lambda g: g / scale, gradients), inner)
            grow = count == self.dynamic_growth_steps - 1
            factor, counted = jnp.where(grow, 2.0, 1.0).astype(scale.dtype), jnp.where(grow, 0, count + 1)
            return cast_like(new, values), cast_like(after, inner), scale * factor, counted

        def skip() -> tuple[Arrays, Arrays, jax.Array, jax.Array]:
            return values, inner, scale * 0.5, jnp.zeros_like(count)

        finite = jnp.all(jnp.array([jnp.all(jnp.isfinite(g)) for g in gradients.values()]))
        values, after, scale, count = jax.lax.cond(finite, update, skip)
        after = {prefix + name: value for name, value in after.items()}
        return values, after | {"dynamic_scale": scale, "step_counter": count}

    def scale_loss(self, loss: Any) -> Any:
        return loss * self.dynamic_scale.raw

    # -- everything else is the inner optimizer's ------------------------------------------------------------------

    def build(self, variables: Mapping[str, Variable] | Iterable[Variable]) -> None:
        self.inner_optimizer.build(variables)
        if self.path is not None:
            self.adopt(self.path)

    def exclude_from_weight_decay(self, *args: Any, **kwargs: Any) -> None:
        self.inner_optimizer.exclude_from_weight_decay(*args, **kwargs)

    def finalize_variable_values(self, variables: Mapping[str, Variable] | Iterable[Variable]) -> None:
        self.inner_optimizer.finalize_variable_values(variables)

    @property
    def _paths(self) -> dict[Variable, str]:
        return self.inner_optimizer._paths

    @property
    def built(self) -> bool:
        """Whether the slots exist."""
        return self.inner_optimizer.built

    @property
    def iterations(self) -> Variable:
        """How many updates the inner optimizer has made."""
        return self.inner_optimizer.iterations

    @property
    def learning_rate(self) -> Any:
        """The inner optimizer's."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, new: Any) -> None:
        self.inner_optimizer.learning_rate = new
