# Two commands set everything up on a bare machine (Python 3.11, pip, make): make demo, make test.
PYTHON ?= python3.11
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export BENTOML_DO_NOT_TRACK := True

.PHONY: demo test test-slow check bench clean

# Reinstalled when what it is made from has changed.
.venv/installed: pyproject.toml clients/python/pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --constraint constraints.txt --editable clients/python --editable '.[dev]'
	touch $@

demo: .venv/installed
	$(BIN)/xal demo $(DEMO_OPTIONS)

test: .venv/installed
	$(BIN)/pytest -m "not slow"

test-slow: .venv/installed
	$(BIN)/pytest -m slow

check: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# Ours beside others: build/bench.json, and docs/performance.md says what it means.
bench: .venv/installed
	$(BIN)/python -m benchmarks.selection $(BENCH_OPTIONS)
	$(BIN)/python -m benchmarks.training $(BENCH_OPTIONS)
	$(BIN)/python -m benchmarks.serving $(BENCH_OPTIONS)

clean:
	rm -rf build dist .venv
