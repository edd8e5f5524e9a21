"""Row 0: errors, configuration, names, state, randomness, shapes, symbolic values."""
