# Every target sets up what it needs in .venv first; all it asks for is Python and make.

PYTHON ?= $(shell for python in python3.11 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow check bench

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 20

demo: $(STAMP) ## search and train a Pareto front on handwritten digits, in minutes
	$(BIN)/paretoray run prunet_digits --dir runs/prunet_digits

test: $(STAMP) ## the tests that are quick
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(STAMP) ## the other tests
	$(BIN)/python -m pytest -m slow

check: $(STAMP) ## style, types and the floors' import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP) ## the side-by-side measurements
	@set -e; for file in $$(grep -l __main__ benchmarks/*.py); do echo "== $$file"; $(BIN)/python $$file; done

# The constraints pin every package, so that two installations are the same.
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/it"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[test,check]"
	@touch $@
