# make profile | make test : each sets up .venv on a fresh machine, then does its job.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help install profile test lint bench notebooks figures clean

help:  ## show the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,notebook]'
	@touch $@

install: $(VENV)/.installed  ## create .venv with everything in it

profile: install  ## profile the small default model: runs/smollm2-135m
	$(BIN)/kvlens profile smollm2-135m -o runs/smollm2-135m --overwrite

test: install  ## lint, type-check and run all tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

bench: install  ## the numbers of the README: recording cost and memory
	$(BIN)/kvlens bench smollm2-135m --record
	$(BIN)/kvlens bench smollm2-135m --memory --n 1000

notebooks: install  ## run the notebooks again and store their outputs
	$(BIN)/python tests/test_notebooks.py

figures: install  ## the paper's figures, from the saved results in figures/data: no model is needed
	$(BIN)/python figures/recipes.py figures/data figures

clean:  ## remove .venv and runs
	rm -rf $(VENV) runs
