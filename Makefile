# `make demo` and `make test` set everything up by themselves; `make` alone lists the targets.
PYTHON ?= python3.11
CORES ?= 2
BIN := .venv/bin
STAMP := .venv/installed

# One thread a process: jobs run side by side. Snakemake sets the same for its jobs from `threads:`.
export OMP_NUM_THREADS := 1
export PATH := $(CURDIR)/$(BIN):$(PATH)

# torch's CPU build on Linux machines without a GPU, from an index that is configured, else from PyTorch's own.
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)
CPU_BUILD := $(shell [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null && echo yes)

.PHONY: help demo test lint ui docs schemas backbones sources clean
help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile

demo: $(STAMP)  ## the whole chain at the mini scale: data, three runs, Table 1, report, MLflow store
	snakemake --cores $(CORES) all
	dvc status -q data.dvc
	git diff --exit-code data.dvc

test: $(STAMP)  ## unit tests first, the workflow end to end last
	pytest tests/unit tests/golden tests/workflow

lint: $(STAMP)  ## what pre-commit runs
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	mypy
	snakemake --lint

ui: $(STAMP)  ## browse the runs with MLflow
	mlflow ui --backend-store-uri sqlite:///mlflow.db

docs: $(STAMP)  ## pictures under docs/
	python -m parrot.docs

schemas: $(STAMP)  ## config/*.schema.json from the pydantic models
	python -m parrot.schemas

backbones: $(STAMP)  ## maintainers: pretrain the mini backbones
	pip install --quiet --constraint constraints.txt --editable '.[sources]'
	python -m parrot.backbones

sources: $(STAMP)  ## maintainers: draw the mini scale's pictures from their sources
	pip install --quiet --constraint constraints.txt --editable '.[sources]'
	python -m parrot.data.sources

clean:  ## remove results and everything derived; keeps .venv and data
	rm -rf results work logs benchmarks mlflow.db mlruns .snakemake

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
ifeq ($(CPU_BUILD),yes)
	$(BIN)/pip install --quiet --constraint constraints.txt torch==$(TORCH)+cpu || \
	$(BIN)/pip install --quiet --constraint constraints.txt torch==$(TORCH)+cpu \
	  --extra-index-url https://download.pytorch.org/whl/cpu
else
	$(BIN)/pip install --quiet --constraint constraints.txt torch==$(TORCH)
endif
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $(STAMP)
