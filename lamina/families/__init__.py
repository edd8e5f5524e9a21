"""Row 7: ready-made networks, one file per family, each readable from top to bottom like one short program."""
