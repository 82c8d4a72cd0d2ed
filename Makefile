# make run · make lab · make check · make test · make slides · make site · make bench — see README.md
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
PY      = PYTHONPATH=lib $(BIN)/python
READY   = $(VENV)/.ready
PYTEST  = OMP_NUM_THREADS=1 $(PY) -m pytest -q -n 2 --dist loadfile --ignore=tests/show/test_browser.py

.PHONY: run lab check test test-browser full notebooks slides site badges bench clean

run: $(READY)
	$(PY) -m unveil run

lab: $(READY)
	$(PY) -m jupyterlab notebooks

# While you edit: lint and the quick unit tests.
check: $(READY)
	test -x $(BIN)/ruff || $(BIN)/python -m pip install -q ruff
	$(BIN)/ruff check lib tests benchmarks
	$(BIN)/ruff format --check lib tests benchmarks
	$(PYTEST) tests -m "not slow"

# Before you push: everything, the notebooks included.
test: $(READY)
	$(PYTEST) tests notebooks --nbval-lax

# Debian's chromium is driven where it is installed; elsewhere Playwright fetches its own.
test-browser: $(READY)
	$(BIN)/python -m pip install -q playwright
	command -v chromium >/dev/null || command -v google-chrome >/dev/null || $(BIN)/python -m playwright install chromium
	$(PY) -m pytest -q -rs tests/show/test_browser.py

full: $(READY)
	$(PY) -m unveil train --preset full

notebooks slides site badges: $(READY)
	$(PY) -m unveil $@

bench: $(READY)
	$(PY) benchmarks/reference_table.py
	$(PY) benchmarks/integrator.py
	$(PY) benchmarks/pipeline.py

$(READY): requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q --progress-bar off -r requirements.txt
	@touch $@

clean:
	rm -rf $(VENV) data/archives data/stacks data/checkpoints
