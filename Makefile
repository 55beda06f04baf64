# Two commands do everything on a machine with Python 3.11 and make:
#   make demo   creates .venv, installs, fits the digits, evaluates, writes runs/digits/report.html
#   make test   lint, types, import layers, tests
# and one that shows most mistakes within a minute, make smoke
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
WORKERS ?= 2
# One thread per test worker: two workers share two cores.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: demo smoke test lint test-fast test-slow reproduce bench gate net install clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	touch $@

demo: $(INSTALLED)
	$(BIN)/vaekit fit digits -o runs/digits --overwrite
	$(BIN)/vaekit evaluate runs/digits
	$(BIN)/vaekit report runs/digits -o runs/digits/report.html
	@echo "Open runs/digits/report.html"

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# Every axis once, in less than a minute: each module, each component, the saved runs, the readers, the commands
SMOKE := docs.py::test_every_module_can_be_imported docs.py::test_readme_examples_run \
	pairwise.py::test_a_sensible_combination_trains_evaluates_and_is_saved objectives.py::test_conformance \
	transforms.py artifact.py data_arrays.py data_tables.py data_idx.py data_images.py \
	net.py::test_a_saved_run_answers_as_it_did net.py::test_help_and_lists_say_what_they_said \
	cli.py::test_fit_writes_a_run cli.py::test_evaluate_prints_what_the_library_computes \
	cli.py::test_sample_reconstruct_encode cli.py::test_report_is_one_file_without_links

smoke: $(INSTALLED)
	$(BIN)/ruff check --quiet .
	$(ONE_THREAD) $(BIN)/python -m pytest -q -n $(WORKERS) -m 'not slow' $(addprefix tests/test_,$(SMOKE))

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
