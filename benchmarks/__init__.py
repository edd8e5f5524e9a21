"""How long the same work takes in Lamina and in other frameworks, side by side: ``python -m benchmarks --help``.

- :mod:`benchmarks.works`: what is measured. A new work is one entry there.
- :mod:`benchmarks.peers`: who does it. A file for each framework builds the networks and runs them as its users would.
- :mod:`benchmarks.worker`: one framework at one work, in a process of its own.
- :mod:`benchmarks.__main__`: runs them all in turn, several times, and reports (:mod:`benchmarks.report`).

Beside it stand two short scripts: ``small_network.py`` and ``import_time.py``.
"""
