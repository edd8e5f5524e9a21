"""Programs that are killed at every possible place; run by ``make torture``, too long for ``make test``."""
