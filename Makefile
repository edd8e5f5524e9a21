# make demo     real handwriting: train, evaluate and predict from the command line
# make test     every check: style, types, import rows, tests
# make torture  hours of damage: files changed at every byte, training killed at every instant (Linux, with a C compiler);
#               TORTURE=NAME for one program
# make bench    how long things take here, and in other frameworks: hours; BENCH="--works mlp" for a part, BENCH=--help
# Needs Python 3.11 or later and a package registry; makes its own environment in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := .cache/peers
NATIVE := $(wildcard lamina/native/*.cc lamina/native/*.h) lamina/native/CMakeLists.txt

.PHONY: demo test torture bench clean

demo: $(VENV)/run.installed
	$(BIN)/python examples/demo.py

test: $(VENV)/test.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n 2

torture: $(VENV)/torture.installed
	$(BIN)/python -m torture $(TORTURE)

bench: $(VENV)/run.installed $(PEERS)/installed
	$(BIN)/python benchmarks/small_network.py
	$(BIN)/python benchmarks/import_time.py
	$(BIN)/python -m benchmarks $(BENCH)

$(PEERS)/installed: requirements/peers.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/peers.txt
	touch $@

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Lamina needs Python 3.11 or later")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/%.installed: requirements/%.txt requirements/run.txt pyproject.toml $(NATIVE) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/$*.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

clean:
	rm -rf $(VENV) .cache demo
