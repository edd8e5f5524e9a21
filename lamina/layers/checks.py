"""Checks of arguments that several layers share."""

from typing import Any

from lamina.core.errors import ConfigError, nearest


def check_choice(layer: object, name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise a ConfigError if ``value`` of the argument ``name`` is not one of ``choices``."""
    if value not in choices:
        raise ConfigError(
            f"{type(layer).__name__} expects {name} as one of {', '.join(map(repr, choices))}; received {value!r}. "
            f"{nearest(str(value), choices)}"
        )


def refuse_sparse(layer: object, sparse: bool) -> None:
    """Raise a ConfigError if ``sparse`` is asked for."""
    if sparse:
        raise ConfigError(f"{type(layer).__name__} gives dense arrays only.\nWrite:  sparse=False")
