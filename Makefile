# Everything that a fresh clone needs, on a machine with Python 3.11 and make and nothing else:
#
#   make theorems                        attack every guarantee and print the table (the main job)
#   make theorems ARGS="--profile full"  the same, with arguments for the command line
#   make test                            lint, types, import contracts, tests, documentation examples
#
# Each target sets up .venv by itself, once; it does so again when pyproject.toml or
# constraints.txt change. `make help` lists the targets.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

ARGS ?=
# One worker a core of a small machine; raise it on a large one: make test WORKERS=16
WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
VENV_LOWEST := .venv-lowest
PACKAGES := coresets nn proofs_check

export PIP_DISABLE_PIP_VERSION_CHECK = 1

# The main job needs less than the tests do, so it is set up with less.
RUN_EXTRAS := nn,proofs
ALL_EXTRAS := nn,proofs,frames,files,cli,dask,plots,docs,dev
# PyTorch is left out: old wheels of it bring CUDA libraries of gigabytes, and the engine has to
# work without it in any case.
LOWEST_EXTRAS := proofs,test

# The first interpreter that is new enough and can make virtual environments.
FIND_PYTHON = for python in $(PYTHON) python3.11 python3 python3.12 python3.13 python; do \
	  if "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
	  then break; fi; python=; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "error: no Python 3.11 or later with the modules venv and ensurepip was found;" >&2; \
	  echo "install it (on Debian: python3.11 and python3.11-venv) or name it: make PYTHON=/path/to/python3.11" >&2; \
	  exit 1; \
	fi

# $(call setup,directory,extras,constraints). A directory that this recipe left unfinished, or
# whose interpreter does not run, is made anew; any other one is brought up to date. The stamp is
# written by the caller, after the last command has succeeded.
define setup
	@if [ -e $(1)/.unfinished ] || \
	  ! $(1)/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || \
	  ! $(1)/bin/python -m pip --version >/dev/null 2>&1; then \
	  $(FIND_PYTHON); \
	  echo "creating $(1) with $$("$$python" --version)" >&2; \
	  "$$python" -m venv --clear $(1); \
	fi
	@touch $(1)/.unfinished
	@echo "installing the packages of $(3) into $(1); this takes some minutes the first time" >&2
	@$(1)/bin/python -m pip install --quiet --constraint $(3) --editable '.[$(2)]'
	@rm -f $(1)/.unfinished
endef

$(VENV)/.ready-run: pyproject.toml constraints.txt
	$(call setup,$(VENV),$(RUN_EXTRAS),constraints.txt)
	@touch $@

$(VENV)/.ready-all: pyproject.toml constraints.txt
	$(call setup,$(VENV),$(ALL_EXTRAS),constraints.txt)
	@touch $(VENV)/.ready-run $@

$(VENV_LOWEST)/.ready: pyproject.toml constraints-lowest.txt
	$(call setup,$(VENV_LOWEST),$(LOWEST_EXTRAS),constraints-lowest.txt)
	@touch $@

# Two test processes with threaded linear algebra each would fight for the cores.
TEST_ENVIRONMENT := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 MPLBACKEND=Agg

.PHONY: help theorems test setup lint types unit doctest docs bench test-lowest build clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do \
	  printf '  make %-12s %s\n' "$$name" "$$text"; done

theorems: $(VENV)/.ready-run ## attack every guarantee, print the table and write the report
	@$(BIN)/python -m proofs_check run $(ARGS)

test: lint types unit doctest docs ## everything that has to pass: the five targets below

setup: $(VENV)/.ready-all ## make .venv with all extras

lint: $(VENV)/.ready-all ## style, formatting and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.ready-all ## static types of the three packages
	$(BIN)/mypy

unit: $(VENV)/.ready-all ## the tests: make unit ARGS="-k tails"
	$(TEST_ENVIRONMENT) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

doctest: $(VENV)/.ready-all ## the examples of docstrings, README and documentation
	$(TEST_ENVIRONMENT) $(BIN)/python -m pytest --doctest-modules $(PACKAGES) README.md docs

docs: $(VENV)/.ready-all ## the documentation, in docs/_build/html
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

bench: $(VENV)/.ready-all ## the benchmarks, as ratios within one run
	@for file in benchmarks/bench_*.py; do name=$${file##*/}; \
	  echo "== $${name%.py}"; $(BIN)/python -m benchmarks.$${name%.py} $(ARGS) || exit 1; done

# Old versions warn about one another, which nobody can mend: warnings are not errors here.
test-lowest: $(VENV_LOWEST)/.ready ## the fast tests with the lowest supported versions
	$(TEST_ENVIRONMENT) $(VENV_LOWEST)/bin/python -m pytest -n $(WORKERS) --dist worksteal \
	  -m "not slow" -o filterwarnings=default --disable-warnings $(ARGS)

build: $(VENV)/.ready-all ## the source distribution and the wheel, in dist
	$(BIN)/python -m build --no-isolation

clean: ## remove what the targets made, the environments included
	rm -rf $(VENV) $(VENV_LOWEST) dist docs/_build docs/generated theorems-report \
	  .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
