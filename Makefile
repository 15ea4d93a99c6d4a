# Everything runs in a virtual environment of its own, made on first use.
PYTHON ?= python3
BIN := .venv/bin
# Where it is set, each of the many programs that tests run would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

# The tests run in as many processes as there are cores, up to four; JOBS=0 is one by one.
JOBS ?= logical

.PHONY: demo test check check-ruff check-mypy check-pyright check-docs docs bench explore supervise clean

demo: .venv/run.stamp
	$(BIN)/python -m examples.unstable_counter

test: check
	$(BIN)/python -m pytest --numprocesses=$(JOBS) --maxprocesses=4 --dist=worksteal

# Each of these needs one core, so they run beside each other; what each says comes in one piece.
check: .venv/dev.stamp
	@$(MAKE) --no-print-directory --keep-going --jobs=2 --output-sync=target \
		check-ruff check-pyright check-mypy check-docs

check-ruff: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

check-mypy: .venv/dev.stamp
	$(BIN)/mypy

# It would ask the package index whether there is a newer one.
check-pyright: .venv/dev.stamp
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright

check-docs: .venv/dev.stamp
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

# The whole of the interleavings, which takes minutes; `make test` runs the cheap half.
explore: .venv/dev.stamp
	$(BIN)/python -m tests.harness.explore --whole

# Supervision and whole trees against their models, 20,000 runs of 100 steps each: half an hour.
supervise: .venv/dev.stamp
	$(BIN)/python -m tests.harness.supervision
	$(BIN)/python -m tests.harness.trees
	$(BIN)/python -m tests.harness.trees --runs 1000 --steps 50 --backend thread
	$(BIN)/python -m tests.harness.trees --runs 1000 --steps 50 --backend pool
	$(BIN)/python -m tests.harness.trees --runs 30 --steps 50 --backend process
	$(BIN)/python -m tests.harness.tree_storms --runs 20000
	$(BIN)/python -m tests.harness.tree_storms --runs 500 --backend thread
	$(BIN)/python -m tests.harness.tree_storms --runs 500 --backend pool

bench: .venv/bench.stamp
	$(BIN)/python -m benchmarks

docs: .venv/dev.stamp
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

clean:
	rm -rf .venv docs/_build

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("$(PYTHON) is too old: give PYTHON=python3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv

.venv/run.stamp: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

.venv/dev.stamp: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[test,lint,docs]"
	# Without what it needs: its bson and pymongo's are two packages of one name.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps atomic_store==0.0.1
	@touch $@

.venv/bench.stamp: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[bench]"
	# Without what it needs, as above.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps atomic_store==0.0.1
	@touch $@
