"""Pieces of work: data of one kind, how they become arrays, the network for them, and how results are shown.

``base.py`` says what the commands ask of each; ``choice.py``, which one some data ask for; every other file is one of them.
"""

from lamina.cli.work.base import Examples, Result, Rows, Work
from lamina.cli.work.choice import find_work, load_run, work_of

__all__ = ["Examples", "Result", "Rows", "Work", "find_work", "load_run", "work_of"]
