# Two commands set everything up: `make run` and `make test`. Everything else builds on them.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check -q

.PHONY: run test check lint types imports docs site base model results clean help

help:  ## This list.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

# torch first and pinned: a plain `torch` pulls gigabytes of CUDA packages.
$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt torch
	$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@

run: $(VENV)/.installed  ## Extract entities from sentences in eight languages with the shipped model.
	$(BIN)/python examples/eight_languages.py

test: $(VENV)/.installed-dev  ## All tests, offline, in two processes.
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

check: lint types imports  ## What must hold of the code besides its tests.

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check src tests recipes scripts examples benchmarks
	$(BIN)/ruff format --check src tests recipes scripts examples benchmarks

types: $(VENV)/.installed-dev
	$(BIN)/mypy

imports: $(VENV)/.installed-dev
	$(BIN)/lint-imports

docs: $(VENV)/.installed-dev  ## Write the generated parts of the documents anew, and the notebook.
	$(BIN)/python scripts/docs.py --write
	$(BIN)/python scripts/notebook.py --write

$(VENV)/.installed-docs: $(VENV)/.installed
	$(PIP) install -c constraints.txt -e '.[docs]'
	@touch $@

site: $(VENV)/.installed-docs  ## The documents and the Python reference as a site, in build/site; a broken link fails.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "read it: $(BIN)/python -m http.server --directory build/site"

$(VENV)/.installed-model: $(VENV)/.installed-dev
	$(PIP) install -c constraints.txt -e '.[train,model]'
	@touch $@

BACKBONE ?= intfloat/multilingual-e5-small
base: $(VENV)/.installed-model  ## Build base, resumable: make base PANX=DIR RUNNING=DIR LMTEXT=DIR [BACKBONE=DIR]
	$(BIN)/python -m recipes.build base --panx "$(PANX)" --running "$(RUNNING)" --lmtext "$(LMTEXT)" \
	  --backbone "$(BACKBONE)" --out runs/base

model: $(VENV)/.installed-model  ## Build mini, taught by base, resumable: make model PANX=DIR RUNNING=DIR LMTEXT=DIR
	$(BIN)/python -m recipes.build mini --panx "$(PANX)" --running "$(RUNNING)" --lmtext "$(LMTEXT)" --out runs/mini

results: $(VENV)/.installed-dev  ## Measure the shipped models on PAN-X test and write the tables anew: make results PANX=DIR
	for model in base mini; do $(BIN)/retrieveall evaluate "$(PANX)" --model $$model --limit 2000 --threads 1 \
	  -o benchmarks/results/panx-test-$$model.json || exit 1; done
	$(BIN)/python scripts/docs.py --write

clean:
	rm -rf $(VENV) build dist
