# `make demo` and `make test` do all the set-up. They need Python 3.11 to 3.14 and make.
#
#   PYTHON       the interpreter to build the environment with (default: the first fit one found)
#   VENV         where the environment stands (default: .venv)
#   PYTEST_ARGS  more arguments for pytest, for example PYTEST_ARGS="tests/autodiff -x"

VENV ?= .venv
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null \
	&& { echo $$p; break; }; done)
PYTEST_ARGS ?=
BENCH_ARGS ?= --quick

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# Pictures go to files, with or without a screen.
MPLBACKEND ?= Agg
export MPLBACKEND

.DEFAULT_GOAL := help
.PHONY: help demo test slow lint format docs bench cuda clean
.DELETE_ON_ERROR:

help:
	@echo 'make demo    train a network on the handwritten digits and save a picture'
	@echo 'make test    run the tests'
	@echo 'make slow    run the slow tests'
	@echo 'make lint    check style, spelling, layering and types'
	@echo 'make format  let ruff rewrite what it can'
	@echo 'make docs    build the documentation and test its examples'
	@echo 'make bench   run every benchmark once'
	@echo 'make cuda    check and measure the kernels on the GPU of this machine'
	@echo 'make clean   remove what these commands made, the environment included'

# --- set-up: the environment once, each extra again whenever pyproject.toml changes ---

$(VENV)/.stamp-venv:
	@test -n "$(PYTHON)" || { echo 'No Python from 3.11 to 3.14 found; name one: make PYTHON=/path/to/python' >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' || { echo 'skdeep needs Python 3.11 to 3.14' >&2; exit 1; }
	"$(PYTHON)" -m venv --clear "$(VENV)"
	@touch "$@"

$(VENV)/.stamp-%: pyproject.toml $(VENV)/.stamp-venv
	$(PIP) install --editable ".[$*]"
	@touch "$@"

# --- what to do with it ---

# The demo draws, tabulates and shows progress; the extra of the tests has all that it needs.
demo: $(VENV)/.stamp-test
	$(BIN)/python examples/neural_network/demo_digits_mlp.py

# One process on purpose: the checks of import time and of a first fit want a machine to
# themselves.
test: $(VENV)/.stamp-test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

slow: $(VENV)/.stamp-test
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

# Every linter has its say before the target fails.
lint: $(VENV)/.stamp-dev
	@failed=; \
	for tool in "ruff check ." "ruff format --check ." "codespell ." "lint-imports" "mypy"; do \
		echo "$(BIN)/$$tool"; \
		$(BIN)/$$tool || failed="$$failed [$$tool]"; \
	done; \
	test -z "$$failed" || { echo "failed:$$failed" >&2; exit 1; }

format: $(VENV)/.stamp-dev
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

docs: $(VENV)/.stamp-docs
	$(BIN)/python -m sphinx -E -W --keep-going -b html docs docs/_build/html
	$(BIN)/python -m sphinx -E -W --keep-going -b doctest -D plot_gallery=0 docs docs/_build/doctest
	@echo 'docs/_build/html/index.html'

bench: $(VENV)/.stamp-dev
	cd asv_bench && "$(abspath $(BIN))/asv" machine --yes
	cd asv_bench && "$(abspath $(BIN))/asv" run --environment existing:"$(abspath $(BIN))/python" --show-stderr --dry-run $(BENCH_ARGS)

# Tests, the sanitizer, then the tables of docs/benchmarks.md: up to 20 minutes.
cuda: $(VENV)/.stamp-test $(VENV)/.stamp-cuda
	$(BIN)/python -m tests.cuda.on_device
	$(BIN)/python asv_bench/compare_cuda.py --write docs/benchmarks.md

clean:
	rm -rf "$(VENV)" build dist docs/_build docs/auto_examples docs/generated docs/sg_execution_times.rst
	rm -rf asv_bench/env asv_bench/results asv_bench/html
	rm -rf .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis .coverage htmlcov
	find . -path ./.git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +
