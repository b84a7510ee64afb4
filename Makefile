# Everything a newcomer needs: `make` lists the targets.
.DEFAULT_GOAL := help
SHELL := bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# uv reads wheels beside the registry from UV_FIND_LINKS; pip calls the same setting PIP_FIND_LINKS.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
# One thread a process: spinning BLAS threads starve each other; work is spread over tasks instead.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1
export HF_HUB_OFFLINE ?= 1
export MLFLOW_DISABLE_TELEMETRY ?= true

.PHONY: help demo test check format bench docs screenshots audit clean constraints

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/uv:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), f"Foliocast needs Python 3.11 or newer, found {sys.version.split()[0]}; set PYTHON=python3.11"'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q "uv>=0.5"

$(VENV)/.core: pyproject.toml constraints.txt | $(BIN)/uv
	$(BIN)/uv pip install -q --python $(BIN)/python -e . -c constraints.txt
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/uv
	$(BIN)/uv pip install -q --python $(BIN)/python -e '.[dev,docs,app,track,instruments,explain,tune]' -c constraints.txt
	@touch $@ $(VENV)/.core

demo: $(VENV)/.core ## set up, then run the main job on the embedded sample (report in runs/)
	$(BIN)/foliocast backtest

test: $(VENV)/.dev ## set up, then run the whole test suite
	$(BIN)/python -m pytest $(if $(FOLIOCAST_DEV_DATA),,-m 'not devdata') $(PYTEST_ARGS)

check: $(VENV)/.dev ## format, lint, types, import floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev ## format and sort imports in place
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev ## timings as ratios against peers, each pair in one run
	@for bench in benchmarks/bench_*.py; do echo "== $$bench"; $(BIN)/python $$bench || exit 1; done

site: $(VENV)/.dev ## build the documentation site into site/, pictures and reference included
	$(BIN)/mkdocs build --strict --quiet

serve-docs: $(VENV)/.dev ## read the documentation site while writing it
	$(BIN)/mkdocs serve

dist: $(VENV)/.dev ## build the wheel and check that nothing is missing in it
	rm -rf dist && $(BIN)/uv build --quiet --wheel && $(BIN)/python scripts/check_wheel.py dist/*.whl

security: $(VENV)/.dev ## bandit over the source, pip-audit over the exact versions (the latter needs a network)
	$(BIN)/bandit -q -r src -c pyproject.toml
	$(BIN)/uv tool run pip-audit --no-deps --disable-pip -r constraints.txt

load: $(VENV)/.dev ## 200 clients on /predict for 30 seconds
	$(BIN)/python benchmarks/load_predict.py

track: $(VENV)/.dev ## MLflow's server and pages on SQLite, at port 8602
	$(BIN)/foliocast track serve

docs: $(VENV)/.dev ## run every code block of the documentation
	$(BIN)/python -m pytest tests/house/test_docs.py

screenshots: $(VENV)/.dev ## drive every page of the dashboard in a headless Chromium (pictures in screenshots/)
	@test -x $(VENV)/shots/bin/python || $(BIN)/uv venv -q --python $(BIN)/python $(VENV)/shots
	@$(BIN)/uv pip install -q --python $(VENV)/shots/bin/python 'playwright>=1.49'
	$(VENV)/shots/bin/python scripts/screenshots.py --app $(BIN)/foliocast --out screenshots

constraints: $(VENV)/.dev ## renew the exact versions in constraints.txt
	$(BIN)/uv pip compile --quiet --no-header --no-annotate --python-version 3.11 --all-extras pyproject.toml \
	  | sed -E 's/\+cpu//' > constraints.new && mv constraints.new constraints.txt

clean: ## remove the environment and caches (runs stay)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
