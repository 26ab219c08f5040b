# `make demo` and `make test` set everything up by themselves; `make` alone lists the targets.
PYTHON ?= python3.11
CORES ?= 2
BIN := .venv/bin
STAMP := .venv/installed
SDIST := .venv/sdist
COMMON := $(SDIST)/tests/test_modeling_common.py

# One thread a process: jobs run side by side. Snakemake sets the same for its jobs from `threads:`.
export OMP_NUM_THREADS := 1
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help demo test rehearsal rehearsal-killed test-demo test-distributed test-common test-lmms test-slurm lint bench ui docs docs-site schemas backbones sources data clean
help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile

demo: $(STAMP)  ## the whole chain at the mini scale: data, three runs, Table 1, report, MLflow store
	snakemake --cores $(CORES) all
	if [ -e .git ]; then dvc status -q data.dvc && git diff --exit-code data.dvc; \
	else echo "no git here: the data equals data.dvc, which itself has not been compared with a commit"; fi

test: $(STAMP)  ## unit and golden tests, two at a time, then the workflow end to end
	# A file's tests stay in one process, which trains or builds once what they share.
	pytest --numprocesses 2 --dist loadfile
	pytest tests/workflow

rehearsal: $(STAMP)  ## the paper's configuration from download to tables, on a miniature of its data
	pytest tests/rehearsal -m "not killed"

rehearsal-killed: $(STAMP)  ## the same, killed five times; minutes
	pytest tests/rehearsal -m killed

test-demo: $(STAMP) results/mini/scores.csv  ## what README says of the demo, on its results
	pytest tests/demo

test-distributed: $(STAMP)  ## training on two processes by every strategy, stopped, killed and resumed; minutes
	HF_HUB_OFFLINE=1 pytest tests/distributed

test-common: $(STAMP) $(COMMON)  ## transformers' own tests of every model, over ours
	HF_HUB_OFFLINE=1 pytest --override-ini strict_markers=false tests/common

test-lmms: .venv-lmms/installed results/mini/scores.csv  ## lmms-eval on the demo's model
	.venv-lmms/bin/python -m pytest tests/lmms

test-slurm: $(STAMP)  ## trainings and doctor on a Slurm cluster that it starts here; as root, with Debian's packages
	pytest tests/slurm

lint: $(STAMP)  ## what pre-commit runs
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	mypy
	lint-imports --no-logo --no-cache
	snakemake --lint

bench: $(STAMP)  ## step time and peak memory of a training step beside others'; a quarter of an hour, best on a quiet machine
	python -m tests.bench.model

ui: $(STAMP)  ## browse the runs with MLflow
	parrot track init  # an SQLite file that was moved learns where it is
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --backend-store-uri sqlite:///mlflow.db

docs: $(STAMP)  ## images under docs/
	python -m tools.docs

docs-site: $(STAMP)  ## the documentation as a site, in site/; strict: no dead link
	mkdocs build --strict

schemas: $(STAMP)  ## what is generated from the code: config/*.schema.json, config/README.md, docs/layers.svg
	python -m tools.schemas
	python -m tools.layers

backbones: $(STAMP)  ## maintainers: pretrain the mini backbones
	python -m parrot.mini.backbones

sources: $(STAMP)  ## maintainers: draw the mini scale's images from their sources
	pip install --quiet --constraint constraints.txt --editable '.[sources]'
	python -m parrot.mini.sources

data: $(STAMP)  ## maintainers: compose data/mini and renew its pin
	python -m parrot.mini.compose

clean:  ## remove results and everything derived; keeps .venv and data
	rm -rf results work logs benchmarks mlflow.db .mlflow.db.lock mlruns .snakemake

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	# First and alone, so that an index's CPU build, where there is one, is what everything else finds installed.
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test,docs]'
	touch $(STAMP)

# Only transformers' source package holds its tests.
$(COMMON): constraints.txt | $(STAMP)
	rm -rf $(SDIST)
	$(BIN)/pip download --quiet --constraint constraints.txt --no-deps --no-build-isolation --no-binary transformers \
		--dest $(SDIST) transformers
	tar --extract --touch --file $(SDIST)/transformers-*.tar.gz --directory $(SDIST) --strip-components 1 \
		--wildcards '*/tests'

results/mini/scores.csv:
	$(MAKE) demo

# lmms-eval has an environment of its own (its requirements say why), which finds everything else in .venv.
.venv-lmms/installed: tests/lmms/requirements.txt pyproject.toml $(STAMP)
	$(BIN)/python -m venv --without-pip .venv-lmms
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" > .venv-lmms/lib/python3.11/site-packages/venv.pth
	$(BIN)/pip --quiet --python .venv-lmms/bin/python install --no-deps --requirement tests/lmms/requirements.txt --editable .
	touch $@
