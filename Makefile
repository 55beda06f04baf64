# Two commands do everything on a machine with Python 3.11 and make:
#   make demo   creates .venv, installs, fits the digits, evaluates, writes runs/digits/report.html
#   make test   lint, types, import layers, tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
WORKERS ?= 2
# One thread per test worker: two workers share two cores.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: demo test lint test-fast test-slow reproduce bench gate net install clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	touch $@

demo: $(INSTALLED)
	$(BIN)/vaekit fit digits -o runs/digits --overwrite max_epochs=600
	$(BIN)/vaekit evaluate runs/digits
	$(BIN)/vaekit report runs/digits -o runs/digits/report.html
	@echo "Open runs/digits/report.html"

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

test: lint test-fast

test-fast: $(INSTALLED)
	$(ONE_THREAD) $(BIN)/python -m pytest -q -n $(WORKERS) -m 'not slow'

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -q -m slow

# make reproduce NAME=ppca; without NAME all of them
reproduce: $(INSTALLED)
	$(BIN)/python -m reproductions $(NAME)

# make bench NAME=training; without NAME all of them. Peers go into a venv of their own, benchmarks/.venv
bench: $(INSTALLED)
	$(BIN)/python -m benchmarks $(NAME)

# Ratios to a bare loop that a change must not lose; two minutes
gate: $(INSTALLED)
	$(BIN)/python -m benchmarks.gate

# Every answer of the saved runs in tests/net in another environment and in this one, bit for bit; OLD is its python
net: $(INSTALLED)
	$(BIN)/python tests/net/ask.py compare $(OLD) $(BIN)/python

clean:
	rm -rf $(VENV) dist build
