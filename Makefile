# Every target sets up what it needs: `make demo` and `make test` work in a clean clone.
PYTHON ?= python3
BIN := .venv/bin
AZURITE := 3.37.0

.PHONY: airflow coverage demo docs test test-matrix lint test-e2e test-warehouses soak bench bench-peers clean

# The newest Airflow that this package is tested with. Its constraints fit every extra, so one file serves two
# environments: the plain one, and one with the packages of all object stores and warehouses (2.5 GB), of which the
# tests import a small part: it is compiled when it is imported.
.venv/.installed: pyproject.toml constraints/airflow-3.3.txt
	@echo "Installing Airflow and the tools of this project into .venv ..."
	@$(PYTHON) -m venv .venv
	@.venv/bin/pip install -qq --constraint constraints/airflow-3.3.txt --upgrade pip
	@.venv/bin/pip install -qq --constraint constraints/airflow-3.3.txt --editable . --group lint --group test --group e2e --group docs
	@touch $@

.venv-extras/.installed: pyproject.toml constraints/airflow-3.3.txt
	$(PYTHON) -m venv .venv-extras
	.venv-extras/bin/pip install --quiet --constraint constraints/airflow-3.3.txt --upgrade pip
	.venv-extras/bin/pip install --quiet --no-compile --constraint constraints/airflow-3.3.txt \
		--editable .[amazon,duckdb,google,microsoft,postgres,snowflake] --group test --group stores
	npm install --silent --no-save --no-package-lock --prefix .venv-extras azurite@$(AZURITE)
	touch $@

# These two emulators need older packages than the extras: each has an environment of its own.
.venv-bqemulator/.installed: pyproject.toml constraints/bqemulator.txt
	$(PYTHON) -m venv .venv-bqemulator
	.venv-bqemulator/bin/pip install --quiet --constraint constraints/bqemulator.txt --upgrade pip
	.venv-bqemulator/bin/pip install --quiet --no-compile --constraint constraints/bqemulator.txt --group bqemulator
	touch $@

.venv-fakesnow/.installed: pyproject.toml constraints/fakesnow.txt
	$(PYTHON) -m venv .venv-fakesnow
	.venv-fakesnow/bin/pip install --quiet --constraint constraints/fakesnow.txt --upgrade pip
	.venv-fakesnow/bin/pip install --quiet --no-compile --constraint constraints/fakesnow.txt --group fakesnow
	.venv-fakesnow/bin/pip install --quiet --no-deps --editable .
	touch $@

demo: .venv/.installed
	@$(BIN)/python dags_examples/demo.py

# Airflow's own UI with the example DAGs and the emulator, until Ctrl-C.
airflow: .venv/.installed
	@$(BIN)/python dags_examples/playground.py

test: lint docs
	$(BIN)/pytest -n 2

# Counting lines takes half of the tests' time again.
coverage: .venv/.installed
	$(BIN)/pytest -n 2 --cov --cov-report=term:skip-covered

# Every supported Airflow on every Python of this machine. MATRIX=--ci: the part that says most; --write: into the docs.
test-matrix:
	$(PYTHON) tests/matrix.py $(MATRIX)

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file tests/mypy.ini
	$(BIN)/codespell
	$(BIN)/proselint check README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md docs/*.md

# A warning is an error: a broken reference, a page that nothing leads to.
docs: .venv/.installed
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs .docs

test-e2e: .venv/.installed .venv-extras/.installed test-warehouses
	$(BIN)/pytest -n 2 --timeout 2400 -m "not alone" tests/e2e
	$(BIN)/pytest --timeout 2400 -m alone tests/e2e
	.venv-extras/bin/pytest -n 2 --dist worksteal --timeout 900 tests/stores

# The example DAGs for MINUTES, while Stripe fails now and then and triggerers die. test-e2e has a short one.
MINUTES ?= 20
soak: .venv/.installed
	SOAK_MINUTES=$(MINUTES) $(BIN)/pytest tests/e2e/test_soak.py

test-warehouses: .venv-extras/.installed .venv-bqemulator/.installed .venv-fakesnow/.installed
	.venv-extras/bin/pytest --ignore tests/warehouses/test_snowflake.py tests/warehouses
	.venv-fakesnow/bin/pytest --noconftest tests/warehouses/test_snowflake.py

bench: .venv/.installed
	$(BIN)/python tests/benchmarks/export.py
	$(BIN)/python tests/benchmarks/waiting.py
	$(BIN)/python tests/benchmarks/loading.py
	$(BIN)/python tests/benchmarks/ranges_simulated.py
	$(BIN)/python tests/benchmarks/explorer.py
	$(BIN)/python tests/benchmarks/side_by_side.py

# Beside what a user would pick instead.
bench-peers: .venv-peers/.installed
	AIRFLOW_HOME=$(CURDIR)/.venv-peers/airflow .venv-peers/bin/python tests/benchmarks/peers $(SHAPES)

.venv-peers/.installed: pyproject.toml constraints/peers.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --constraint constraints/peers.txt --upgrade pip
	.venv-peers/bin/pip install --quiet --constraint constraints/peers.txt --group peers
	.venv-peers/bin/pip install --quiet --no-deps --editable .
	touch $@

clean:
	rm -rf .venv .venv-* .demo .docs dist build
