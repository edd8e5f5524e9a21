"""Row 0: errors, configuration, names, state, randomness, shapes, symbolic values."""

__version__ = "0.1.0"
