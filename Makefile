# `make help` lists the commands; each sets up what it needs.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# One thread per test process: two OpenMP threads on two busy cores spin at barriers and run many times slower.
TEST_ENV := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1

.DEFAULT_GOAL := help
.PHONY: help demo setup test test-slow test-avx2 test-all record lint format clean

help:  ## list the commands
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

# Rebuilt when the dependencies change; the stamp is written last, so that an interrupted set-up starts again.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $(VENV)/.demo $@

# What the demo needs and no more, unless the environment above is there.
$(VENV)/.demo: pyproject.toml constraints.txt
	@test -e $(VENV)/.ready || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo]'
	@touch $@

demo: $(VENV)/.demo  ## captions with and without retrieval, on clips that come with it; then open the page
	HF_HUB_OFFLINE=1 $(BIN)/egoinstructor demo

setup: $(VENV)/.ready  ## a fresh .venv with everything that the tests and checks need

test: setup  ## the fast tests (under 3 minutes on 2 cores)
	$(TEST_ENV) $(BIN)/python -m pytest -n 2

test-slow: setup  ## only the slow tests (CI runs these after the fast ones)
	$(TEST_ENV) $(BIN)/python -m pytest -n 2 -m slow

test-avx2: setup  ## the tests of the model and of training as on a processor without AVX-512
	$(TEST_ENV) ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 $(BIN)/python -m pytest -n 2 tests/model tests/training

test-all: setup  ## every test, fast and slow
	$(TEST_ENV) $(BIN)/python -m pytest -n 2 -m 'slow or not slow'

record: setup  ## write tests/golden/commands anew, after a change of behaviour that is meant
	$(TEST_ENV) $(BIN)/python -m pytest tests/frozen --record

lint: setup  ## ruff (lint and format), mypy --strict, the import rule
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## let ruff fix and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment and the caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist build
