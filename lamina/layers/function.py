"""Layers without weights that hand their input on, or put it through a function."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from lamina.core import registry
from lamina.core.errors import ConfigError
from lamina.layers.base import Layer, layer

__all__ = ["Identity", "Lambda"]


@layer
class Identity(Layer):
    """Hands its input on as it is.

    >>> import jax.numpy as jnp
    >>> Identity()(jnp.ones((1, 2))).tolist()
    [[1.0, 1.0]]
    """

    supports_masking = True

    def call(self, inputs: Any) -> Any:
        return inputs


@layer
class Lambda(Layer):
    """A function as a layer.

    A model with it can be saved if the function has a name: one of ``lm.ops``, or a function of your own, which is
    found again by that name where it is registered (``@lm.register("custom")``) or passed to the loader. What was
    written as ``lambda`` runs, but cannot be saved: a model's file holds no code.

    Args:
        function: a function of the input, or the name of one of ``lm.ops``. May take ``training`` and ``mask``.
        output_shape: accepted; the output's shape is found by tracing the function.
        mask: the mask of the output, or a function ``(inputs, mask) -> mask``; without it the output has none.
        arguments: further arguments of the function, by name.

    Raises:
        ConfigError: if ``function`` cannot be called; when saved, if it has no name.

    >>> import jax.numpy as jnp
    >>> Lambda(jnp.square)(jnp.array([[3.0]])).tolist()
    [[9.0]]
    """

    def __init__(
        self,
        function: str | Callable[..., Any],
        output_shape: Any = None,
        mask: Any = None,
        arguments: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.function = registry.get("ops", function)
        if not callable(self.function):
            raise ConfigError(f"Lambda expects a function of its input, or a name of lm.ops; received {function!r}")
        self.output_shape = output_shape
        self.mask = mask
        self.arguments = dict(arguments or {})
        self.supports_masking = mask is not None
        self._accepts = _accepted(self.function)

    def call(self, inputs: Any, mask: Any = None, training: bool = False) -> Any:
        filled = {"mask": mask, "training": training}
        return self.function(inputs, **self.arguments, **{k: v for k, v in filled.items() if k in self._accepts})

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return self.mask(inputs, previous_mask) if callable(self.mask) else self.mask

    def get_config(self) -> dict[str, Any]:
        """The arguments that would make this layer again.

        Raises:
            ConfigError: if the function has no name.
        """
        bare = self.function.func if isinstance(self.function, functools.partial) else self.function
        if bare is not self.function or getattr(bare, "__name__", "<lambda>") == "<lambda>":
            raise ConfigError(
                f"layer {self.name!r} (Lambda) cannot be saved: its function has no name, and a model's file holds no "
                "code.\nWrite:  @lm.register('custom')\n        def my_function(x): return ...\n"
                "and         layers.Lambda(my_function)"
            )
        return super().get_config()


def _accepted(function: Callable[..., Any]) -> frozenset[str]:
    try:
        return frozenset(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # built-in functions may not tell
        return frozenset()
