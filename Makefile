# Every target sets up what it needs: `make demo` and `make test` work in a clean clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The oldest Airflow that this package supports, with everything as it was when that came out.
OLDEST := .venv-oldest
# Airflow with the providers of the object stores.
STORES := .venv-stores
AZURITE := 3.37.0

.PHONY: demo test test-oldest lint test-e2e test-warehouses bench clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable . --group lint --group test --group e2e
	touch $@

$(OLDEST)/.installed: pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/pip install --quiet --constraint constraints-oldest.txt --upgrade pip
	$(OLDEST)/bin/pip install --quiet --constraint constraints-oldest.txt --editable . --group test
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

# The Airflow that is tested is the one that is pinned: print it, or fail.
AIRFLOW_OF = $(1)/bin/pip freeze | grep --line-regexp "$$(grep '^apache-airflow==' $(2))"

test: lint
	$(call AIRFLOW_OF,$(VENV),constraints.txt)
	$(BIN)/pytest -n 2

test-oldest: $(OLDEST)/.installed
	$(call AIRFLOW_OF,$(OLDEST),constraints-oldest.txt)
	$(OLDEST)/bin/pytest -n 2

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-e2e: $(VENV)/.installed $(STORES)/.installed test-warehouses
	$(BIN)/pytest tests/e2e
	$(STORES)/bin/pytest tests/stores

# Each emulator needs packages that do not fit beside the others'.
test-warehouses: .venv-warehouses/.installed .venv-fakesnow/.installed
	.venv-warehouses/bin/pytest -p no:bqemulator --ignore tests/warehouses/test_snowflake.py tests/warehouses
	.venv-fakesnow/bin/pytest --noconftest tests/warehouses/test_snowflake.py

.venv-warehouses/.installed: pyproject.toml constraints-warehouses.txt
	$(PYTHON) -m venv .venv-warehouses
	.venv-warehouses/bin/pip install --quiet --constraint constraints.txt --upgrade pip
	.venv-warehouses/bin/pip install --quiet --constraint constraints-warehouses.txt --editable . --group warehouses
	touch $@

.venv-fakesnow/.installed: pyproject.toml constraints-fakesnow.txt
	$(PYTHON) -m venv .venv-fakesnow
	.venv-fakesnow/bin/pip install --quiet --constraint constraints-fakesnow.txt --upgrade pip
	.venv-fakesnow/bin/pip install --quiet --constraint constraints-fakesnow.txt --group fakesnow
	.venv-fakesnow/bin/pip install --quiet --no-deps --editable .
	touch $@

bench: $(VENV)/.installed
	$(BIN)/python tests/benchmarks/export.py
	$(BIN)/python tests/benchmarks/waiting.py

clean:
	rm -rf $(VENV) $(OLDEST) $(STORES) .venv-warehouses .venv-fakesnow .demo dist build
