# Every target sets up what it needs: `make demo` and `make test` work in a clean clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint test-e2e bench clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable . --group lint --group test
	touch $@

demo: $(VENV)/.installed
	$(BIN)/python dags_examples/demo.py

test: lint
	$(BIN)/pytest -n 2

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-e2e: $(VENV)/.installed
	$(BIN)/pytest tests/e2e

bench: $(VENV)/.installed
	$(BIN)/python tests/benchmarks/export.py
	$(BIN)/python tests/benchmarks/waiting.py

clean:
	rm -rf $(VENV) .demo dist build
