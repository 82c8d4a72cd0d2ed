# make run · make test · make lab · make full — see README.md
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
PY      = PYTHONPATH=lib $(BIN)/python

.PHONY: run test test-browser lab full notebooks figures slides badges bench lint clean

run: $(VENV)/.ready
	$(PY) -m unveil run

test: $(VENV)/.ready
	$(PY) -m pytest -q tests notebooks --nbval-lax --ignore=tests/show/test_browser.py

lab: $(VENV)/.ready
	$(PY) -m jupyterlab notebooks

full: $(VENV)/.ready
	$(PY) -m unveil train --preset full

notebooks: $(VENV)/.ready
	$(PY) -m unveil notebooks

figures: $(VENV)/.ready
	$(PY) -m unveil figures

slides: $(VENV)/.ready
	$(PY) -m unveil slides

badges: $(VENV)/.ready
	$(PY) -m unveil badges

bench: $(VENV)/.ready
	$(PY) benchmarks/reference_table.py
	$(PY) benchmarks/integrator.py
	$(PY) benchmarks/pipeline.py

lint: $(VENV)/.ready
	$(BIN)/python -m pip install -q ruff
	$(BIN)/ruff check lib tests benchmarks
	$(BIN)/ruff format --check --line-length 120 lib tests benchmarks

# Debian's chromium is driven where it is installed; elsewhere Playwright fetches its own.
test-browser: $(VENV)/.ready
	$(BIN)/python -m pip install -q playwright
	command -v chromium >/dev/null || command -v google-chrome >/dev/null || $(BIN)/python -m playwright install chromium
	$(PY) -m pytest -q -rs tests/show/test_browser.py

$(VENV)/.ready: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q --progress-bar off -r requirements.txt
	@touch $@

clean:
	rm -rf $(VENV) data/archives data/stacks data/checkpoints
