"""Row 5: what a trainable is, the pure step, the two drivers, fit, callbacks and history."""
