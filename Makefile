# distillpipe: `make help` lists what there is.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup setup-vllm quickstart test test-all test-slow test-long test-reference test-vllm lint types \
	check clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup: .venv/installed ## make .venv with everything that tests and recipes need

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,openai]'
	@touch $@

setup-vllm: .venv-vllm/installed ## make .venv-vllm with vLLM for the CPU, for its tests

.venv-vllm/installed: pyproject.toml constraints-vllm.txt
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --no-deps --requirement constraints-vllm.txt
	.venv-vllm/bin/python -m pip install --quiet --no-deps --editable .
	@touch $@

quickstart: setup ## distil the shipped teacher into a student (STUDENT=qwen or llama), 6 minutes
	@$(MAKE) --no-print-directory -C recipes/quickstart

# Bytecode is kept whatever the environment says, or hundreds of processes would compile the same files again.
PYTEST = PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

test: setup ## the default tests: CPU, offline, two minutes
	$(PYTEST)

test-slow: setup ## what takes seconds to minutes a test, or kills real processes
	$(PYTEST) -m 'slow and not reference' --dist worksteal --durations 15

test-reference: setup ## what reads other people's data, in ../shared
	$(PYTEST) -m 'reference and not long' --durations 5

test-all: setup ## all of these
	$(PYTEST) -m 'not long and not vllm and not gpu and not network' --dist worksteal

test-long: setup ## what takes many minutes: fuzz with millions of calls; run before an issue is closed
	$(PYTEST) -m 'long and not vllm' --dist worksteal

test-vllm: setup-vllm ## the tests of the vllm engine, with vLLM on the CPU
	PYTHONDONTWRITEBYTECODE= .venv-vllm/bin/python -m pytest -n 2 --dist loadfile -m 'vllm and not long' \
		--durations 10 tests/engines

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

check: lint types test ## lint, types, tests

clean: ## remove the quickstart's runs and the environments, nothing else
	rm -rf runs/quickstart .venv .venv-vllm
