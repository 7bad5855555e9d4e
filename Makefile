# Every target sets up what it needs: `make demo` and `make test` work in a clean clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STORES := .venv-stores
AZURITE := 3.37.0

.PHONY: demo test lint test-e2e bench clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable . --group lint --group test
	touch $@

# The providers of the object stores need older versions of some packages: the pins of constraints-stores.txt
# come before those of constraints.txt.
$(STORES)/.installed: pyproject.toml constraints.txt constraints-stores.txt Makefile
	$(PYTHON) -m venv $(STORES)
	sort -u -t= -k1,1 constraints-stores.txt constraints.txt > $(STORES)/constraints.txt
	$(STORES)/bin/pip install --quiet --constraint $(STORES)/constraints.txt --upgrade pip
	$(STORES)/bin/pip install --quiet --constraint $(STORES)/constraints.txt \
		--editable .[amazon,google,microsoft] --group test --group stores
	npm install --silent --no-save --no-package-lock --prefix $(STORES) azurite@$(AZURITE)
	touch $@

demo: $(VENV)/.installed
	$(BIN)/python dags_examples/demo.py

test: lint
	$(BIN)/pytest -n 2

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-e2e: $(VENV)/.installed $(STORES)/.installed
	$(BIN)/pytest tests/e2e
	$(STORES)/bin/pytest tests/stores

bench: $(VENV)/.installed
	$(BIN)/python tests/benchmarks/export.py
	$(BIN)/python tests/benchmarks/waiting.py

clean:
	rm -rf $(VENV) $(STORES) .demo dist build
