# `make demo` shows what tidalkin does, and `make test` checks it. Each installs everything that it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORES ?= all

# Snakemake calls the interpreter of its scripts without quotes.
ifneq ($(words $(CURDIR)),1)
$(error the folder '$(CURDIR)' has a space in its path, which Snakemake cannot handle: move it to a path without spaces)
endif

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-slurm check format docs page pins reference clean

help:  ## List the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | column -t -s "$$(printf '\t')"

$(VENV)/.installed: envs/requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "tidalkin needs Python 3.11 or newer; name yours with: make PYTHON=python3.12 demo" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r envs/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed envs/requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r envs/requirements-dev.txt
	@touch $@

demo: $(VENV)/.installed  ## Run the whole pipeline on a simulated survey (minutes), then list the pictures
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --cores $(CORES) --rerun-incomplete
	@echo; echo "Look at:"
	@ls results/demo/ranking.png results/demo/search/*/mosaic.png results/demo/encoder/*.png results/demo/evaluation/*.png
	@echo "The metrics are in results/demo/evaluation/metrics.csv. Then search: $(BIN)/tidalkin search --like 1937"

test: $(VENV)/.installed-dev check  ## Check style and types, run the tests (under 15 minutes on 2 cores)
	PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 pytest -n 2 --dist loadfile -m "not slow and not slurm"

test-slow: $(VENV)/.installed-dev  ## Run the whole-workflow, fault and soak tests
	PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 pytest -n 2 --dist loadfile -m "slow and not slurm"

test-slurm: $(VENV)/.installed-dev  ## Run the workflow on a real one-node SLURM (needs root, slurm-wlm and munge)
	PATH="$(CURDIR)/$(BIN):$$PATH" pytest -m slurm

check: $(VENV)/.installed-dev  ## Check style, types, imports and prose
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow/rules
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/codespell
	$(BIN)/python tests/prose.py
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --lint

format: $(VENV)/.installed-dev  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow/rules

docs: $(VENV)/.installed-dev  ## Build the documentation into build/docs; a warning is an error
	$(BIN)/sphinx-build -W --keep-going -q -b html docs build/docs
	@echo "Open build/docs/index.html"

page:  ## Build the explorer's page into the package (needs Node)
	cd explorer && npm ci --silent && npm run build

pins: $(VENV)/.installed-dev  ## Update the pinned environments in envs/ to new versions
	$(BIN)/python envs/pins.py

reference: $(VENV)/.installed  ## Update the tables of docs/reference and config/schema.json from the code
	$(BIN)/python -m tidalkin.config.reference > docs/reference/configuration.md
	$(BIN)/python -m tidalkin.config.schema > config/schema.json
	PYTHONPATH=tests $(BIN)/python -m surveys.reruns > docs/reference/reruns.md

clean:  ## Remove the environment and caches (never results)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
