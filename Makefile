# Every target makes .venv when it is missing and installs again only when pyproject.toml changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := $(VENV)/.demo-installed
DEV := $(VENV)/.dev-installed
BENCH := $(VENV)/.bench-installed
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check

# Images often set it. Ray starts a process for each replica, and each would compile every module that it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-fast check accept bench mutants clean

help: ## Show the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12

demo: $(DEMO) ## Run the main job on a private local Ray
	@$(BIN)/python -m aiecs_ray.demo

test: $(DEV) ## Run every test but the long acceptance runs
	@$(BIN)/python -m pytest -q -m "not ray and not accept" --numprocesses 3 --dist loadfile
	@$(BIN)/python -m pytest -q -m "ray and not accept" --numprocesses 2 --dist worksteal

test-fast: $(DEV) ## Run the tests that need neither Ray nor patience
	@$(BIN)/python -m pytest -q -m "not slow and not ray and not accept" --numprocesses 3 --dist loadfile

check: $(DEV) ## Lint, formatting, types and layers: what CI checks
	@$(BIN)/python -m ruff check --quiet .
	@$(BIN)/python -m ruff format --check --quiet .
	@$(BIN)/python -m mypy --no-error-summary
	@report=$$($(BIN)/lint-imports --no-logo 2>&1) || { echo "$$report"; exit 1; }

accept: $(DEV) ## Run the long acceptance runs
	@$(BIN)/python -m pytest tests -m accept

bench: $(BENCH) ## Run the benchmarks: half an hour on two quiet cores
	@$(BIN)/python -m benchmarks

mutants: $(DEV) ## Plant bugs and see that tests turn red
	@$(BIN)/python tests/mutants/run.py

clean: ## Remove what builds and tools leave behind (not .venv)
	@rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "aiecs-ray needs Python 3.11 to 3.13; say which: make PYTHON=python3.11")'
	@$(PYTHON) -m venv $(VENV)

$(DEMO): pyproject.toml | $(BIN)/pip
	@echo "Installing aiecs-ray[demo] into $(VENV); the first time takes a minute." >&2
	@$(PIP) install --editable '.[demo]'
	@touch $@

$(DEV): pyproject.toml | $(BIN)/pip
	@echo "Installing aiecs-ray[dev] into $(VENV); the first time takes a minute." >&2
	@$(PIP) install --editable '.[dev]'
	@touch $@ $(DEMO)

$(BENCH): pyproject.toml | $(BIN)/pip
	@echo "Installing aiecs-ray[bench] into $(VENV); the first time takes a minute." >&2
	@$(PIP) install --editable '.[bench]'
	@touch $@ $(DEMO)
