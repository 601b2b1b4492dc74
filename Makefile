# distillpipe: `make help` lists what there is.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup quickstart test test-all lint types check clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup: .venv/installed ## make .venv with everything that tests and recipes need

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,openai]'
	@touch $@

quickstart: setup ## distil the shipped teacher into a student (STUDENT=qwen or llama), 6 minutes
	@$(MAKE) --no-print-directory -C recipes/quickstart

test: setup ## the default tests: CPU, offline, under two minutes
	$(BIN)/python -m pytest

test-all: setup ## the slow tests too
	$(BIN)/python -m pytest -m 'not vllm and not gpu and not network'

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

check: lint types test ## lint, types, tests

clean: ## remove the quickstart's runs and the environment, nothing else
	rm -rf runs/quickstart .venv
