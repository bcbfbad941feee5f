# make profile | make test : each sets up .venv on a fresh machine, then does its job.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One thread a process: the tests run on PROCESSES processes side by side.
PROCESSES ?= auto
# Which of the tests of engines run; "engines and not slow" are those of CI.
ENGINES ?= engines
# Which tests `make check` runs.
CHECKED ?= tests/store tests/layers tests/test_contract.py tests/test_facade.py
# Of what `make torture` draws.
SEED ?= 0
# Whatever a machine says: tests start hundreds of processes, each of which would compile all modules.
export PYTHONDONTWRITEBYTECODE :=
PYTEST := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/pytest -n $(PROCESSES) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help install profile lint check test test-engines test-cuda coverage test-matrix test-tools test-wheel torture bench notebooks figures models docs clean

help:  ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[dev,docs,notebook]'
	@touch $@

install: $(VENV)/.installed  ## create .venv with everything in it

profile: install  ## profile the small default model: runs/smollm2-135m
	$(BIN)/kvlens profile smollm2-135m -o runs/smollm2-135m --overwrite

lint: install  ## style, docstrings, the floor plan, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

check: lint  ## lint, and the fast tests of rooms without a model; CHECKED="tests/methods" for other rooms
	$(PYTEST) -m "not slow and not real and not torture and not tools and not engines" $(CHECKED)

test: lint  ## lint, and every test; the 40 slowest are listed
	$(PYTEST) --durations=40

$(VENV)/.engines: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[ray,slurm]'
	@touch $@

test-engines: $(VENV)/.engines  ## Ray and datatrove on this machine: minutes; ENGINES="engines and not slow"
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/pytest -n 0 -m "$(ENGINES)" tests/engines

test-cuda: install  ## exactness on a GPU; all of it is skipped without one
	$(BIN)/pytest -n 0 -m cuda tests/cuda

coverage: install  ## the same, with the lines that no test runs; not in CI
	$(PYTEST) --cov=kvlens --cov-report=term:skip-covered

test-matrix: install  ## lowest and newest transformers and TransformerLens, in .matrix; not in CI
	$(BIN)/python tests/matrix.py $(PROCESSES)

test-tools: install  ## a saved encoder in LangChain, LlamaIndex, Chroma, BERTopic, in .tools; not in CI
	OMP_NUM_THREADS=1 $(BIN)/python tests/tools/environment.py

test-wheel: install  ## sdist and wheel, and the README's first screen in an empty environment; not in CI
	$(BIN)/python tests/wheel.py

torture: install  ## kills, full disks, damaged files, threads: half an hour; SEED=7 draws others
	$(BIN)/python tests/torture/run.py --seed $(SEED)

bench: install  ## numbers of docs/speed.md: recording cost and memory
	$(BIN)/kvlens bench smollm2-135m --record
	$(BIN)/kvlens bench smollm2-135m --memory --n 1000

notebooks: install  ## run the notebooks again and store their outputs
	$(BIN)/python tests/test_notebooks.py

figures: install  ## the paper's figures, from the saved results in figures/data: no model is needed
	$(BIN)/python figures/build.py

models: install  ## docs/models.md: what works on which family of models, found by running it
	OMP_NUM_THREADS=1 $(BIN)/python tests/models_page.py

docs: install  ## the documentation's site, strictly: .site/html
	$(BIN)/python docs/site/make_site.py

clean:  ## remove .venv, .matrix, .tools, .wheel, .site and runs
	rm -rf $(VENV) .matrix .tools .wheel .site runs
